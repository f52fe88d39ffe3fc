/// The credentials that rules are evaluated against.
public protocol PolicyCredentials {
    var policyRoles: [String] { get }
    /// Roles of the service that forwards the request, from its service token.
    var policyServiceRoles: [String] { get }
    /// The result of `context_is_admin`.
    var policyIsAdmin: Bool { get }
    /// `user_id`, `project_id`, `domain_id`, `system_scope`, `user_domain_id`, `project_domain_id`, `is_admin_project`.
    func policyAttribute(_ name: String) -> String?
}

/// A rule's expression in oslo.policy's language
/// (https://docs.openstack.org/oslo.policy/latest/reference/api/oslo_policy.policy.html): `role:x`, `rule:x`,
/// `attribute:%(attribute of the target)s`, `'literal':%(attribute)s`, `@`, `!`, `and`, `or`, `not`, parentheses.
indirect enum PolicyCheck: Sendable, Equatable {
    case always, never
    case not(PolicyCheck)
    case all([PolicyCheck])
    case any([PolicyCheck])
    /// The caller has the role, compared case-insensitively; a literal is stored in lower case.
    case role(Operand)
    case rule(String)
    case isAdmin(Bool)
    /// An attribute of the credentials, or a literal, must equal the right side, which may refer to the target.
    case equal(Operand, Operand)

    enum Operand: Sendable, Equatable {
        case literal(String)
        case attribute(String)
        /// A concatenation of literals and attributes.
        case joined([Operand])
    }

    struct SyntaxError: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    // MARK: parsing

    init(parsing text: String) throws(SyntaxError) {
        var parser = Parser(tokens: Self.tokens(text))
        if parser.tokens.isEmpty {
            self = .always
            return
        }
        self = try parser.expression()
        guard parser.position == parser.tokens.count else { throw SyntaxError("'\(parser.tokens[parser.position])' is not expected") }
    }

    private static func tokens(_ text: String) -> [String] {
        var tokens: [String] = []
        let opening = UInt8(ascii: "("), closing = UInt8(ascii: ")")
        for word in text.split(whereSeparator: \.isWhitespace) {
            let bytes = Array(word.utf8)
            let opened = bytes.prefix { $0 == opening }.count
            let closed = bytes.dropFirst(opened).reversed().prefix { $0 == closing }.count
            tokens += repeatElement("(", count: opened)
            let inner = bytes[opened..<(bytes.count - closed)]
            if !inner.isEmpty { tokens.append(String(decoding: inner, as: UTF8.self)) }
            tokens += repeatElement(")", count: closed)
        }
        return tokens
    }

    private struct Parser {
        let tokens: [String]
        var position = 0
        var depth = 0

        var current: String? { position < tokens.count ? tokens[position] : nil }
        func isWord(_ word: String) -> Bool { current?.lowercased() == word }

        mutating func expression() throws(SyntaxError) -> PolicyCheck {
            var parts = [try conjunction()]
            while isWord("or") {
                position += 1
                parts.append(try conjunction())
            }
            return parts.count == 1 ? parts[0] : .any(parts)
        }

        private mutating func conjunction() throws(SyntaxError) -> PolicyCheck {
            var parts = [try negation()]
            while isWord("and") {
                position += 1
                parts.append(try negation())
            }
            return parts.count == 1 ? parts[0] : .all(parts)
        }

        private mutating func negation() throws(SyntaxError) -> PolicyCheck {
            guard isWord("not") else { return try atom() }
            position += 1
            depth += 1
            defer { depth -= 1 }
            guard depth < 64 else { throw SyntaxError("nested too deep") }
            return .not(try negation())
        }

        private mutating func atom() throws(SyntaxError) -> PolicyCheck {
            guard let token = current else { throw SyntaxError("it ends too early") }
            position += 1
            if token == "(" {
                depth += 1
                defer { depth -= 1 }
                guard depth < 64 else { throw SyntaxError("nested too deep") }
                let inner = try expression()
                guard current == ")" else { throw SyntaxError("a parenthesis is not closed") }
                position += 1
                return inner
            }
            guard ![")", "and", "or"].contains(token.lowercased()) else { throw SyntaxError("'\(token)' is not expected") }
            return try PolicyCheck(simple: token)
        }
    }

    private init(simple token: String) throws(SyntaxError) {
        switch token {
        case "@": self = .always
        case "!": self = .never
        default:
            guard let colon = token.firstIndex(of: ":"), colon != token.startIndex else {
                throw SyntaxError("'\(token)' is no check: it should read kind:value")
            }
            let kind = String(token[..<colon])
            let match = String(token[token.index(after: colon)...])
            switch kind {
            case "rule": self = .rule(match)
            case "http", "https": throw SyntaxError("'\(token)': remote checks are not supported")
            case "role":
                let role = try Operand(template: match)
                if case .literal(let text) = role { self = .role(.literal(text.lowercased())) } else { self = .role(role) }
            case "is_admin":
                switch try Operand(template: match) {
                case .literal("True"): self = .isAdmin(true)
                case .literal("False"): self = .isAdmin(false)
                case .literal: self = .never
                case let compared: self = .equal(.attribute(kind), compared)
                }
            default: self = .equal(Self.literal(kind).map { .literal($0) } ?? .attribute(kind), try Operand(template: match))
            }
        }
    }

    /// The text of a Python literal (quoted text, number, True, False, None); nil for a name.
    private static func literal(_ text: String) -> String? {
        let bytes = Array(text.utf8)
        if bytes.count >= 2, bytes[0] == bytes[bytes.count - 1], bytes[0] == UInt8(ascii: "'") || bytes[0] == UInt8(ascii: "\"") {
            return String(decoding: bytes[1..<(bytes.count - 1)], as: UTF8.self)
        }
        return ["True", "False", "None"].contains(text) ? text : Int(text).map(String.init)
    }

    /// The referenced rules.
    var references: Set<String> {
        switch self {
        case .rule(let name): [name]
        case .not(let check): check.references
        case .all(let checks), .any(let checks): checks.reduce(into: []) { $0.formUnion($1.references) }
        default: []
        }
    }

    /// The attributes of the target that the check uses.
    var targetAttributes: Set<String> {
        switch self {
        case .equal(_, let right), .role(let right): right.attributes
        case .not(let check): check.targetAttributes
        case .all(let checks), .any(let checks): checks.reduce(into: []) { $0.formUnion($1.targetAttributes) }
        default: []
        }
    }
}

extension PolicyCheck.Operand {
    /// `%(name)s` stands for an attribute of the target, `%%` for a percent sign.
    init(template text: String) throws(PolicyCheck.SyntaxError) {
        var parts: [Self] = []
        var literal: [UInt8] = []
        func flushed(_ literal: [UInt8]) -> [Self] { literal.isEmpty ? [] : [.literal(String(decoding: literal, as: UTF8.self))] }
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                literal.append(byte)
                continue
            }
            if rest.first == byte {
                literal.append(byte)
                rest = rest.dropFirst()
            } else if rest.first == UInt8(ascii: "("), let end = rest.firstIndex(of: UInt8(ascii: ")")),
                end + 1 < rest.endIndex, rest[end + 1] == UInt8(ascii: "s")
            {
                parts += flushed(literal) + [.attribute(String(decoding: rest[(rest.startIndex + 1)..<end], as: UTF8.self))]
                literal = []
                rest = rest[(end + 2)...]
            } else {
                throw PolicyCheck.SyntaxError("in '\(text)' a '%' begins neither %(attribute)s nor %%")
            }
        }
        parts += flushed(literal)
        self = parts.count == 1 ? parts[0] : parts.isEmpty ? .literal("") : .joined(parts)
    }

    /// The attributes in the text.
    var attributes: Set<String> {
        switch self {
        case .literal: []
        case .attribute(let name): [name]
        case .joined(let parts): parts.reduce(into: []) { $0.formUnion($1.attributes) }
        }
    }
}
