/// Who asks, as rules see it.
public protocol PolicyCredentials {
    var policyRoles: [String] { get }
    /// Of the service that passes the request on, if one vouches for it.
    var policyServiceRoles: [String] { get }
    /// What `context_is_admin` found.
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
    case role(String)
    case rule(String)
    case isAdmin(Bool)
    /// An attribute of the credentials, or a literal, must equal an attribute of the target, or a literal.
    case equal(Operand, Operand)

    enum Operand: Sendable, Equatable {
        case literal(String)
        case attribute(String)
    }

    struct SyntaxError: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    // MARK: reading

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
        for word in text.split(whereSeparator: \.isWhitespace) {
            var word = word
            var closing: [String] = []
            while word.first == "(" {
                tokens.append("(")
                word = word.dropFirst()
            }
            // A parenthesis that closes `%(` belongs to its word.
            while word.last == ")", !word.hasSuffix(")s") {
                closing.append(")")
                word = word.dropLast()
            }
            if !word.isEmpty { tokens.append(String(word)) }
            tokens += closing
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
            case "role": self = .role(match.lowercased())
            case "rule": self = .rule(match)
            case "http", "https": throw SyntaxError("'\(token)': remote checks are not supported")
            case "is_admin": self = .isAdmin(match.lowercased() == "true")
            default:
                let left: Operand
                if kind.count >= 2, let first = kind.first, first == "'" || first == "\"", kind.last == first {
                    left = .literal(String(kind.dropFirst().dropLast()))
                } else if ["True", "False", "None"].contains(kind) || Int(kind) != nil {
                    left = .literal(kind)
                } else {
                    left = .attribute(kind)
                }
                self = .equal(
                    left,
                    match.hasPrefix("%(") && match.hasSuffix(")s") ? .attribute(String(match.dropFirst(2).dropLast(2))) : .literal(match))
            }
        }
    }

    /// The rules that it refers to.
    var references: Set<String> {
        switch self {
        case .rule(let name): [name]
        case .not(let check): check.references
        case .all(let checks), .any(let checks): checks.reduce(into: []) { $0.formUnion($1.references) }
        default: []
        }
    }

    /// Attributes of the target that it asks for.
    var targetAttributes: Set<String> {
        switch self {
        case .equal(_, .attribute(let name)): [name]
        case .not(let check): check.targetAttributes
        case .all(let checks), .any(let checks): checks.reduce(into: []) { $0.formUnion($1.targetAttributes) }
        default: []
        }
    }

    /// The same with every reference replaced by what it refers to.
    func resolved(_ find: (String) throws(SyntaxError) -> PolicyCheck) throws(SyntaxError) -> PolicyCheck {
        switch self {
        case .rule(let name): return try find(name)
        case .not(let check): return .not(try check.resolved(find))
        case .all(let checks):
            var parts: [PolicyCheck] = []
            for check in checks { parts.append(try check.resolved(find)) }
            return .all(parts)
        case .any(let checks):
            var parts: [PolicyCheck] = []
            for check in checks { parts.append(try check.resolved(find)) }
            return .any(parts)
        default: return self
        }
    }
}
