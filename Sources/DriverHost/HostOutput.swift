import CLinux
import Glibc
import Logging
import Primitives

/// Reads the standard output and error of a driver host and of the programs that it starts, and logs them as lines of the backend.
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
                let failure = SystemError.last("cannot make a pipe")
                for stream in streams {
                    close(stream.mine)
                    close(stream.theirs)
                }
                throw failure
            }
            // Only our end is non-blocking; programs expect a blocking one.
            _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
            streams.append(Stream(mine: ends[0], theirs: ends[1], target: target, level: level))
        }
        self.streams = streams
    }

    deinit { for stream in streams { close(stream.mine) } }

    /// The child's descriptors.
    package var descriptors: [(source: Int32, target: Int32)] { streams.map { ($0.theirs, $0.target) } }

    package func closeTheirs() { for stream in streams { close(stream.theirs) } }

    /// Reads lines until every writer has closed its end: a program that outlives its host must not die of SIGPIPE.
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

    /// False at the end of the stream.
    private static func drain(_ descriptor: Int32, _ rest: inout [UInt8], _ tell: (String) -> Void) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 16_384)
        // A constant writer must not starve the other stream.
        for _ in 0..<16 {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
            rest += chunk[..<count]
            while let end = rest.firstIndex(of: 10) {
                if end > 0 { tell(DriverLimits.cut(rest[..<end], to: DriverLimits.line)) }
                rest.removeFirst(end + 1)
            }
            // A line that is too long.
            if rest.count > 4 * DriverLimits.line {
                tell(DriverLimits.cut(rest, to: DriverLimits.line))
                rest = []
            }
        }
        return true
    }
}
