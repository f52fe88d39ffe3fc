import CLinux
import Glibc
import Logging
import Primitives

/// One line of the log, and what a system's log keeps apart of it.
struct LogRecord {
    /// Begins with its time and ends with its newline; holds no other control character.
    let line: UnsafeBufferPointer<UInt8>
    let level: Logger.Level
    let logger: String
    let requestID: String?
}

/// A place where lines of the log go. None of its calls waits for a reader without a bound.
protocol LogOutput: Sendable {
    /// Takes a line that should be seen at once.
    func write(_ record: LogRecord)
    /// Takes a line that may be written later, together with others.
    func gather(_ record: LogRecord)
    func flush()
    /// Opens what has a name by its name again.
    func reopen() throws(SystemError)
    /// Lines that were dropped.
    var lost: Int { get }
}

/// Where a log is to go.
public enum LogDestination: Sendable {
    case descriptor(Int32)
    /// A file, opened for appending.
    case file(String)
    /// The system's log daemon, by the path of its socket.
    case syslog(socket: String, LogFacility)
    /// systemd's journal, by the path of its socket.
    case journal(socket: String, LogFacility)

    public static let syslogSocket = "/dev/log"
    public static let journalSocket = "/run/systemd/journal/socket"

    func open(format: LogSink.Format) throws(SystemError) -> any LogOutput {
        switch self {
        case .descriptor(let descriptor): DescriptorOutput(descriptor)
        case .file(let path): try DescriptorOutput(path: path)
        case .syslog(let socket, let facility):
            DatagramOutput(path: socket, form: DatagramForm(reader: .syslog, facility: facility, format: format))
        case .journal(let socket, let facility):
            DatagramOutput(path: socket, form: DatagramForm(reader: .journal, facility: facility, format: format))
        }
    }
}

/// Lines into a descriptor. Those that are gathered are written with the next that is not, when there are many, and by `flush`.
final class DescriptorOutput: LogOutput {
    private let descriptor: Int32
    private let path: String?
    private let buffer = Guarded<[UInt8]>([])
    /// Held by the thread that writes; the value is the buffer that is not gathered into.
    private let writing = Guarded<[UInt8]>([])

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        path = nil
    }

    init(path: String) throws(SystemError) {
        descriptor = try Self.open(path)
        self.path = path
    }

    private static func open(_ path: String) throws(SystemError) -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else {
            throw SystemError.last("cannot open the log file \(path)")
        }
        return descriptor
    }

    var lost: Int { 0 }

    func reopen() throws(SystemError) {
        guard let path else { return }
        let fresh = try Self.open(path)
        flush()
        dup3(fresh, descriptor, O_CLOEXEC)
        close(fresh)
    }

    func gather(_ record: LogRecord) {
        let full = buffer.withLock { buffer in
            buffer.append(contentsOf: record.line)
            return buffer.count > 1 << 16
        }
        // Whoever writes already takes these lines with the next piece.
        if full { _ = writing.withLockIfAvailable { drain(&$0) } }
    }

    func write(_ record: LogRecord) {
        writing.withLock { spare in
            buffer.withLock { $0.append(contentsOf: record.line) }
            drain(&spare)
        }
    }

    func flush() { writing.withLock { drain(&$0) } }

    /// Writes what is gathered, under the writing lock only: other threads go on gathering into the spare buffer.
    private func drain(_ spare: inout [UInt8]) {
        buffer.withLock { swap(&$0, &spare) }
        guard !spare.isEmpty else { return }
        spare.withUnsafeBytes { raw in
            var written = 0
            while written < raw.count {
                let count = Glibc.write(descriptor, raw.baseAddress! + written, raw.count - written)
                if count >= 0 {
                    written += count
                } else if errno != EINTR {
                    return  // a log that cannot be written must not stop the service
                }
            }
        }
        spare.removeAll(keepingCapacity: true)
    }
}
