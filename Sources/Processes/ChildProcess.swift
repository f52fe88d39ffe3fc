public import Glibc
public import Primitives

/// Starts a program with `posix_spawn` (never a bare `fork`, since other threads may hold locks). Signals are reset to their defaults.
///
/// - Parameters:
///   - executable: the program's path.
///   - arguments: its arguments, without the name.
///   - descriptors: the descriptors that the child gets besides 0, 1 and 2, each with its number in the child.
///   - newGroup: whether the child becomes the leader of a new process group.
///   - environment: `NAME=value` of each variable; nil for this process's own.
/// - Returns: the child's PID.
public func spawn(
    _ executable: String, _ arguments: [String], descriptors: [(source: Int32, target: Int32)], newGroup: Bool = false,
    environment: [String]? = nil
) throws(SystemError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Duplicates above all target numbers, so that no dup2 below overwrites a source that is still needed.
    let beyond = (descriptors.map(\.target).max() ?? 2) + 1
    var copies: [Int32] = []
    defer { for copy in copies { close(copy) } }
    for (source, target) in descriptors {
        let copy = fcntl(source, F_DUPFD_CLOEXEC, beyond)
        if copy < 0 {
            throw SystemError.last("cannot pass a descriptor to \(executable)")
        }
        copies.append(copy)
        posix_spawn_file_actions_adddup2(&actions, copy, target)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var reset = sigset_t()
    sigemptyset(&reset)
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD] { sigaddset(&reset, signal) }
    posix_spawnattr_setsigdefault(&attributes, &reset)
    var flags = Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)
    if newGroup {
        posix_spawnattr_setpgroup(&attributes, 0)
        flags |= Int32(POSIX_SPAWN_SETPGROUP)
    }
    posix_spawnattr_setflags(&attributes, Int16(flags))
    var argv: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) } + [nil]
    defer { for argument in argv { free(argument) } }
    var pid = pid_t()
    var variables: [UnsafeMutablePointer<CChar>?] = (environment ?? []).map { strdup($0) } + [nil]
    defer { for variable in variables { free(variable) } }
    let status =
        environment == nil
        ? posix_spawn(&pid, executable, &actions, &attributes, &argv, environ)
        : posix_spawn(&pid, executable, &actions, &attributes, &argv, &variables)
    guard status == 0 else { throw SystemError(status, "cannot start \(executable)") }
    return pid
}

/// Waits for a child's end and reaps it; returns its wait status.
@discardableResult
public func reap(_ pid: pid_t) -> Int32 {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return status
}

/// Waits for a child's end without reaping it, so that its PID is not reused yet.
public func awaitEnd(of pid: pid_t) {
    var info = siginfo_t()
    while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
}

/// Describes a wait status: `exit status 1`, `signal 9 (Killed)`.
public func describe(exit status: Int32) -> String {
    let signal = status & 0x7F
    return signal == 0 ? "exit status \(status >> 8 & 0xFF)" : "signal \(signal) (\(String(cString: strsignal(signal))))"
}

/// The path of the running program.
public func executablePath() -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    guard count > 0 else { return CommandLine.arguments[0] }
    return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A connected pair of close-on-exec stream sockets.
public func socketPair() throws(SystemError) -> (Int32, Int32) {
    var pair: [Int32] = [0, 0]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
        throw SystemError.last("cannot make a socket pair")
    }
    return (pair[0], pair[1])
}
