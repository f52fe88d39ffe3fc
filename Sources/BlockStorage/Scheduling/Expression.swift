import Glibc
public import JSON

/// A driver's filter or goodness function: arithmetic, comparisons and choices over what is known of a pool and a volume.
///
///     sum      numbers, 'text', stats.x, capabilities.x, volume.x, extra.x, qos.x, abs(a), min(a, b, ...), max(a, b, ...)
///     binding, tightest first:  ^   + - (signs)   * /   + -   < <= > >= == != <>   not !   and &   or |   a ? b : c
///
/// The language is that of Cinder's DriverFilter
/// (https://docs.openstack.org/cinder/latest/admin/driver-filter-weighing.html); comparisons chain as Python's do.
public struct Expression: Sendable {
    private let root: Node
    private static let depthLimit = 64

    /// What an expression is wrong with, or cannot do.
    public struct Problem: Error, CustomStringConvertible, Equatable {
        public let description: String
        init(_ description: String) { self.description = description }
    }

    public enum Value: Sendable, Equatable {
        case number(Double)
        case text(String)
        case truth(Bool)

        init?(_ json: JSON) {
            switch json {
            case .integer(let value): self = .number(Double(value))
            case .real(let value): self = .number(value)
            case .bool(let value): self = .truth(value)
            case .string(let value): self = .text(value)
            default: return nil
            }
        }

        public var isTrue: Bool {
            switch self {
            case .number(let value): value != 0
            case .text(let value): !value.isEmpty
            case .truth(let value): value
            }
        }

        /// Truth counts as 1 or 0, as in Python.
        public var number: Double? {
            switch self {
            case .number(let value): value
            case .truth(let value): value ? 1 : 0
            case .text: nil
            }
        }
    }

    private indirect enum Node: Sendable {
        case value(Value)
        case name(String, String)
        case call(String, [Node])
        case sign(Node)
        case not(Node)
        case arithmetic(Character, Node, Node)
        case comparison(Node, [(operation: String, operand: Node)])
        case and(Node, Node)
        case or(Node, Node)
        case choice(Node, Node, Node)
    }

    // MARK: evaluation

    /// `lookup` gives what `space.name` stands for; nil if there is no such thing.
    public func evaluate(_ lookup: (_ space: String, _ name: String) -> JSON?) throws(Problem) -> Value { try Self.evaluate(root, lookup) }

    private static func evaluate(_ node: Node, _ lookup: (String, String) -> JSON?) throws(Problem) -> Value {
        switch node {
        case .value(let value): return value
        case .name(let space, let name):
            guard let found = lookup(space, name) else { throw Problem("there is no \(space).\(name)") }
            guard let value = Value(found) else { throw Problem("\(space).\(name) is neither a number nor a text") }
            return value
        case .call(let function, let arguments):
            var numbers: [Double] = []
            for argument in arguments { numbers.append(try number(evaluate(argument, lookup))) }
            switch function {
            case "abs": return .number(abs(numbers[0]))
            case "min": return .number(numbers.min() ?? 0)
            default: return .number(numbers.max() ?? 0)
            }
        case .sign(let operand): return .number(-(try number(evaluate(operand, lookup))))
        case .not(let operand): return .truth(try !evaluate(operand, lookup).isTrue)
        case .arithmetic(let operation, let left, let right):
            return try arithmetic(operation, evaluate(left, lookup), evaluate(right, lookup))
        case .comparison(let first, let rest):
            var left = try evaluate(first, lookup)
            for (operation, operand) in rest {
                let right = try evaluate(operand, lookup)
                guard try compare(left, operation, right) else { return .truth(false) }
                left = right
            }
            return .truth(true)
        case .and(let left, let right):
            guard try evaluate(left, lookup).isTrue else { return .truth(false) }
            return .truth(try evaluate(right, lookup).isTrue)
        case .or(let left, let right):
            if try evaluate(left, lookup).isTrue { return .truth(true) }
            return .truth(try evaluate(right, lookup).isTrue)
        case .choice(let condition, let yes, let no): return try evaluate(evaluate(condition, lookup).isTrue ? yes : no, lookup)
        }
    }

    private static func number(_ value: Value) throws(Problem) -> Double {
        guard let number = value.number else { throw Problem("a text is no number") }
        return number
    }

    private static func arithmetic(_ operation: Character, _ left: Value, _ right: Value) throws(Problem) -> Value {
        if operation == "+", case .text(let a) = left, case .text(let b) = right { return .text(a + b) }
        let (a, b) = (try number(left), try number(right))
        switch operation {
        case "+": return .number(a + b)
        case "-": return .number(a - b)
        case "*": return .number(a * b)
        case "^": return .number(pow(a, b))
        default:
            guard b != 0 else { throw Problem("division by zero") }
            return .number(a / b)
        }
    }

    private static func compare(_ left: Value, _ operation: String, _ right: Value) throws(Problem) -> Bool {
        func holds<T: Comparable>(_ a: T, _ b: T) -> Bool {
            switch operation {
            case "<": a < b
            case "<=": a <= b
            case ">": a > b
            case ">=": a >= b
            case "==": a == b
            default: a != b
            }
        }
        if case .text(let a) = left, case .text(let b) = right { return holds(a, b) }
        if let a = left.number, let b = right.number { return holds(a, b) }
        // A text and a number are different; neither is less.
        switch operation {
        case "==": return false
        case "!=", "<>": return true
        default: throw Problem("a text and a number cannot be compared by \(operation)")
        }
    }

    // MARK: reading

    /// Throws where the text is no expression.
    public init(parsing text: String) throws(Problem) {
        var parser = Parser(tokens: try Self.tokens(text))
        root = try parser.choice(0)
        guard parser.position == parser.tokens.count else { throw Problem("'\(parser.tokens[parser.position].text)' is not expected") }
    }

    private enum Token: Sendable, Equatable {
        case number(Double)
        case text(String)
        case word(String)
        case mark(String)

        var text: String {
            switch self {
            case .number(let value): "\(value)"
            case .text(let text): "'\(text)'"
            case .word(let text), .mark(let text): text
            }
        }
    }

    private static func tokens(_ text: String) throws(Problem) -> [Token] {
        var tokens: [Token] = []
        let characters = Array(text)
        var position = 0
        while position < characters.count {
            let character = characters[position]
            if character.isWhitespace {
                position += 1
            } else if character.isASCII,
                character.isNumber || (character == "." && position + 1 < characters.count && characters[position + 1].isNumber)
            {
                var end = position
                while end < characters.count, characters[end].isASCII, characters[end].isNumber || characters[end] == "." { end += 1 }
                if end < characters.count, characters[end] == "e" || characters[end] == "E" {
                    var exponent = end + 1
                    if exponent < characters.count, "+-".contains(characters[exponent]) { exponent += 1 }
                    if exponent < characters.count, characters[exponent].isNumber {
                        end = exponent
                        while end < characters.count, characters[end].isASCII, characters[end].isNumber { end += 1 }
                    }
                }
                guard let number = Double(String(characters[position..<end])) else {
                    throw Problem("'\(String(characters[position..<end]))' is no number")
                }
                tokens.append(.number(number))
                position = end
            } else if character == "'" || character == "\"" {
                guard let end = characters[(position + 1)...].firstIndex(of: character) else { throw Problem("a text has no end") }
                tokens.append(.text(String(characters[(position + 1)..<end])))
                position = end + 1
            } else if character.isLetter || character == "_" {
                var end = position
                while end < characters.count, characters[end].isLetter || characters[end].isNumber || "_.:-".contains(characters[end]) {
                    // A colon belongs to a name only inside of it: `a ? b : c`.
                    if ":-".contains(characters[end]),
                        !(end + 1 < characters.count && (characters[end + 1].isLetter || characters[end + 1] == "_"))
                    {
                        break
                    }
                    end += 1
                }
                tokens.append(.word(String(characters[position..<end])))
                position = end
            } else {
                let two = position + 1 < characters.count ? String(characters[position...(position + 1)]) : ""
                if ["<=", ">=", "==", "!=", "<>"].contains(two) {
                    tokens.append(.mark(two))
                    position += 2
                } else if "+-*/^()<>!&|?:,".contains(character) {
                    tokens.append(.mark(String(character)))
                    position += 1
                } else {
                    throw Problem("'\(character)' is not expected")
                }
            }
        }
        guard !tokens.isEmpty else { throw Problem("it is empty") }
        return tokens
    }

    private struct Parser {
        let tokens: [Token]
        var position = 0

        private mutating func take(_ marks: String...) -> String? {
            guard position < tokens.count else { return nil }
            switch tokens[position] {
            case .mark(let text), .word(let text):
                guard marks.contains(text) else { return nil }
                position += 1
                return text
            default: return nil
            }
        }

        private mutating func expect(_ mark: String) throws(Problem) {
            guard take(mark) != nil else {
                throw Problem(
                    position < tokens.count ? "'\(mark)' is missing before '\(tokens[position].text)'" : "'\(mark)' is missing at the end")
            }
        }

        mutating func choice(_ depth: Int) throws(Problem) -> Node {
            guard depth < depthLimit else { throw Problem("it is nested too deeply") }
            let condition = try either(depth)
            guard take("?") != nil else { return condition }
            let yes = try choice(depth + 1)
            try expect(":")
            return .choice(condition, yes, try choice(depth + 1))
        }

        private mutating func either(_ depth: Int) throws(Problem) -> Node {
            var left = try both(depth)
            while take("or", "|") != nil { left = .or(left, try both(depth)) }
            return left
        }

        private mutating func both(_ depth: Int) throws(Problem) -> Node {
            var left = try negation(depth)
            while take("and", "&") != nil { left = .and(left, try negation(depth)) }
            return left
        }

        private mutating func negation(_ depth: Int) throws(Problem) -> Node {
            guard depth < depthLimit else { throw Problem("it is nested too deeply") }
            if take("not", "!") != nil { return .not(try negation(depth + 1)) }
            return try comparison(depth)
        }

        private mutating func comparison(_ depth: Int) throws(Problem) -> Node {
            let first = try sum(depth)
            var rest: [(operation: String, operand: Node)] = []
            while let operation = take("<", "<=", ">", ">=", "==", "!=", "<>") {
                rest.append((operation: operation, operand: try sum(depth)))
            }
            return rest.isEmpty ? first : .comparison(first, rest)
        }

        private mutating func sum(_ depth: Int) throws(Problem) -> Node {
            var left = try product(depth)
            while let operation = take("+", "-") { left = .arithmetic(Character(operation), left, try product(depth)) }
            return left
        }

        private mutating func product(_ depth: Int) throws(Problem) -> Node {
            var left = try signed(depth)
            while let operation = take("*", "/") { left = .arithmetic(Character(operation), left, try signed(depth)) }
            return left
        }

        private mutating func signed(_ depth: Int) throws(Problem) -> Node {
            guard depth < depthLimit else { throw Problem("it is nested too deeply") }
            if take("-") != nil { return .sign(try signed(depth + 1)) }
            if take("+") != nil { return try signed(depth + 1) }
            let base = try operand(depth)
            guard take("^") != nil else { return base }
            return .arithmetic("^", base, try signed(depth + 1))
        }

        private mutating func operand(_ depth: Int) throws(Problem) -> Node {
            guard position < tokens.count else { throw Problem("it ends too early") }
            let token = tokens[position]
            position += 1
            switch token {
            case .number(let value): return .value(.number(value))
            case .text(let text): return .value(.text(text))
            case .mark("("):
                let inner = try choice(depth + 1)
                try expect(")")
                return inner
            case .word(let word) where ["abs", "min", "max"].contains(word):
                try expect("(")
                var arguments = [try choice(depth + 1)]
                while take(",") != nil { arguments.append(try choice(depth + 1)) }
                try expect(")")
                guard word != "abs" || arguments.count == 1 else { throw Problem("abs takes one number") }
                return .call(word, arguments)
            case .word(let word):
                guard let dot = word.firstIndex(of: "."), dot != word.startIndex, word.index(after: dot) != word.endIndex else {
                    throw Problem("'\(word)' is not known")
                }
                return .name(String(word[..<dot]), String(word[word.index(after: dot)...]))
            case .mark(let mark): throw Problem("'\(mark)' is not expected")
            }
        }
    }
}
