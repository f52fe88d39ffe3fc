import CLinux
import CMicroHTTPD  // Also declares the flags of recv: under whole-module optimization they may be resolved through it.
import Glibc
import Primitives

/// Connections that were closed while their clients may still be sending. Closing a socket with unread data resets its connection, and a
/// reset discards a response that the client has not read yet (RFC 9112, 9.6). So another descriptor of such a socket stays open here after
/// the response and the end of the stream were sent: what still arrives is dropped until the client closes its end, within limits.
final class LingeringClose: Sendable {
    private struct Socket {
        /// Bytes that may still be dropped.
        var rest: Int
        let deadline: Double
    }

    private struct State {
        var open: [Int32: Socket] = [:]
        var isEnding = false
    }

    /// Sockets that linger at a time; further ones are closed at once.
    private static let most = 256
    /// Seconds that a client has for closing its end.
    private static let seconds = 10.0
    private static let pieceSize = 64 << 10

    private let state = Guarded(State())
    private let poll: Poll
    private let limit: Int
    private let ended = Semaphore()

    /// - Parameter limit: bytes that are dropped from one client.
    init(limit: Int) throws(SystemError) {
        self.limit = limit
        poll = try Poll("the HTTP server could not be started")
        startThread("http-linger") { [self] in serve() }
    }

    /// Keeps the connection of a socket that its owner is about to close, and to whose client everything has been sent.
    func keep(_ descriptor: Int32) {
        let own = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard own >= 0 else { return }
        let isKept = state.withLock { state in
            guard !state.isEnding, state.open.count < Self.most else { return false }
            guard poll.add(own, EPOLLIN.rawValue) else { return false }
            state.open[own] = Socket(rest: limit, deadline: Timestamp.monotonic() + Self.seconds)
            // With TLS its owner ends the session only, and relies on close for the end of the stream.
            shutdown(own, Int32(SHUT_WR))
            return true
        }
        if !isKept { close(own) }
    }

    /// Closes the sockets whose time is over.
    func sweep(at now: Double = Timestamp.monotonic()) {
        state.withLock { state in
            for (descriptor, socket) in state.open where socket.deadline <= now { Self.end(descriptor, &state) }
        }
    }

    /// Closes every socket and ends the thread.
    func stop() {
        state.withLock { state in
            state.isEnding = true
            for descriptor in state.open.keys { Self.end(descriptor, &state) }
        }
        poll.ring()
        ended.wait()
    }

    private static func end(_ descriptor: Int32, _ state: inout State) {
        state.open[descriptor] = nil
        close(descriptor)
    }

    private func serve() {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceSize, alignment: 16)
        defer { buffer.deallocate() }
        var isEnding = false
        while !isEnding {
            poll.wait(&events) { event in state.withLock { Self.drop(event.data.fd, buffer, &$0) } }
            isEnding = state.withLock { $0.isEnding }
        }
        ended.post()
    }

    /// Drops what a socket has received. The lock is held: a descriptor that was closed meanwhile may be another connection's.
    private static func drop(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer, _ state: inout State) {
        guard let socket = state.open[descriptor] else { return }
        let count = recv(descriptor, buffer.baseAddress, min(socket.rest, buffer.count), Int32(MSG_DONTWAIT))
        let code = errno
        if count > 0, count < socket.rest {
            state.open[descriptor]?.rest -= count
        } else if count >= 0 || (code != EAGAIN && code != EINTR) {
            end(descriptor, &state)
        }
    }
}
