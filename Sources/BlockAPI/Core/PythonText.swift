import JSON
import Primitives

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

    /// `bool(value)`
    static func isTrue(_ value: JSON) -> Bool {
        switch value {
        case .null: false
        case .bool(let value): value
        case .integer(let number): number != 0
        case .real(let number): number != 0
        case .string(let text): !text.isEmpty
        case .array(let items): !items.isEmpty
        case .object(let object): !object.isEmpty
        }
    }

    static let trueTexts = ["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"]
    static let falseTexts = ["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"]

    /// oslo's `bool_from_string`, strict: nil for what is neither.
    static func bool(_ text: String) -> Bool? { Bool(word: text) }
}
