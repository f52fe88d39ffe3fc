import Primitives

/// Renders log records as text or JSON.
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

    /// The value of `key=value`: quoted if it contains a space, a quote or a control character.
    static func quoted(_ value: String) -> String {
        let plain = value.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=") && $0 != 0x7F }
        return plain && !value.isEmpty && !hasHidden(value) ? value : json(value)
    }

    /// Replaces control characters, so that a message cannot forge a second line.
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

    /// Whether a terminal interprets the character instead of showing it: DEL and the C1 controls, line and paragraph separators,
    /// bidirectional formatting characters.
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
