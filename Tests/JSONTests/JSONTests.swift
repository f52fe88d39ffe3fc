import Testing

@testable import JSON

@Suite("JSON")
struct JSONTests {
    @Test("what is read is written back the same")
    func roundTrip() throws {
        let text = #"{"a":1,"b":[true,false,null,-5,1.5],"c":{"d":"x\"y\\z\n\u0001é😀"}}"#
        let value = try JSON(parsing: text)
        #expect(try JSON(parsing: value.text) == value)
        #expect(value["b"]?.array?.count == 5)
        #expect(value["c"]?["d"]?.string == "x\"y\\z\n\u{1}é😀")
    }

    @Test(
        "malformed text is refused",
        arguments: [
            "", "{", "[1,", "{\"a\":1,}", "{\"a\" 1}", "nul", "01", "1.", "\"abc", "{\"a\":1} x", "[1 2]", "\"\\q\"", "\"\\ud800\"",
            "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "{\"a\":1,\"a\":2}", "NaN", "Infinity", "1e999", "'a'", "\u{FEFF}{}",
        ])
    func malformed(text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test("invalid UTF-8 is refused")
    func invalidUTF8() {
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xC3, 0x28, 0x22] as [UInt8]) }
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0x5C, 0x6E, 0xFF, 0x22] as [UInt8]) }
    }

    @Test("depth and size are bounded")
    func bounds() throws {
        let deep = String(repeating: "[", count: 10_000) + String(repeating: "]", count: 10_000)
        #expect(throws: JSONError.self) { try JSON(parsing: deep) }
        #expect(throws: JSONError.self) { try JSON(parsing: "[1,2,3]", limits: JSONLimits(bytes: 5)) }
        let allowed = String(repeating: "[", count: 32) + String(repeating: "]", count: 32)
        #expect(throws: Never.self) { try JSON(parsing: allowed) }
    }

    @Test("whole numbers beyond 64 bits become reals, surrogate pairs become one character")
    func numbersAndPairs() throws {
        #expect(try JSON(parsing: "9223372036854775808") == .real(9223372036854775808))
        #expect(try JSON(parsing: "-9223372036854775808") == .integer(.min))
        #expect(try JSON(parsing: #""\ud83d\ude00""#) == .string("😀"))
    }

    @Test("the writer separates members and items and escapes control characters")
    func writer() {
        var writer = JSONWriter(capacity: 1)
        writer.beginObject()
        writer.member("n", 42)
        writer.member("s", "tab\tquote\"")
        writer.key("l")
        writer.beginArray()
        writer.integer(.min)
        writer.null()
        writer.beginObject()
        writer.endObject()
        writer.endArray()
        writer.memberNull("z")
        writer.endObject()
        #expect(writer.takeString() == #"{"n":42,"s":"tab\tquote\"","l":[-9223372036854775808,null,{}],"z":null}"#)
    }

    @Test("whatever needs an escape gets one, wherever it stands, and nothing else does")
    func escapes() throws {
        let given: [Unicode.Scalar] = (0..<0x80).compactMap { Unicode.Scalar($0) } + ["é", "😀", "\u{2028}"]
        for scalar in given {
            let expected =
                switch scalar {
                case "\"": #"\""#
                case "\\": #"\\"#
                case "\n": #"\n"#
                case "\r": #"\r"#
                case "\t": #"\t"#
                case "\u{0}"..<" ": #"\u00"# + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
                default: String(scalar)
                }
            for before in 0..<18 {
                for after in [0, 1, 7, 9] {
                    let around = (String(repeating: "é~", count: before).prefix(before), String(repeating: "!", count: after))
                    var writer = JSONWriter(capacity: 1)
                    writer.string("\(around.0)\(String(scalar))\(around.1)")
                    #expect(writer.takeString() == "\"\(around.0)\(expected)\(around.1)\"")
                }
            }
        }
    }

    @Test("the writer grows past any first guess")
    func growth() throws {
        var writer = JSONWriter(capacity: 1)
        writer.beginArray()
        for index in 0..<5_000 { writer.string(String(repeating: "\u{1}", count: index % 50)) }
        writer.endArray()
        let text = writer.takeString()
        #expect(try JSON(parsing: text).array?.count == 5_000)
    }
}
