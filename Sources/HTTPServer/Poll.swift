import CLinux
import Glibc
import Primitives

/// The sockets that one thread waits for, and a bell by which others wake it.
final class Poll: Sendable {
    private let descriptor: Int32
    private let bell: Int32

    /// - Parameter failure: what cannot be started if the system refuses, for the error.
    init(_ failure: String) throws(SystemError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw SystemError.last(failure) }
        bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard bell >= 0 else {
            // All properties have values: deinit closes the descriptor.
            throw SystemError.last(failure)
        }
        _ = add(bell, EPOLLIN.rawValue)
    }

    deinit {
        close(descriptor)
        close(bell)
    }

    /// Waits for the socket's events, too, until it is closed; false if the system refuses.
    func add(_ socket: Int32, _ events: UInt32) -> Bool {
        var interest = epoll_event(events: events, data: epoll_data_t(fd: socket))
        return epoll_ctl(descriptor, EPOLL_CTL_ADD, socket, &interest) == 0
    }

    /// Waits for the descriptor's events no longer.
    func remove(_ socket: Int32) {
        var interest = epoll_event()
        _ = epoll_ctl(descriptor, EPOLL_CTL_DEL, socket, &interest)
    }

    /// Wakes the thread that waits, or that waits next.
    func ring() {
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    /// Waits for events, or only looks for them, and hands them out; the bell's is none.
    func wait(_ events: inout [epoll_event], looksOnly: Bool = false, _ handle: (epoll_event) -> Void) {
        let count = max(0, epoll_wait(descriptor, &events, Int32(events.count), looksOnly ? 0 : -1))
        for event in events[..<Int(count)] where event.data.fd != bell { handle(event) }
        var rung: UInt64 = 0
        _ = read(bell, &rung, 8)
    }
}
