import Glibc
import Logging
import Primitives
import TestSupport
import Testing

@testable import Observability

@Suite("The system's log")
struct SystemLogTests {
    private let directory = temporaryDirectory("systemlog")
    private var path: String { directory + "/socket" }

    private func syslog(_ facility: String = "local3", format: LogSink.Format = .keyValue) throws -> LogSink {
        try LogSink([.syslog(socket: path, try #require(LogFacility(facility)))], format: format)
    }

    @Test("syslog gets a line as RFC 3164 has it: facility and severity, local time, program and process, one line of text")
    func syslogForm() throws {
        let daemon = DatagramReader(path)
        let sink = try syslog()
        sink.logger("api").warning("two\nlines\u{202E}\u{7F}", metadata: ["key": "a \"b\"\n"])
        let got = try #require(daemon.next())
        // LOG_LOCAL3 is 19, a warning 4.
        #expect(got.hasPrefix("<156>"))
        let parts = got.split(separator: " ", omittingEmptySubsequences: true)
        #expect(parts[0].count == 8 && Int(parts[1]) != nil && parts[2].count == 8)
        #expect(got.hasSuffix(" clinker[\(getpid())]: WARNING api two lines\\u202e\\u007f key=\"a \\\"b\\\"\\n\""), "\(got)")
        for (level, severity) in [("critical", 2), ("error", 3), ("notice", 5), ("info", 6)] {
            sink.logger("api").log(level: .init(rawValue: level)!, "x")
            #expect(daemon.next()?.hasPrefix("<\(19 << 3 | severity)>") == true)
        }
        daemon.end()
    }

    @Test("the journal gets a field in each line, and no value makes another one")
    func journalForm() throws {
        let daemon = DatagramReader(path)
        let sink = try LogSink([.journal(socket: path, .user)], format: .keyValue)
        sink.logger("flows").error("a\nPRIORITY=0", metadata: ["request_id": "req-1\nCODE_FILE=x"])
        let got = try #require(daemon.next())
        #expect(
            got.split(separator: "\n") == [
                "MESSAGE=ERROR flows a PRIORITY=0 request_id=\"req-1\\nCODE_FILE=x\"", "PRIORITY=3", "SYSLOG_FACILITY=1",
                "SYSLOG_IDENTIFIER=clinker", "SYSLOG_PID=\(getpid())", "LOGGER_NAME=clinker.flows", "LOGGER_LEVEL=ERROR",
                "REQUEST_ID=req-1 CODE_FILE=x",
            ])
        #expect(got.hasSuffix("\n"))
        daemon.end()
    }

    @Test("a line that no daemon would keep whole is cut between two characters, and says so")
    func longLines() throws {
        let daemon = DatagramReader(path)
        try syslog().logger("api").info("\(String(repeating: "\u{20AC}", count: 5_000))")
        let got = try #require(daemon.next())
        #expect(got.utf8.count < 8_100 && got.hasSuffix("\u{20AC} [7011 more bytes]"), "\(got.suffix(60))")
        daemon.end()
    }

    @Test("a JSON log is one object for syslog too")
    func json() throws {
        let daemon = DatagramReader(path)
        try syslog(format: .json).logger("api").info("x")
        #expect(daemon.next()?.contains("]: {\"time\":\"") == true)
        daemon.end()
    }

    @Test("lines that come before their daemon, or while another takes its place, reach it")
    func late() throws {
        let sink = try syslog()
        let log = sink.logger("api")
        log.info("before")
        let first = DatagramReader(path)
        #expect(wait(for: "before", first, sink))
        first.end()
        log.info("between")
        let second = DatagramReader(path)
        #expect(wait(for: "between", second, sink))
        log.info("after")
        #expect(second.first(with: "api after") != nil)
        #expect(sink.lost == 0)
        second.end()
    }

    private func wait(for text: String, _ daemon: DatagramReader, _ sink: LogSink) -> Bool {
        for _ in 0..<2_000 {
            sink.flush()
            if let got = daemon.next(within: 10) { return got.hasSuffix("api \(text)") }
        }
        return false
    }

    @Test("a daemon that does not read holds nobody up: what is kept is bounded, and what was dropped is counted and told")
    func blocked() throws {
        let daemon = DatagramReader(path)
        let sink = try syslog()
        let log = sink.logger("api")
        let count = 10_000
        for number in 0..<count { log.info("line \(number)") }
        let lost = sink.lost
        #expect(lost > 0 && lost >= count - 3_000)
        // It reads again.
        let isOver = Guarded(false)
        startThread("flush") { while !isOver.withLock({ $0 }) { sink.flush() } }
        var numbers: [Int] = []
        var told: String?
        while told == nil, let got = daemon.next() {
            if let range = got.firstRange(of: "api line "), let number = Int(got[range.upperBound...]) {
                numbers.append(number)
            } else {
                told = got
            }
        }
        isOver.withLock { $0 = true }
        // The oldest, in their order, without a gap before the notice.
        #expect(numbers == Array(0..<(count - lost)))
        #expect(told?.contains("WARNING log \(lost) lines of the log were dropped") == true, "\(told ?? "")")
        daemon.end()
    }

    @Test("several places get every line")
    func several() throws {
        let daemon = DatagramReader(path)
        let file = directory + "/log"
        let sink = try LogSink([.file(file), .syslog(socket: path, .user)], format: .keyValue)
        sink.logger("api").info("both")
        #expect(daemon.next()?.hasSuffix("INFO api both") == true)
        let text = try String(decoding: contents(file), as: UTF8.self)
        #expect(text.hasSuffix(" INFO api both\n"))
        daemon.end()
    }

    private func contents(_ path: String) throws -> [UInt8] {
        let file = try #require(fopen(path, "re"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = fread(&bytes, 1, bytes.count, file)
        return Array(bytes.prefix(count))
    }

    @Test("facilities go by the names that oslo.log takes")
    func facilities() {
        #expect(LogFacility("LOG_USER")?.code == 1 && LogFacility("local7")?.code == 23 && LogFacility("log_authpriv")?.code == 10)
        #expect(LogFacility("LOG_LOCAL8") == nil && LogFacility("") == nil && LogFacility("LOG_") == nil)
    }
}
