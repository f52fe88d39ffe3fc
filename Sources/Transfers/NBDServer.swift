import CDriver
public import DriverHost
import Glibc
import Primitives

/// Serves the bytes of a device over NBD (github.com/NetworkBlockDevice/nbd, doc/proto.md): the protocol of
/// qemu-img and qemu-nbd. Fixed newstyle negotiation; structured replies and `base:allocation` if the client asks for them, so that
/// holes are kept. One client at a time, unless the device may be read by several threads.
public struct NBDServer {
    let handle: any NBDDevice
    let isWritable: Bool
    let size: UInt64
    /// What a client must call the export; nil: whatever it likes.
    let exportName: String?
    private let sockets = Guarded(Sockets())

    /// What is to be shut down where the serving is to end.
    private struct Sockets {
        var open: [Int32] = []
        var isEnding = false
    }

    public init(_ handle: Driver.Handle, writable: Bool) throws { try self.init(device: handle, writable: writable) }

    init(device: any NBDDevice, writable: Bool, exportName: String? = nil) throws {
        handle = device
        isWritable = writable
        size = try device.size
        self.exportName = exportName
    }

    /// Serves clients of a listening socket one after the other; returns when `clients` (0: endless) have come and gone, or when it is
    /// to end.
    public func serve(_ listener: Int32, clients: Int = 0) {
        if let device = handle as? any SharedNBDDevice { return serve(listener, device) }
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

    /// Serves clients beside each other; returns when it is to end and all of them are gone.
    private func serve(_ listener: Int32, _ device: any SharedNBDDevice) {
        guard begin(listener) else { return }
        defer { forget(listener) }
        let places = Semaphore(device.clientLimit)
        while true {
            places.wait()
            let descriptor = accept4(listener)
            let code = errno
            if descriptor < 0 {
                places.post()
                if code == EINTR || code == ECONNABORTED { continue }
                break
            }
            guard begin(descriptor) else {
                close(descriptor)
                places.post()
                continue
            }
            let client = Unchecked(self)
            startThread("nbd-client") {
                client.value.serve(client: descriptor)
                client.value.forget(descriptor)
                close(descriptor)
                places.post()
            }
        }
        for _ in 0..<device.clientLimit { places.wait() }
    }

    /// Servers of devices that several threads may use.
    private struct Unchecked: @unchecked Sendable {
        let value: NBDServer
        init(_ value: NBDServer) { self.value = value }
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
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(largest), alignment: 4096)
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
