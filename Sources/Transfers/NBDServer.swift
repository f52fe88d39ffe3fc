import CDriver
public import DriverHost
import Glibc
import Primitives

/// Serves the bytes of a block handle over NBD (github.com/NetworkBlockDevice/nbd, doc/proto.md): the protocol of
/// qemu-img and qemu-nbd. Fixed newstyle negotiation; structured replies and `base:allocation` if the client asks for them, so that
/// holes are kept. One client at a time, since a handle is used by one thread.
public struct NBDServer {
    let handle: Driver.Handle
    let isWritable: Bool
    let size: UInt64
    private let sockets = Guarded(Sockets())

    /// What is to be shut down where the serving is to end.
    private struct Sockets {
        var open: [Int32] = []
        var isEnding = false
    }

    public init(_ handle: Driver.Handle, writable: Bool) throws {
        self.handle = handle
        isWritable = writable
        size = try handle.size
    }

    /// Serves clients of a listening socket one after the other; returns when `clients` (0: endless) have come and gone, or when it is
    /// to end.
    public func serve(_ listener: Int32, clients: Int = 0) {
        var served = 0
        guard begin(listener) else { return }
        defer { forget(listener) }
        while clients == 0 || served < clients {
            let descriptor = accept4(listener)
            if descriptor < 0 { if errno == EINTR || errno == ECONNABORTED { continue } else { return } }
            if begin(descriptor) {
                serve(client: descriptor)
                forget(descriptor)
            }
            close(descriptor)
            served += 1
        }
    }

    /// What lets no client begin any more and hangs up on the one that is served, from any thread: `serve` returns.
    public var end: @Sendable () -> Void {
        { [sockets] in
            sockets.withLock { sockets in
                sockets.isEnding = true
                for descriptor in sockets.open { shutdown(descriptor, Int32(SHUT_RDWR)) }
            }
        }
    }

    private func begin(_ descriptor: Int32) -> Bool {
        sockets.withLock { sockets in
            if !sockets.isEnding { sockets.open.append(descriptor) }
            return !sockets.isEnding
        }
    }

    /// Before it is closed: its number may be another's then.
    private func forget(_ descriptor: Int32) { sockets.withLock { $0.open.removeAll { $0 == descriptor } } }

    /// Serves one client until it goes, or breaks the protocol.
    public func serve(client descriptor: Int32) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(Self.largest), alignment: 4096)
        defer { buffer.deallocate() }
        var connection = Connection(descriptor: descriptor, server: self, buffer: buffer)
        do {
            if try connection.negotiate() { try connection.transmit() }
        } catch {}
        try? handle.flush()
    }

    private func accept4(_ listener: Int32) -> Int32 {
        let descriptor = accept(listener, nil, nil)
        if descriptor >= 0 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        return descriptor
    }
}
