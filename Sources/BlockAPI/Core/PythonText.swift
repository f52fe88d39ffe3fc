import JSON

/// Values as Python shows them: Cinder's validation messages quote them so, and clients show the messages.
enum PythonText {
    /// `str(value)`
    static func str(_ value: JSON) -> String {
        if case .string(let text) = value { text } else { repr(value) }
    }

    /// `repr(value)`
    static func repr(_ value: JSON) -> String {
        switch value {
        case .null: return "None"
        case .bool(let value): return value ? "True" : "False"
        case .integer(let value): return String(value)
        case .real(let value): return String(value)
        case .string(let text):
            let quote: Character = text.contains("'") && !text.contains("\"") ? "\"" : "'"
            var result = String(quote)
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\\": result += "\\\\"
                case "\n": result += "\\n"
                case "\r": result += "\\r"
                case "\t": result += "\\t"
                case "'" where quote == "'": result += "\\'"
                default:
                    if scalar.value < 0x20 || scalar.value == 0x7F {
                        result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
                    } else {
                        result.unicodeScalars.append(scalar)
                    }
                }
            }
            result.append(quote)
            return result
        case .array(let items): return "[" + items.map(repr).joined(separator: ", ") + "]"
        case .object(let object):
            return "{" + object.members.map { "\(repr(.string($0.name))): \(repr($0.value))" }.joined(separator: ", ") + "}"
        }
    }

    /// Reads a flat dictionary of texts as Python or JSON writes it (`{'k': 'v'}`); nil for anything else.
    static func dictionary(_ text: String) -> [(key: String, value: String)]? {
        var scanner = text.unicodeScalars.makeIterator()
        var current = scanner.next()
        func skip() { while let c = current, c == " " || c == "\t" { current = scanner.next() } }
        func take(_ scalar: Unicode.Scalar) -> Bool {
            skip()
            guard current == scalar else { return false }
            current = scanner.next()
            return true
        }
        func string() -> String? {
            skip()
            if current == "u" { current = scanner.next() }
            guard let quote = current, quote == "'" || quote == "\"" else { return nil }
            var result = String.UnicodeScalarView()
            current = scanner.next()
            while let c = current, c != quote {
                if c == "\\" {
                    current = scanner.next()
                    guard let escaped = current else { return nil }
                    result.append(escaped)
                } else {
                    result.append(c)
                }
                current = scanner.next()
            }
            guard current == quote else { return nil }
            current = scanner.next()
            return String(result)
        }
        guard take("{") else { return nil }
        var pairs: [(key: String, value: String)] = []
        if take("}") { return pairs }
        while true {
            guard let key = string(), take(":"), let value = string() else { return nil }
            pairs.append((key: key, value: value))
            if take("}") { break }
            guard take(",") else { return nil }
        }
        skip()
        return current == nil ? pairs : nil
    }

    static let trueTexts = ["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"]
    static let falseTexts = ["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"]

    /// oslo's `bool_from_string`, strict: nil for what is neither.
    static func bool(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "1", "t", "true", "on", "y", "yes": true
        case "0", "f", "false", "off", "n", "no": false
        default: nil
        }
    }
}
