import Glibc
public import Logging

/// The log: renders records and hands every line to all its outputs. Lines of the application are written at once; access lines are
/// gathered and written at least every 100 ms.
public final class LogSink: Sendable {
    public enum Format: String, Sendable { case keyValue = "text", json }

    public let format: Format
    private let outputs: [any LogOutput]
    public let levels = LogLevels()

    /// Whether all loggers write records of level debug; may change while they are in use.
    public var isDebug: Bool {
        get { levels.common == .debug }
        set { levels.common = newValue ? .debug : .info }
    }

    public init(descriptor: Int32 = 2, format: Format = .keyValue) {
        self.format = format
        outputs = [DescriptorOutput(descriptor)]
    }

    /// Throws the system's message for what cannot be opened. A socket that nobody listens on is none: it is tried again and again.
    public init(_ destinations: [LogDestination], format: Format) throws(SystemError) {
        self.format = format
        var outputs: [any LogOutput] = []
        for destination in destinations { outputs.append(try destination.open(format: format)) }
        self.outputs = outputs
    }

    /// Opens files by their names again: after somebody moved the old ones away.
    public func reopen() throws(SystemError) { for output in outputs { try output.reopen() } }

    /// Writes gathered lines from a thread of its own for as long as the process lives.
    public func startFlushing() {
        startThread("log") { [self] in
            while true {
                usleep(100_000)
                flush()
            }
        }
    }

    /// Gathers a finished line (with its newline) that tells of a request.
    public func gather(_ line: UnsafeBufferPointer<UInt8>, requestID: String) {
        let record = LogRecord(line: line, level: .info, logger: "api", requestID: requestID)
        for output in outputs { output.gather(record) }
    }

    func write(_ line: String, level: Logger.Level, logger: String, requestID: String?) {
        var line = line
        line.withUTF8 { bytes in
            let record = LogRecord(line: bytes, level: level, logger: logger, requestID: requestID)
            for output in outputs { output.write(record) }
        }
    }

    public func flush() { for output in outputs { output.flush() } }

    /// Lines that an output could not take and dropped.
    public var lost: Int { outputs.reduce(0) { $0 + $1.lost } }

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
                format: sink.format, level: event.level.rawValue, label: label, message: event.message.description, pairs: pairs),
            level: event.level, logger: label, requestID: all["request_id"]?.description)
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
