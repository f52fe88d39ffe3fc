import CLinux
import Glibc
import Logging
import Primitives

/// What a driver host, its driver and the programs that they start write to their standard output and error: lines for the log of
/// the backend.
package final class HostOutput: Sendable {
    private struct Stream: Sendable {
        let mine, theirs: Int32
        let target: Int32
        let level: Logger.Level
    }

    private let streams: [Stream]

    package init() throws(SystemError) {
        var streams: [Stream] = []
        for (target, level) in [(1, .info), (2, .warning)] as [(Int32, Logger.Level)] {
            var ends: [Int32] = [0, 0]
            guard pipe2(&ends, O_CLOEXEC) == 0 else {
                let code = errno
                for stream in streams {
                    close(stream.mine)
                    close(stream.theirs)
                }
                throw SystemError(code, "cannot make a pipe")
            }
            // The writer's end stays as programs expect it.
            _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
            streams.append(Stream(mine: ends[0], theirs: ends[1], target: target, level: level))
        }
        self.streams = streams
    }

    deinit { for stream in streams { close(stream.mine) } }

    /// For the child.
    package var descriptors: [(source: Int32, target: Int32)] { streams.map { ($0.theirs, $0.target) } }

    package func closeTheirs() { for stream in streams { close(stream.theirs) } }

    /// Hands on every line for as long as somebody may write one: a program that outlives its host is not to die of what it says.
    package func follow(_ tell: @escaping @Sendable (String, Logger.Level) -> Void) {
        startThread("host-output") { [self] in
            let gate = LineGate()
            var rests = streams.map { _ in [UInt8]() }
            var waiting = streams.map { pollfd(fd: $0.mine, events: Int16(POLLIN), revents: 0) }
            while waiting.contains(where: { $0.fd >= 0 }) {
                poll(&waiting, nfds_t(waiting.count), -1)
                for (index, stream) in streams.enumerated() where waiting[index].fd >= 0 {
                    let isOpen = Self.drain(stream.mine, &rests[index]) { line in
                        gate.pass(line) { line, isNotice in tell(line, isNotice ? .warning : stream.level) }
                    }
                    if !isOpen { waiting[index].fd = -1 }
                }
            }
            for (index, stream) in streams.enumerated() where !rests[index].isEmpty {
                tell(DriverLimits.cut(rests[index], to: DriverLimits.line), stream.level)
            }
        }
    }

    /// False at the stream's end.
    private static func drain(_ descriptor: Int32, _ rest: inout [UInt8], _ tell: (String) -> Void) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 16_384)
        // Who writes on and on must not keep the other stream waiting.
        for _ in 0..<16 {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
            rest += chunk[..<count]
            while let end = rest.firstIndex(of: 10) {
                if end > 0 { tell(DriverLimits.cut(rest[..<end], to: DriverLimits.line)) }
                rest.removeFirst(end + 1)
            }
            // A line without an end.
            if rest.count > 4 * DriverLimits.line {
                tell(DriverLimits.cut(rest, to: DriverLimits.line))
                rest = []
            }
        }
        return true
    }
}
