public import Primitives

/// A type that an option can have.
public protocol OptionValue: Sendable {
    /// The name shown by `clinker config options`.
    static var typeName: String { get }
    /// Throws what is wrong, to be put behind the option's name.
    static func parse(_ text: String) throws(OptionProblem) -> Self
    /// The value as it stands in a file.
    var text: String { get }
    /// The value for limits; nil for types without an order.
    var magnitude: Double? { get }
}

public struct OptionProblem: Error { let text: String }

/// One configuration option: its place, name, type, default, limits and help, said once.
public struct Option<T: OptionValue>: Sendable {
    public let declaration: OptionDeclaration
    public let defaultValue: T

    public init(
        _ name: String, in section: OptionSection = .group("DEFAULT"), default defaultValue: T, range: ClosedRange<Double>? = nil,
        choices: [String]? = nil, reloadable: Bool = false, help: String
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
            })
    }
}

/// Where an option stands: in a section of its own name, or in the section of every backend.
public enum OptionSection: Sendable, Equatable {
    case group(String)
    case backend
}

/// What is known of an option whatever its type.
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

    public var sectionName: String { if case .group(let name) = section { name } else { "<backend>" } }

    /// The limits in words, empty if there are none.
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
        switch text.lowercased() {
        case "true", "1", "yes", "on": return true
        case "false", "0", "no", "off": return false
        default: throw OptionProblem(text: "must be true or false, not '\(text)'")
        }
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
