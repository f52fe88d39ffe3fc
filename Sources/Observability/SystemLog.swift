import Glibc
import Logging
import Primitives

/// The part of the system that a line is told to come from, as syslog numbers it.
public struct LogFacility: Sendable {
    let code: Int

    private static let codes: [(name: String, code: Int)] =
        [
            (name: "LOG_USER", code: 1), (name: "LOG_MAIL", code: 2), (name: "LOG_DAEMON", code: 3), (name: "LOG_AUTH", code: 4),
            (name: "LOG_SYSLOG", code: 5), (name: "LOG_LPR", code: 6), (name: "LOG_NEWS", code: 7), (name: "LOG_UUCP", code: 8),
            (name: "LOG_CRON", code: 9), (name: "LOG_AUTHPRIV", code: 10), (name: "LOG_FTP", code: 11),
        ] + (0...7).map { (name: "LOG_LOCAL\($0)", code: 16 + $0) }

    public static let names = codes.map(\.name)

    /// By its name, in letters of either case, with or without its LOG_.
    public init?(_ name: String) {
        let given = name.uppercased()
        guard let found = Self.codes.first(where: { $0.name == given || $0.name == "LOG_" + given }) else { return nil }
        code = found.code
    }

    public static let user = LogFacility(code: 1)

    private init(code: Int) { self.code = code }
}

/// How a line becomes a datagram for one of the system's logs.
struct DatagramForm: Sendable {
    enum Reader: Sendable { case syslog, journal }

    let reader: Reader
    let facility: LogFacility
    let format: LogSink.Format

    func datagram(_ record: LogRecord) -> [UInt8] {
        switch reader {
        case .syslog: syslogDatagram(record)
        case .journal: journalDatagram(record)
        }
    }

    /// The same, of a line that the output itself has to say.
    func notice(_ text: String) -> [UInt8] {
        var line = LogLine.render(format: .keyValue, level: "warning", label: "log", message: text, pairs: [])
        return line.withUTF8 { datagram(LogRecord(line: $0, level: .warning, logger: "log", requestID: nil)) }
    }

    /// `<30>Nov 29 22:47:00 clinker[7]: text`: what RFC 3164 describes without the name of the machine, as programs write it to the log
    /// daemon of their own machine.
    private func syslogDatagram(_ record: LogRecord) -> [UInt8] {
        var out = Array("<\(facility.code << 3 | record.level.severity)>\(Self.time()) clinker[\(getpid())]: ".utf8)
        // Daemons cut what is longer than 8 KiB.
        out.append(text: record, format, atMost: 8_000)
        return out
    }

    /// Local time, as the RFC has it: the daemon shows it as it is.
    private static func time() -> String {
        var now = time_t()
        Glibc.time(&now)
        var parts = tm()
        localtime_r(&now, &parts)
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ value: Int32, _ filler: String = "0") -> String { value < 10 ? "\(filler)\(value)" : "\(value)" }
        return "\(months[Int(min(max(parts.tm_mon, 0), 11))]) \(two(parts.tm_mday, " ")) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
    }

    /// The journal's own protocol: a field in each line. The names are those by which oslo.log's users search.
    private func journalDatagram(_ record: LogRecord) -> [UInt8] {
        var out = Array("MESSAGE=".utf8)
        out.append(text: record, format, atMost: 48_000)
        var fields =
            "\nPRIORITY=\(record.level.severity)\nSYSLOG_FACILITY=\(facility.code)\nSYSLOG_IDENTIFIER=clinker\nSYSLOG_PID=\(getpid())"
        fields += "\nLOGGER_NAME=clinker.\(record.logger)\nLOGGER_LEVEL=\(record.level.rawValue.uppercased())"
        // A field's value ends with its line.
        if let id = record.requestID { fields += "\nREQUEST_ID=\(LogLine.clean(id))" }
        out += Array((fields + "\n").utf8)
        return out
    }
}

extension Logger.Level {
    /// As syslog numbers it.
    fileprivate var severity: Int {
        switch self {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}

extension [UInt8] {
    /// Appends the line without its newline, and without its time where that stands apart: the log has its own. What is cut is said.
    fileprivate mutating func append(text record: LogRecord, _ format: LogSink.Format, atMost limit: Int) {
        var text = record.line[...]
        if text.last == UInt8(ascii: "\n") { text = text.dropLast() }
        if format == .keyValue, let space = text.firstIndex(of: UInt8(ascii: " ")) { text = text[(space + 1)...] }
        guard text.count > limit else {
            append(contentsOf: text)
            return
        }
        // No character is cut in two.
        var end = text.startIndex + limit
        while end > text.startIndex, text[end] & 0xC0 == 0x80 { end -= 1 }
        append(contentsOf: text[..<end])
        append(contentsOf: " [\(text.endIndex - end) more bytes]".utf8)
    }
}
