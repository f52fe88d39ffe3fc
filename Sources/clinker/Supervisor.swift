import CLinux
import Glibc
import Logging
import Observability
import Primitives
import Processes
import Settings

/// Holds the listening socket and the lock of the state directory, starts the core and restarts it when it dies. It
/// does nothing else, so that it does not crash. While the core is away, connections queue on the socket.
final class Supervisor {
    private let options: ConfigurationOptions
    private let settings: Settings
    private let stateDirectory: String
    private let socket: Int32
    private let lock: Int32
    private let log: Logger
    private let logSink: LogSink
    private let drainTimeout: Int

    /// Checks everything that can be checked before anything runs.
    ///
    /// - Throws: all problems, one line each.
    init(options: ConfigurationOptions, insecureNoAuth: Bool) throws {
        self.options = options
        settings = try options.settings()
        let (problems, judged) = ConfigurationCheck.examine(options, settings, insecureNoAuth: insecureNoAuth)
        guard problems.isEmpty, let endpoint = judged else { throw SettingsError(problems) }
        logSink = try CoreProcess.logSink(settings)
        log = logSink.logger("supervisor")
        for warning in settings.warnings { log.warning("\(warning)") }
        drainTimeout = settings[Options.service.drainTimeout]
        stateDirectory = try options.openStateDirectory(settings)
        lock = try Supervisor.takeLock(stateDirectory)
        socket = try endpoint.listen()
    }

    func run() throws -> Never {
        Supervisor.raiseDescriptorLimit()
        _ = clinker_become_subreaper()
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)

        var stopping = false
        var stopDeadline = 0.0
        var pause = 0.0
        var restarts = 0
        var core = try startCore(restarts: restarts)
        var startedAt = Timestamp.monotonic()
        while true {
            var wait = timespec(tv_sec: 1, tv_nsec: 0)
            let signal = sigtimedwait(&signals, nil, &wait)
            logSink.flush()
            switch signal {
            case SIGTERM, SIGINT:
                if !stopping {
                    stopping = true
                    stopDeadline = Timestamp.monotonic() + Double(drainTimeout) + 10
                    log.info("stopping: running requests are finished, what is left goes on at the next start")
                    kill(core.pid, SIGTERM)
                }
            case SIGHUP:
                try? logSink.reopen()
                kill(core.pid, SIGHUP)
            default: break
            }
            if stopping, Timestamp.monotonic() > stopDeadline { kill(core.pid, SIGKILL) }
            guard let status = reapChildren()[core.pid] else { continue }
            close(core.control)
            let exited = status & 0x7F == 0 ? status >> 8 & 0xFF : -1
            // Errors that a restart cannot solve.
            let isFinal = exited == Exit.configuration || exited == Exit.unavailable
            if stopping || isFinal {
                awaitChildren(within: 10)
                exit(stopping ? 0 : exited)
            }
            log.error("the core ended with \(describe(exit: status)): it is started again")
            pause = Timestamp.monotonic() - startedAt > 1 ? 0 : min(max(pause * 2, 0.02), 0.2)
            usleep(UInt32(pause * 1e6))
            restarts += 1
            core = try startCore(restarts: restarts)
            startedAt = Timestamp.monotonic()
        }
    }

    private func startCore(restarts: Int) throws -> (pid: pid_t, control: Int32) {
        let (mine, theirs) = try socketPair()
        defer { close(theirs) }
        var arguments = ["core", "--state-dir", stateDirectory, "--restarts", "\(restarts)"]
        for file in options.files { arguments += ["--config", file] }
        let pid = try spawn(
            executablePath(), arguments,
            descriptors: [
                (source: socket, target: CoreProcess.socketDescriptor), (source: theirs, target: CoreProcess.controlDescriptor),
                (source: lock, target: CoreProcess.lockDescriptor),
            ], newGroup: true)
        return (pid, mine)
    }

    /// Reaps dead children; returns their wait statuses by PID.
    @discardableResult
    private func reapChildren() -> [pid_t: Int32] {
        var ended: [pid_t: Int32] = [:]
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { return ended }
            ended[pid] = status
        }
    }

    /// Waits until the orphans of the core have ended, which they do when their connection closes. A process that hangs in the kernel is left
    /// behind; in the next service its backend waits for its end.
    private func awaitChildren(within seconds: Double) {
        let limit = Timestamp.monotonic() + seconds
        while Timestamp.monotonic() < limit {
            reapChildren()
            guard waitpid(-1, nil, WNOHANG) == 0 else { return }
            usleep(2_000)
        }
    }

    // MARK: preparation

    /// Raises the soft limit of descriptors to the hard limit, for this process and its children.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(resource, &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(resource, &limit)
    }

    /// Takes the lock of the state directory. The descriptor is inherited by the core, so the lock is free only when both are dead.
    static func takeLock(_ directory: String) throws -> Int32 {
        let path = directory + "/lock"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SystemError.last("the lock \(path) cannot be opened")
        }
        let limit = Timestamp.monotonic() + 10
        var hasTold = false
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK else {
                throw SystemError.last("the lock \(path) cannot be taken")
            }
            guard Timestamp.monotonic() < limit else {
                throw SettingsError(["another clinker uses the state directory \(directory): stop it, or name another with --state-dir"])
            }
            if !hasTold { writeError("clinker: another clinker uses the state directory \(directory): its end is awaited for 10 s") }
            hasTold = true
            usleep(50_000)
        }
        return descriptor
    }
}
