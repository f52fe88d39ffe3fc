import CDriver
import CLinux
import Glibc

/// A command-line tool that a driver uses. It runs without a shell, in the C locale, with an empty standard input.
public struct Tool: Sendable {
    /// The output and the exit status of a tool.
    public struct Answer: Sendable {
        public let status: Int32
        public let output: String
        public let errors: String
        /// The last line of its standard error, or its status.
        public var complaint: String {
            let lines = errors.split(whereSeparator: \.isNewline).map(String.init).filter { !$0.isEmpty }
            return lines.last?.trimmed ?? "it ended with status \(status)"
        }
    }

    private let name: String
    private let environment: [String]

    public init(_ name: String, environment: [String] = []) {
        self.name = name
        self.environment = environment
    }

    /// Runs the tool and waits for its end.
    ///
    /// - Throws: RETRY if it takes longer than `timeout` seconds; then it is killed.
    public func run(_ arguments: [String], timeout: Int = 120) throws -> Answer {
        var pipes: [Int32] = [-1, -1, -1, -1]
        for index in [0, 2] {
            let made = pipes.withUnsafeMutableBufferPointer { pipe2($0.baseAddress! + index, O_CLOEXEC) }
            guard made == 0 else { throw DriverError.last(CLINKER_RETRY, "cannot make a pipe") }
        }
        defer { for descriptor in pipes where descriptor >= 0 { close(descriptor) } }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1)
        posix_spawn_file_actions_adddup2(&actions, pipes[3], 2)
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        var pid = pid_t()
        let argv = ([name] + arguments).map { strdup($0) } + [nil]
        let envp = (["LC_ALL=C", path] + environment).map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        let spawned = posix_spawnp(&pid, name, &actions, nil, argv, envp)
        guard spawned == 0 else {
            throw DriverError(
                spawned == ENOENT ? CLINKER_BAD_CONFIGURATION : CLINKER_RETRY, "cannot run \(name)", errno: spawned)
        }
        for index in [1, 3] {
            close(pipes[index])
            pipes[index] = -1
        }
        let (output, errors, isInTime) = Self.collect(pipes[0], pipes[2], timeout: timeout)
        if !isInTime { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard isInTime else { throw DriverError(CLINKER_RETRY, "\(name) did not end within \(timeout) seconds") }
        let code = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F
        return Answer(status: code, output: output, errors: errors)
    }

    private static func collect(_ output: Int32, _ errors: Int32, timeout: Int) -> (String, String, Bool) {
        var texts: [[UInt8]] = [[], []]
        var watched = [pollfd(fd: output, events: Int16(POLLIN), revents: 0), pollfd(fd: errors, events: Int16(POLLIN), revents: 0)]
        let limit = time(nil) + timeout
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while watched.contains(where: { $0.fd >= 0 }) {
            guard time(nil) < limit else { return ("", "", false) }
            poll(&watched, 2, 1000)
            for index in 0..<2 where watched[index].fd >= 0 && watched[index].revents != 0 {
                let count = read(watched[index].fd, &buffer, buffer.count)
                if count > 0 { texts[index] += buffer.prefix(count) } else if count == 0 || errno != EINTR { watched[index].fd = -1 }
            }
        }
        return (String(decoding: texts[0], as: UTF8.self), String(decoding: texts[1], as: UTF8.self), true)
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace ?? false { text.removeFirst() }
        while text.last?.isWhitespace ?? false { text.removeLast() }
        return String(text)
    }
}
