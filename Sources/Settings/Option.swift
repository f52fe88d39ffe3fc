import Observability
public import Primitives

/// A type of option values.
public protocol OptionValue: Sendable {
    /// The name shown by `clinker config options`.
    static var typeName: String { get }
    /// - Throws: the broken rule, to be put after the option's name.
    static func parse(_ text: String) throws(OptionProblem) -> Self
    /// The value as it is written in a file.
    var text: String { get }
    /// The value that limits apply to; nil for types without an order.
    var magnitude: Double? { get }
}

public struct OptionProblem: Error { let text: String }

/// An option whatever its type.
protocol DeclaredOption {
    var declaration: OptionDeclaration { get }
}

/// The declaration of a configuration option: section, name, type, default, limits and help.
public struct Option<T: OptionValue>: Sendable, DeclaredOption {
    public let declaration: OptionDeclaration
    public let defaultValue: T

    public init(
        _ name: String, in section: OptionSection = .group("DEFAULT"), default defaultValue: T, range: ClosedRange<Double>? = nil,
        choices: [String]? = nil, rule: OptionRule? = nil, reloadable: Bool = false, help: String
    ) {
        self.defaultValue = defaultValue
        declaration = OptionDeclaration(
            section: section, name: name, typeName: T.typeName, defaultText: defaultValue.text, range: range, choices: choices,
            isReloadable: reloadable, help: help,
            check: { text throws(OptionProblem) in
                let value = try T.parse(text)
                if let range, let magnitude = value.magnitude, !range.contains(magnitude) {
                    throw OptionProblem(text: "must be between \(number(range.lowerBound)) and \(number(range.upperBound)), not \(text)")
                }
                if let choices, !choices.contains(text) {
                    throw OptionProblem(text: "must be one of \(choices.joined(separator: ", ")), not '\(text)'")
                }
                if let rule, !rule.isKept(text) { throw OptionProblem(text: "must be \(rule.words), not '\(text)'") }
            })
    }
}

/// A rule for texts beyond type and limits.
public struct OptionRule: Sendable {
    let words: String
    let isKept: @Sendable (String) -> Bool

    public static let httpURL = OptionRule(words: "a URL such as https://host:port/path") { text in
        guard !text.isEmpty else { return true }
        let rest = text.hasPrefix("http://") ? text.dropFirst(7) : text.hasPrefix("https://") ? text.dropFirst(8) : ""
        let host = rest.utf8.prefix { $0 != UInt8(ascii: "/") }
        return !host.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "<") }
    }
    public static let logFacility = OptionRule(words: "one of " + LogFacility.names.joined(separator: ", ")) { LogFacility($0) != nil }
    public static let ratioOrAuto = OptionRule(words: "a number of 1 or more, or auto") { text in
        text == "auto" || (Double(text).map { $0.isFinite && $0 >= 1 } ?? false)
    }
}

/// The section of an option: a named one, the section of every backend, or that of every store of backups.
public enum OptionSection: Sendable, Equatable {
    case group(String)
    case backend
    /// [DEFAULT] gives the value where the store's section does not.
    case store
}

/// The declaration of an option without its type.
public struct OptionDeclaration: Sendable {
    public let section: OptionSection
    public let name: String
    public let typeName: String
    public let defaultText: String
    public let range: ClosedRange<Double>?
    public let choices: [String]?
    public let isReloadable: Bool
    public let help: String
    let check: @Sendable (String) throws(OptionProblem) -> Void

    /// The type of an option that a driver declares only to say that it has no effect; its help is why.
    public static let unused = "without effect"

    /// Creates the declaration of a driver's option.
    public static func ofDriver(
        _ name: String, typeName: String, defaultText: String, range: ClosedRange<Double>?, choices: [String]?, help: String
    ) -> OptionDeclaration {
        OptionDeclaration(
            section: .backend, name: name, typeName: typeName, defaultText: defaultText, range: range, choices: choices,
            isReloadable: false, help: help,
            check: { text throws(OptionProblem) in
                guard !text.isEmpty else { return }
                var magnitude: Double?
                switch typeName {
                case Int.typeName: magnitude = try Int.parse(text).magnitude
                case Double.typeName: magnitude = try Double.parse(text).magnitude
                case Bool.typeName: _ = try Bool.parse(text)
                default: break
                }
                if let range, let magnitude, !range.contains(magnitude) {
                    throw OptionProblem(text: "must be between \(number(range.lowerBound)) and \(number(range.upperBound)), not \(text)")
                }
                if let choices, !choices.contains(where: { $0.lowercased() == text.lowercased() }) {
                    throw OptionProblem(text: "must be one of \(choices.joined(separator: ", ")), not '\(text)'")
                }
            })
    }

    /// What is wrong with a value; nil if nothing is.
    public func problem(ofValue text: String) -> String? {
        do throws(OptionProblem) { try check(text) } catch { return "\(name) \(error.text)" }
        return nil
    }

    public var sectionName: String {
        switch section {
        case .group(let name): name
        case .backend: "<backend>"
        case .store: "<backup store>"
        }
    }

    /// A description of the limits; empty if there are none.
    public var limits: String {
        if let choices { return "one of " + choices.joined(separator: ", ") }
        if let range { return "\(number(range.lowerBound)) to \(number(range.upperBound))" }
        return ""
    }
}

func number(_ value: Double) -> String { value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value) }

extension String: OptionValue {
    public static var typeName: String { "text" }
    public static func parse(_ text: String) -> String { text }
    public var text: String { self }
    public var magnitude: Double? { nil }
}

extension Int: OptionValue {
    public static var typeName: String { "integer" }
    public static func parse(_ text: String) throws(OptionProblem) -> Int {
        guard let value = Int(text) else { throw OptionProblem(text: "must be an integer, not '\(text)'") }
        return value
    }
    public var text: String { String(self) }
    public var magnitude: Double? { Double(self) }
}

extension Double: OptionValue {
    public static var typeName: String { "number" }
    public static func parse(_ text: String) throws(OptionProblem) -> Double {
        guard let value = Double(text), value.isFinite else { throw OptionProblem(text: "must be a number, not '\(text)'") }
        return value
    }
    public var text: String { number(self) }
    public var magnitude: Double? { self }
}

extension Bool: OptionValue {
    public static var typeName: String { "boolean" }
    public static func parse(_ text: String) throws(OptionProblem) -> Bool {
        guard let value = Bool(word: text) else { throw OptionProblem(text: "must be true or false, not '\(text)'") }
        return value
    }
    public var text: String { self ? "true" : "false" }
    public var magnitude: Double? { nil }
}

extension [String]: OptionValue {
    public static var typeName: String { "list" }
    public static func parse(_ text: String) -> [String] {
        text.split(whereSeparator: { $0 == "," || $0 == "\n" }).map { item in
            String(item.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }.filter { !$0.isEmpty }
    }
    public var text: String { joined(separator: ",") }
    public var magnitude: Double? { nil }
}

extension Secret: OptionValue {
    public static var typeName: String { "secret" }
    public static func parse(_ text: String) -> Secret { Secret(text) }
    public var text: String { "" }
    public var magnitude: Double? { nil }
}
