import CLinux
import Glibc
public import Logging

/// Where log lines go: one descriptor, one writer. Lines of the application are written at once; access lines are
/// gathered and written at least every 100 ms.
public final class LogSink: Sendable {
    public enum Format: String, Sendable { case keyValue = "text", json }

    public let format: Format
    private let descriptor: Int32
    private let path: String?
    private let buffer = Guarded<[UInt8]>([])
    /// Held by the thread that writes; the value is the buffer that is not gathered into.
    private let writing = Guarded<[UInt8]>([])
    public let levels = LogLevels()

    /// Whether all loggers write records of level debug; may change while they are in use.
    public var isDebug: Bool {
        get { levels.common == .debug }
        set { levels.common = newValue ? .debug : .info }
    }

    public init(descriptor: Int32 = 2, format: Format = .keyValue) {
        self.descriptor = descriptor
        self.format = format
        path = nil
    }

    /// Opens a file for appending. Throws the system's message.
    public init(path: String, format: Format) throws(SystemError) {
        descriptor = try Self.open(path)
        self.path = path
        self.format = format
    }

    private static func open(_ path: String) throws(SystemError) -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else {
            let code = errno
            throw SystemError(code, "cannot open the log file \(path)")
        }
        return descriptor
    }

    /// Opens the file by its name again: after somebody moved the old one away.
    public func reopen() throws(SystemError) {
        guard let path else { return }
        let fresh = try Self.open(path)
        flush()
        dup3(fresh, descriptor, O_CLOEXEC)
        close(fresh)
    }

    /// Writes gathered lines from a thread of its own for as long as the process lives.
    public func startFlushing() {
        startThread("log") { [self] in
            while true {
                usleep(100_000)
                flush()
            }
        }
    }

    /// Gathers a finished line (with its newline).
    public func gather(_ line: UnsafeBufferPointer<UInt8>) {
        let full = buffer.withLock { buffer in
            buffer.append(contentsOf: line)
            return buffer.count > 1 << 16
        }
        // Whoever writes already takes these lines with the next piece.
        if full { _ = writing.withLockIfAvailable { drain(&$0) } }
    }

    public func write(_ line: String) {
        writing.withLock { spare in
            buffer.withLock { $0.append(contentsOf: line.utf8) }
            drain(&spare)
        }
    }

    public func flush() { writing.withLock { drain(&$0) } }

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

    /// A logger that writes here, at the level of the sink.
    public func logger(_ label: String) -> Logger {
        Logger(label: label) { LineLogHandler(label: $0, sink: self, level: levels.level($0)) }
    }
}

/// An operating system error, with its text.
public struct SystemError: Error, CustomStringConvertible, Sendable {
    public let code: Int32
    public let what: String
    /// Takes errno's value as it was when the caller read it.
    public init(_ code: Int32, _ what: String) {
        self.code = code
        self.what = what
    }
    public var description: String { "\(what): \(String(cString: strerror(code)))" }
}

/// One line a record: `time LEVEL label message key=value ...`, or a JSON object.
struct LineLogHandler: LogHandler {
    let label: String
    let sink: LogSink
    let level: LogLevels.Level
    var metadata: Logger.Metadata = [:]

    /// The logger's own, wherever it was copied to.
    var logLevel: Logger.Level {
        get { level.value }
        set { _ = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        if let more = event.metadata { all.merge(more) { $1 } }
        let pairs = all.map { (key: $0.key, value: $0.value.description) }.sorted { $0.key < $1.key }
        sink.write(
            LogLine.render(
                format: sink.format, level: event.level.rawValue, label: label, message: event.message.description, pairs: pairs))
    }
}

/// Renders log lines.
public enum LogLine {
    public static func render(format: LogSink.Format, level: String, label: String, message: String, pairs: [(key: String, value: String)])
        -> String
    {
        let time = Timestamp.now()
        switch format {
        case .keyValue:
            var line = "\(time) \(level.uppercased()) \(label) \(clean(message))"
            for pair in pairs { line += " \(pair.key)=\(quoted(pair.value))" }
            return line + "\n"
        case .json:
            var line = "{\"time\":\"\(time)Z\",\"level\":\"\(level)\",\"logger\":\(json(label)),\"message\":\(json(message))"
            for pair in pairs { line += ",\(json(pair.key)):\(json(pair.value))" }
            return line + "}\n"
        }
    }

    /// A value as it stands behind `key=`: quoted if it holds a space, a quote or a control character.
    static func quoted(_ value: String) -> String {
        let plain = value.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=") && $0 != 0x7F }
        return plain && !value.isEmpty && !hasHidden(value) ? value : json(value)
    }

    /// Nobody writes a second line into the log through a message.
    static func clean(_ message: String) -> String {
        guard message.utf8.contains(where: { $0 < 0x20 || $0 >= 0x7F }) else { return message }
        var out = String.UnicodeScalarView()
        for scalar in message.unicodeScalars {
            if scalar.value < 0x20 {
                out.append(" ")
            } else if isHidden(scalar) {
                out += escape(scalar).unicodeScalars
            } else {
                out.append(scalar)
            }
        }
        return String(out)
    }

    /// What a terminal or a viewer obeys instead of showing it: DEL and the C1 controls, line and paragraph separators, and
    /// marks that turn the direction of what follows.
    static func isHidden(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x7F...0x9F, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }

    private static func hasHidden(_ text: String) -> Bool {
        text.utf8.contains { $0 >= 0x7F } && text.unicodeScalars.contains { isHidden($0) }
    }

    private static func escape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        return "\\u" + String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    }

    static func json(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            default:
                if scalar.value < 0x20 || isHidden(scalar) {
                    out += escape(scalar)
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }
}
