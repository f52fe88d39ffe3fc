import Glibc
import Primitives

/// Commands that serve until a signal ends them.
enum SignalWait {
    /// Before any thread starts: they are for the one that waits for them.
    static func blockSignals() -> sigset_t {
        signal(SIGPIPE, SIG_IGN)
        var set = sigset_t()
        sigemptyset(&set)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        return set
    }

    /// Ends the serving at a signal: what the client wrote is flushed and the socket removed. A driver that does not come to an end
    /// meanwhile is not waited for at a second signal, nor for longer than some seconds.
    static func onSignal(_ signals: sigset_t, end: @escaping @Sendable () -> Void, _ socket: String) {
        startThread("signals") {
            var signals = signals
            var signal: Int32 = 0
            while sigwait(&signals, &signal) != 0 {}
            end()
            var patience = timespec(tv_sec: 10, tv_nsec: 0)
            while sigtimedwait(&signals, nil, &patience) < 0, errno == EINTR {}
            unlink(socket)
            _exit(1)
        }
    }
}
