import Glibc
import Primitives

/// Process-wide state that a driver must not change, since others run in the same process.
struct ProcessState {
    private let mask: mode_t
    private let directory: String
    private let environment: [String]
    private let signals: [String]

    static func now() -> ProcessState { ProcessState() }

    private init() {
        mask = umask(0)
        umask(mask)
        var buffer = [CChar](repeating: 0, count: 4096)
        directory = getcwd(&buffer, buffer.count).map { String(cString: $0) } ?? ""
        var environment: [String] = []
        var next = environ
        while let entry = next.pointee {
            environment.append(String(cString: entry))
            next += 1
        }
        self.environment = environment.sorted()
        signals = Self.watched.map { signal in
            var action = sigaction()
            sigaction(signal.number, nil, &action)
            let handler = action.__sigaction_handler.sa_handler
            return "\(unsafeBitCast(handler, to: UInt.self))"
        }
    }

    private static let watched: [(name: String, number: Int32)] = [
        ("SIGTERM", SIGTERM), ("SIGINT", SIGINT), ("SIGHUP", SIGHUP), ("SIGCHLD", SIGCHLD), ("SIGALRM", SIGALRM), ("SIGSEGV", SIGSEGV),
    ]

    /// What was changed; nil if nothing was.
    func difference(to now: ProcessState) -> String? {
        if now.mask != mask { return "the umask of the process became \(String(now.mask, radix: 8))" }
        if now.directory != directory { return "the working directory of the process became \(now.directory)" }
        if now.environment != environment {
            let changed = Set(now.environment).symmetricDifference(environment).map { $0.prefix { $0 != "=" } }
            return "the environment of the process changed: \(Set(changed).sorted().joined(separator: ", "))"
        }
        for (index, signal) in Self.watched.enumerated() where now.signals[index] != signals[index] {
            return "the process' handler of \(signal.name) was changed"
        }
        return nil
    }

    /// Child processes that still run, or were not reaped, after the driver was closed.
    static func remainingChild() -> String? {
        var info = siginfo_t()
        guard waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 else { return nil }
        return info._sifields._kill.si_pid == 0
            ? "a program that the driver started runs on after close" : "nobody waited for the end of a program that the driver started"
    }
}

/// Captures the standard output, which belongs to the program.
struct StandardOutput {
    private let file: Int32

    init?() {
        var template = Array("/tmp/clinker-output-XXXXXX".utf8CString)
        file = mkstemp(&template)
        guard file >= 0 else { return nil }
        _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        unlink(template)
        dup2(file, 1)
    }

    /// The beginning of the captured output; nil if there is none.
    var words: String? {
        fflush(nil)
        var bytes = [UInt8](repeating: 0, count: 200)
        let count = pread(file, &bytes, bytes.count, 0)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").first.map(String.init) ?? "" : nil
    }
}
