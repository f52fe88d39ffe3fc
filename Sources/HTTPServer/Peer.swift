import Glibc

/// The other end of a connected socket.
enum Peer {
    /// POLLRDHUP, which is Linux's alone, and which Glibc hides.
    private static let closing: Int16 = 0x2000

    /// Whether it has gone, or will say nothing more.
    static func hasClosed(_ descriptor: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: closing, revents: 0)
        return poll(&entry, 1, 0) > 0 && Int32(entry.revents) & (Int32(closing) | POLLHUP | POLLERR | POLLNVAL) != 0
    }
}
