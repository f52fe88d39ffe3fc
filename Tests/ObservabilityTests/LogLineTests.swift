import Testing

@testable import Observability

@Suite("Log lines")
struct LogLineTests {
    @Test("a message cannot forge a second log line")
    func logInjection() {
        let line = LogLine.render(
            format: .keyValue, level: "info", label: "t", message: "a\nb", pairs: [(key: "k", value: "x y\n\"z")])
        #expect(line.dropLast().contains("\n") == false)
        #expect(line.hasSuffix("a b k=\"x y\\n\\\"z\"\n"))
    }

    @Test("what a terminal obeys, or what turns the direction of a text, is escaped")
    func hiddenCharacters() {
        let hidden = "\u{9B}\u{85}\u{7F}\u{202E}\u{2066}\u{2069}\u{200F}\u{61C}\u{2028}\u{2029}"
        for format in [LogSink.Format.keyValue, .json] {
            let line = LogLine.render(
                format: format, level: "info", label: "t", message: "a\(hidden)z", pairs: [(key: "k", value: "b\(hidden)y\u{E9}")])
            #expect(!line.dropLast().unicodeScalars.contains { hidden.unicodeScalars.contains($0) }, "\(line)")
            #expect(line.contains("a\\u009b\\u0085\\u007f\\u202e") && line.contains("b\\u009b") && line.contains("y\u{E9}"), "\(line)")
        }
    }
}
