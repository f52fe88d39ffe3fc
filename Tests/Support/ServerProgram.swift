import Glibc
import Primitives
import Processes

/// A program of the tests that serves until its standard input ends: with this object, or with the tests, whatever becomes of them.
public final class ServerProgram: Sendable {
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    /// Our end of its input.
    private let lifeline: Int32

    /// Starts it, and waits until it serves.
    ///
    /// - Parameters:
    ///   - name: what it is called where it does not start.
    ///   - command: the program and its arguments.
    ///   - directory: where its output goes.
    ///   - ready: the file there that it makes when it serves; `mode`: what may then be done with that (`access(2)`).
    ///   - seconds: that this may take.
    public init(
        _ name: String, _ command: [String], in directory: String, ready: String = "ready", mode: Int32 = F_OK, seconds: Double = 180
    ) throws {
        let output = open(directory + "/output", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(output) }
        let (mine, theirs) = try socketPair()
        lifeline = mine
        defer { close(theirs) }
        let pid = try spawn(
            command[0], Array(command.dropFirst()),
            descriptors: [(source: theirs, target: 0), (source: output, target: 1), (source: output, target: 2)])
        let limit = Timestamp.monotonic() + seconds
        while access("\(directory)/\(ready)", mode) != 0 {
            var status: Int32 = 0
            guard Timestamp.monotonic() < limit, waitpid(pid, &status, WNOHANG) == 0 else {
                throw Failure(description: "\(name) did not start: \(Self.end(of: directory + "/output"))")
            }
            usleep(20_000)
        }
    }

    deinit { close(lifeline) }

    /// The last words of a file.
    private static func end(of path: String) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 3000)
        let size = lseek(file, 0, SEEK_END)
        let count = pread(file, &bytes, bytes.count, max(0, size - off_t(bytes.count)))
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}
