import Glibc
import Primitives

/// Lines as datagrams to a socket of this machine. Nobody waits for its reader: what the socket does not take is kept, up to a bound,
/// and offered again before the next line and at every flush. Beyond the bound new lines are dropped and counted, and how many is said
/// there as soon as somebody reads again.
final class DatagramOutput: LogOutput {
    private struct State {
        var descriptor: Int32 = -1
        var waiting: [[UInt8]] = []
        var waitingBytes = 0
        var lost = 0
        /// Of those, what the reader was not yet told.
        var untold = 0
        /// The socket is not asked for again before.
        var nextConnection = 0.0
        var isOutageTold = false
    }

    /// Lines that are kept for a reader that is slow or away, and their bytes.
    static let mostWaiting = (records: 2048, bytes: 1 << 20)
    private let path: String
    private let form: DatagramForm
    private let state = Guarded(State())

    init(path: String, form: DatagramForm) {
        self.path = path
        self.form = form
    }

    deinit {
        let descriptor = state.withLock { $0.descriptor }
        if descriptor >= 0 { close(descriptor) }
    }

    var lost: Int { state.withLock { $0.lost } }

    func write(_ record: LogRecord) {
        let datagram = form.datagram(record)
        state.withLock { state in
            if state.waiting.count >= Self.mostWaiting.records || state.waitingBytes + datagram.count > Self.mostWaiting.bytes {
                offer(&state)
            }
            if state.waiting.count >= Self.mostWaiting.records || state.waitingBytes + datagram.count > Self.mostWaiting.bytes {
                state.lost += 1
                state.untold += 1
                return
            }
            state.waiting.append(datagram)
            state.waitingBytes += datagram.count
            offer(&state)
        }
    }

    func gather(_ record: LogRecord) { write(record) }

    func reopen() {}

    /// Gives a reader that lives a moment to take what waits.
    func flush() {
        let limit = Timestamp.monotonic() + 0.2
        while true {
            let (left, descriptor) = state.withLock { state -> (Int, Int32) in
                offer(&state)
                return (state.waiting.count, state.descriptor)
            }
            guard left > 0, descriptor >= 0, Timestamp.monotonic() < limit else { return }
            var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            poll(&ready, 1, 20)
        }
    }

    /// Sends what waits, as far as the socket takes it.
    private func offer(_ state: inout State) {
        var sent = 0
        var isBroken = false
        defer {
            state.waitingBytes -= state.waiting[..<sent].reduce(0) { $0 + $1.count }
            state.waiting.removeFirst(sent)
        }
        while true {
            if sent == state.waiting.count {
                guard state.untold > 0 else { return }
                state.waiting.append(form.notice("\(state.untold) lines of the log were dropped: nobody took them at \(path)"))
                state.waitingBytes += state.waiting[sent].count
                state.untold = 0
            }
            guard state.descriptor >= 0 || connect(&state) else { return }
            switch send(state.waiting[sent], state.descriptor) {
            case 0: sent += 1
            case EMSGSIZE:  // the socket never takes this one
                sent += 1
                state.lost += 1
                state.untold += 1
            case EAGAIN, ENOBUFS, ENOMEM: return
            case EINTR: continue
            default:  // its reader ended: perhaps another listens there by now
                close(state.descriptor)
                state.descriptor = -1
                if isBroken { return }
                isBroken = true
                state.nextConnection = 0
            }
        }
    }

    private func send(_ datagram: [UInt8], _ descriptor: Int32) -> Int32 {
        datagram.withUnsafeBytes { bytes in
            let count = Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
            return count >= 0 ? 0 : errno
        }
    }

    /// Finds the socket's reader; asked for at most ten times a second.
    private func connect(_ state: inout State) -> Bool {
        let now = Timestamp.monotonic()
        guard now >= state.nextConnection else { return false }
        state.nextConnection = now + 0.1
        var address = sockaddr_un()
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            tellOutage(&state, ENAMETOOLONG)
            return false
        }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        var code = errno
        if descriptor >= 0 {
            let status = withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            code = errno
            if status == 0 {
                state.descriptor = descriptor
                state.isOutageTold = false
                return true
            }
            close(descriptor)
        }
        tellOutage(&state, code)
        return false
    }

    /// Once for each time that nobody listens: on the standard error output, where the log may go nowhere else.
    private func tellOutage(_ state: inout State, _ code: Int32) {
        guard !state.isOutageTold else { return }
        state.isOutageTold = true
        var ready = pollfd(fd: 2, events: Int16(POLLOUT), revents: 0)
        guard poll(&ready, 1, 0) == 1, ready.revents & Int16(POLLOUT) != 0 else { return }
        writeError(
            "clinker: \(SystemError(code, "the log cannot be written to the socket \(path)")); the last \(Self.mostWaiting.records) lines at most are kept for it"
        )
    }
}
