import Glibc

/// TCP on 127.0.0.1, as raw as tests need it.
public enum Loopback {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
        public init(description: String) { self.description = description }
    }

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    private static func socket() throws -> Int32 {
        let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(description: "no socket: \(String(cString: strerror(errno)))") }
        return descriptor
    }

    /// A listening socket on a free port; the caller closes it.
    public static func listen() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = try socket()
        var address = address(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && Glibc.listen(descriptor, 64) == 0 ? getsockname(descriptor, pointer, &length) : -1
            }
        }
        guard status == 0 else {
            close(descriptor)
            throw Failure(description: "cannot listen: \(String(cString: strerror(errno)))")
        }
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    /// A port that was free a moment ago.
    public static func freePort() throws -> UInt16 {
        let (descriptor, port) = try listen()
        close(descriptor)
        return port
    }

    /// A connected socket; the caller closes it. `own` is the last number of the address that it comes from.
    public static func connect(_ port: UInt16, from own: UInt8 = 1) throws -> Int32 {
        let descriptor = try socket()
        if own != 1 {
            var source = address(0)
            source.sin_addr.s_addr = (UInt32(0x7F00_0000) | UInt32(own)).bigEndian
            _ = withUnsafePointer(to: &source) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        }
        var address = address(port)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            close(descriptor)
            throw Failure(description: "connection refused")
        }
        return descriptor
    }

    /// A socket connected to one in the file system; the caller closes it.
    public static func connect(path: String) throws -> Int32 {
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0 else {
            close(descriptor)
            throw Failure(description: "connection refused")
        }
        return descriptor
    }

    /// Sends everything; false if the other end went first.
    @discardableResult
    public static func send(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// Reads until the other end closes or is silent for that many milliseconds (negative: for ever).
    public static func receive(_ descriptor: Int32, silence: Int = -1) -> (bytes: [UInt8], isClosed: Bool) {
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, Int32(silence)) > 0 else { return (received, false) }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { return (received, true) }
            received += buffer[..<count]
        }
    }

    /// Sends bytes on a new connection and reads what comes back.
    public static func exchange(_ port: UInt16, _ bytes: [UInt8], silence: Int = -1) throws -> [UInt8] {
        let descriptor = try connect(port)
        defer { close(descriptor) }
        send(descriptor, bytes)
        return receive(descriptor, silence: silence).bytes
    }
}
