/// A value as Python writes it. Clients write filters so, and Cinder reads them with `ast.literal_eval`: `['a', 'b']`, `None`,
/// `'quoted'`, `{'key': 'value'}`.
enum PythonLiteral: Sendable, Equatable {
    case none
    case bool(Bool)
    case integer(Int64)
    case real(Double)
    case text(String)
    /// Of a list, a tuple or a set.
    case items([PythonLiteral])
    case dictionary([Pair])

    struct Pair: Sendable, Equatable {
        let key, value: PythonLiteral
    }

    /// nil for what is no literal: then the text stands for itself.
    init?(_ text: String) {
        // Whoever writes more means text.
        guard text.utf8.count <= 16_384 else { return nil }
        var reader = Reader(text)
        guard let value = reader.value(depth: 0) else { return nil }
        reader.skip()
        guard reader.isAtEnd else { return nil }
        self = value
    }

    /// The dictionary of a text; nil if it is none.
    static func dictionary(_ text: String) -> [Pair]? {
        if case .dictionary(let pairs)? = PythonLiteral(text) { pairs } else { nil }
    }

    private struct Reader {
        private let scalars: [Unicode.Scalar]
        private var position = 0

        init(_ text: String) {
            // Leading spaces and tabs do not count; other leading blanks make it no expression.
            scalars = Array(text.unicodeScalars.drop { $0 == " " || $0 == "\t" })
        }

        var isAtEnd: Bool { position == scalars.count }
        private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

        mutating func skip() { while let c = next, [" ", "\t", "\n", "\r", "\u{0C}"].contains(c) { position += 1 } }

        private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
            skip()
            guard next == scalar else { return false }
            position += 1
            return true
        }

        mutating func value(depth: Int) -> PythonLiteral? {
            guard depth < 16 else { return nil }
            skip()
            switch next {
            case "'", "\"": return text()
            case "[": return items(until: "]", depth: depth).map { .items($0.items) }
            case "(":
                guard let found = items(until: ")", depth: depth) else { return nil }
                // One value in parentheses is that value.
                return found.items.count == 1 && !found.hasComma ? found.items[0] : .items(found.items)
            case "{": return braces(depth: depth)
            case "+", "-", ".", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9": return number()
            default: return word()
            }
        }

        private mutating func word() -> PythonLiteral? {
            let start = position
            while let c = next, c.properties.isAlphabetic || c == "_" || ("0"..."9").contains(c) { position += 1 }
            var name = String.UnicodeScalarView()
            name.append(contentsOf: scalars[start..<position])
            switch String(name) {
            case "None": return PythonLiteral.none
            case "True": return .bool(true)
            case "False": return .bool(false)
            case "u", "U": return next == "'" || next == "\"" ? text() : nil
            default: return nil
            }
        }

        private mutating func text() -> PythonLiteral? {
            var result = String.UnicodeScalarView()
            // Texts beside each other are one.
            while let quote = next, quote == "'" || quote == "\"" {
                position += 1
                while let c = next, c != quote {
                    guard c != "\n" else { return nil }
                    position += 1
                    guard c == "\\" else {
                        result.append(c)
                        continue
                    }
                    guard let escaped = next else { return nil }
                    position += 1
                    switch escaped {
                    case "n": result.append("\n")
                    case "t": result.append("\t")
                    case "r": result.append("\r")
                    case "\\", "'", "\"": result.append(escaped)
                    default:
                        result.append("\\")
                        result.append(escaped)
                    }
                }
                guard next == quote else { return nil }
                position += 1
                skip()
            }
            return .text(String(result))
        }

        private mutating func number() -> PythonLiteral? {
            var sign = ""
            if next == "-" || next == "+" {
                if next == "-" { sign = "-" }
                position += 1
                skip()
            }
            var digits = ""
            var isReal = false
            while let c = next {
                if ("0"..."9").contains(c) {
                    digits.unicodeScalars.append(c)
                } else if c == "_", digits.last?.isNumber ?? false, position + 1 < scalars.count,
                    ("0"..."9").contains(scalars[position + 1])
                {
                    // As in 1_000.
                } else if c == "." && !isReal || (c == "e" || c == "E") && !digits.isEmpty {
                    isReal = true
                    digits.unicodeScalars.append(c)
                } else if (c == "-" || c == "+") && (digits.hasSuffix("e") || digits.hasSuffix("E")) {
                    digits.unicodeScalars.append(c)
                } else {
                    break
                }
                position += 1
            }
            if isReal {
                if digits.hasPrefix(".") { digits = "0" + digits }
                if digits.hasSuffix(".") { digits += "0" }
                return Double(sign + digits).map { .real($0) }
            }
            // Leading zeros are an error in Python.
            guard !digits.isEmpty, digits.first != "0" || digits.allSatisfy({ $0 == "0" }) else { return nil }
            return Int64(sign + digits).map { .integer($0) }
        }

        private mutating func items(until end: Unicode.Scalar, depth: Int) -> (items: [PythonLiteral], hasComma: Bool)? {
            position += 1
            var items: [PythonLiteral] = []
            var hasComma = false
            while !take(end) {
                guard items.isEmpty || hasComma, items.count < 1000, let item = value(depth: depth + 1) else { return nil }
                items.append(item)
                hasComma = take(",")
                if !hasComma {
                    guard take(end) else { return nil }
                    return (items, items.count > 1)
                }
            }
            return (items, hasComma || items.isEmpty)
        }

        private mutating func braces(depth: Int) -> PythonLiteral? {
            position += 1
            if take("}") { return .dictionary([]) }
            var pairs: [Pair] = []
            var members: [PythonLiteral] = []
            repeat {
                skip()
                if next == "}" { break }
                guard pairs.count + members.count < 1000, let first = value(depth: depth + 1) else { return nil }
                if take(":") {
                    guard members.isEmpty, let second = value(depth: depth + 1) else { return nil }
                    pairs.append(Pair(key: first, value: second))
                } else {
                    guard pairs.isEmpty else { return nil }
                    members.append(first)
                }
            } while take(",")
            guard take("}") else { return nil }
            return members.isEmpty ? .dictionary(pairs) : .items(members)
        }
    }
}
