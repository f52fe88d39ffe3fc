import CMicroHTTPD
import Glibc
import Primitives

/// Carries a stream's content through libmicrohttpd, piece by piece, where the connection cannot be taken over: with TLS, libmicrohttpd
/// owns the session. While there is nothing to send the connection is suspended.
final class LibraryPipe: @unchecked Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var sent = 0
        /// What libmicrohttpd's content reader returns once everything is sent.
        var end: Int?
        var isSuspended = false
        /// Whether the writer has more than the pipe takes.
        var isAwaited = false
    }

    /// Bytes beyond which the writer waits.
    private static let capacity = 16 * 1024

    private let state = Guarded(State())
    private let connection: OpaquePointer
    /// Called when the pipe has room again, or its connection is closed; set before it is used.
    @exclusivity(unchecked) var onChange: @Sendable () -> Void = {}

    init(_ connection: OpaquePointer) { self.connection = connection }

    /// Appends bytes; false if there is no room for them now, and `onChange` is called when there is.
    func put(_ bytes: UnsafeRawBufferPointer) -> Bool {
        state.withLock { state in
            guard state.bytes.count - state.sent < Self.capacity else {
                state.isAwaited = true
                return false
            }
            state.bytes.removeFirst(state.sent)
            state.sent = 0
            state.bytes.append(contentsOf: bytes)
            resume(&state)
            return true
        }
    }

    /// Ends the response.
    ///
    /// - Parameter isBroken: whether the client must not take it for whole, or has gone.
    func finish(isBroken: Bool) {
        state.withLock { state in
            guard state.end == nil else { return }
            state.end = isBroken ? -2 : -1
            if isBroken { state.bytes = [] }
            resume(&state)
        }
    }

    /// Whether the connection is closed, or is about to be.
    var isEnded: Bool { state.withLock { $0.end != nil } }

    /// The connection is closed: it must not be touched any more.
    func closed() {
        state.withLock { state in
            state.end = -2
            state.isSuspended = false
        }
        onChange()
    }

    /// libmicrohttpd's content reader.
    func read(into buffer: UnsafeMutablePointer<CChar>, atMost most: Int) -> Int {
        let (count, isAwaited) = state.withLock { state -> (Int, Bool) in
            let count = min(most, state.bytes.count - state.sent)
            if count > 0 {
                state.bytes.withUnsafeBytes { _ = memcpy(buffer, $0.baseAddress! + state.sent, count) }
                state.sent += count
                defer { state.isAwaited = false }
                return (count, state.isAwaited)
            }
            if let end = state.end { return (end, false) }
            state.bytes = []
            state.sent = 0
            state.isSuspended = true
            MHD_suspend_connection(connection)
            return (0, false)
        }
        if isAwaited { onChange() }
        return count
    }

    private func resume(_ state: inout State) {
        guard state.isSuspended else { return }
        state.isSuspended = false
        MHD_resume_connection(connection)
    }
}
