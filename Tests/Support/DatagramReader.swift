import Glibc

/// A socket of datagrams with a path, as a log daemon listens on one.
public final class DatagramReader: @unchecked Sendable {
    public let path: String
    private let descriptor: Int32

    public init(_ path: String) {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        precondition(status == 0, "cannot bind \(path)")
    }

    /// The next datagram; nil if none comes within the time.
    public func next(within milliseconds: Int32 = 20_000) -> String? {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, milliseconds) == 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 1 << 17)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// The next datagram that holds the text.
    public func first(with text: String) -> String? {
        while let datagram = next() { if datagram.contains(text) { return datagram } }
        return nil
    }

    /// Ends, and leaves nothing at its path.
    public func end() {
        close(descriptor)
        unlink(path)
    }
}
