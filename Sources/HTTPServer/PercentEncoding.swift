import Glibc

/// Percent-encoding of URIs (RFC 3986).
public enum PercentEncoding {
    /// Decodes %XX; nil if the result is not UTF-8 or an escape is broken.
    public static func decode(_ text: some StringProtocol) -> String? {
        let hasEscape = text.utf8.withContiguousStorageIfAvailable {
            memchr($0.baseAddress ?? UnsafePointer(bitPattern: 1)!, 0x25, $0.count) != nil
        }
        guard hasEscape ?? true else { return String(text) }
        var bytes: [UInt8] = []
        var iterator = text.utf8.makeIterator()
        while let byte = iterator.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = iterator.next().flatMap(digit), let low = iterator.next().flatMap(digit) else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    static func decodeQuery(_ text: some StringProtocol) -> String {
        let spaced =
            text.utf8.contains(UInt8(ascii: "+"))
            ? String(decoding: text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }, as: UTF8.self) : String(text)
        return decode(spaced) ?? spaced
    }

    /// Encodes a query value: letters, digits and `-_.~` are kept.
    public static func encode(_ text: String) -> String {
        var result = ""
        encode(text[...], into: &result)
        return result
    }

    /// Appends the encoded text.
    public static func encode(_ text: Substring, into result: inout String) {
        guard !text.utf8.allSatisfy(isUnreserved) else { return result += text }
        for byte in text.utf8 { append(byte, to: &result) }
    }

    /// Appends the encoded text, with `+` for a space.
    public static func encodeQuery(_ text: String, into result: inout String) {
        guard !text.utf8.allSatisfy(isUnreserved) else { return result += text }
        for byte in text.utf8 { if byte == UInt8(ascii: " ") { result += "+" } else { append(byte, to: &result) } }
    }

    private static func append(_ byte: UInt8, to result: inout String) {
        if isUnreserved(byte) {
            result.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// Whether the decoded text is valid UTF-8; broken escapes are kept as they are.
    public static func isText(_ text: String) -> Bool {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return true }
        var bytes: [UInt8] = []
        let given = Array(text.utf8)
        var position = 0
        while position < given.count {
            if given[position] == UInt8(ascii: "%"), position + 2 < given.count, let high = digit(given[position + 1]),
                let low = digit(given[position + 2])
            {
                bytes.append(high << 4 | low)
                position += 3
            } else {
                bytes.append(given[position])
                position += 1
            }
        }
        return String(validating: bytes, as: UTF8.self) != nil
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
