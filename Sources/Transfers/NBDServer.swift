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
        /// Of clients that have not said yet what they want, oldest first.
        var negotiating: [Int32] = []
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

    /// Seconds that a client has to say what it wants.
    private static let negotiationTime = 10.0
    /// Clients that may be about to: with one more the oldest is hung up on. Those that are served have places of their own.
    private static let mostNegotiating = 16

    /// Serves clients beside each other; returns when it is to end and all of them are gone.
    private func serve(_ listener: Int32, _ device: any SharedNBDDevice) {
        guard begin(listener) else { return }
        defer { forget(listener) }
        let places = Semaphore(device.clientLimit)
        // Also of clients that were just hung up on, and of those that wait for a place.
        let most = UInt32(2 * Self.mostNegotiating)
        let threads = Semaphore(most)
        while true {
            threads.wait()
            let descriptor = accept4(listener)
            let code = errno
            if descriptor < 0 {
                threads.post()
                if code == EINTR || code == ECONNABORTED { continue }
                break
            }
            guard begin(descriptor) else {
                close(descriptor)
                threads.post()
                continue
            }
            beginNegotiation(descriptor)
            let client = Unchecked(self)
            startThread("nbd-client") { client.value.serve(descriptor, places, threads) }
        }
        for _ in 0..<most { threads.wait() }
        for _ in 0..<device.clientLimit { places.wait() }
    }

    /// Serves one client on its thread: it holds no place before it has said what it wants, and that it may.
    private func serve(_ descriptor: Int32, _ places: Primitives.Semaphore, _ threads: Primitives.Semaphore) {
        var connection = Connection(descriptor: descriptor, server: self)
        let isAdmitted = (try? connection.negotiate(within: Self.negotiationTime)) ?? false
        endNegotiation(descriptor)
        if isAdmitted { places.wait() }
        threads.post()
        if isAdmitted { transmit(&connection) }
        forget(descriptor)
        close(descriptor)
        if isAdmitted { places.post() }
    }

    private func transmit(_ connection: inout Connection) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(largest), alignment: 4096)
        defer { buffer.deallocate() }
        connection.buffer = buffer
        try? connection.transmit()
        try? handle.flush()
    }

    private func beginNegotiation(_ descriptor: Int32) {
        sockets.withLock { sockets in
            if sockets.negotiating.count >= Self.mostNegotiating { shutdown(sockets.negotiating.removeFirst(), Int32(SHUT_RDWR)) }
            sockets.negotiating.append(descriptor)
        }
    }

    private func endNegotiation(_ descriptor: Int32) { sockets.withLock { $0.negotiating.removeAll { $0 == descriptor } } }

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

    /// Serves one client until it goes, or breaks the protocol. `isOurs`: a process of ours, which is waited for as long as it lives.
    public func serve(client descriptor: Int32, isOurs: Bool = false) {
        var connection = Connection(descriptor: descriptor, server: self)
        if (try? connection.negotiate(within: isOurs ? nil : Self.negotiationTime)) ?? false { transmit(&connection) }
    }

    private func accept4(_ listener: Int32) -> Int32 {
        let descriptor = accept(listener, nil, nil)
        if descriptor >= 0 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        return descriptor
    }
}
