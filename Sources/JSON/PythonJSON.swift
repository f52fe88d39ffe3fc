/// JSON as Python's `json.dumps` writes it, byte for byte: what Cinder stores and hands out, and of what clients compare hashes.
public enum PythonJSON {
    /// A text in quotes, ASCII only.
    public static func quoted(_ text: String) -> String {
        var result = "\""
        for unit in text.utf16 {
            switch unit {
            case 0x22: result += "\\\""
            case 0x5C: result += "\\\\"
            case 0x0A: result += "\\n"
            case 0x0D: result += "\\r"
            case 0x09: result += "\\t"
            case 0x08: result += "\\b"
            case 0x0C: result += "\\f"
            case 0x20..<0x7F: result.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default:
                let digits = String(unit, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            }
        }
        return result + "\""
    }

    public static func quoted(_ text: String?) -> String { text.map { quoted($0) } ?? "null" }

    /// A value in one line, members in their order, as `json.dumps(value)`.
    public static func line(_ value: JSON) -> String {
        switch value {
        case .string(let text): quoted(text)
        case .array(let items): "[" + items.map { line($0) }.joined(separator: ", ") + "]"
        case .object(let object):
            "{" + object.members.map { quoted($0.name) + ": " + line($0.value) }.joined(separator: ", ") + "}"
        default: value.text
        }
    }

    /// A value over several lines with sorted members, as `json.dumps(value, sort_keys=True, indent=2)` writes it at that depth.
    public static func lines(_ value: JSON, depth: Int = 0) -> String {
        let inner = String(repeating: "  ", count: depth + 1)
        let outer = String(repeating: "  ", count: depth)
        switch value {
        case .array(let items):
            guard !items.isEmpty else { return "[]" }
            return "[\n" + items.map { inner + lines($0, depth: depth + 1) }.joined(separator: ",\n") + "\n" + outer + "]"
        case .object(let object):
            guard !object.isEmpty else { return "{}" }
            // Python sorts by code points, which is the order of UTF-8 bytes.
            let members = object.members.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
            let texts = members.map { inner + quoted($0.name) + ": " + lines($0.value, depth: depth + 1) }
            return "{\n" + texts.joined(separator: ",\n") + "\n" + outer + "}"
        default: return line(value)
        }
    }
}
