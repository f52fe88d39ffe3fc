import CDriver
import Glibc

/// A type of option values.
public protocol DriverOptionValue: Sendable {
    static var optionType: clinker_option_type { get }
    /// Parses a value; nil if the text is not valid.
    static func parse(_ text: String) -> Self?
    /// The rule for texts, to be put after "must be".
    static var rule: String { get }
    var optionText: String { get }
    /// The value that limits apply to; nil for types without an order.
    var magnitude: Double? { get }
}

/// The declaration of an option of the backend's section: `open` reads it by ``Call/subscript(_:)``, and the driver's
/// table names it, so that `clinker config check` knows a misspelt name and a wrong value.
public struct DriverOption<T: DriverOptionValue>: Sendable {
    let name: String
    let standard: T
    let range: ClosedRange<Int>?
    let choices: [String]
    let isSecret: Bool
    let help: String

    /// - Parameters:
    ///   - range: limits of a number.
    ///   - choices: allowed texts, compared case-insensitively.
    public init(
        _ name: String, default standard: T, in range: ClosedRange<Int>? = nil, choices: [String] = [], isSecret: Bool = false, help: String
    ) {
        self.name = name
        self.standard = standard
        self.range = range
        self.choices = choices
        self.isSecret = isSecret
        self.help = help
    }

    /// The declaration for the driver's table.
    public var declaration: DriverOptionDeclaration {
        DriverOptionDeclaration(
            name: name, type: isSecret ? CLINKER_OPTION_SECRET : T.optionType, range: range, choices: choices,
            standard: standard.optionText,
            help: help)
    }
}

/// The declaration of an option without its type.
public struct DriverOptionDeclaration: Sendable {
    let name: String
    let type: clinker_option_type
    let range: ClosedRange<Int>?
    let choices: [String]
    let standard: String
    let help: String

    /// Declares options that have no effect, with the reasons; an operator who sets one is told.
    public static func withoutEffect(_ reasons: KeyValuePairs<String, String>) -> [DriverOptionDeclaration] {
        reasons.map { name, reason in
            DriverOptionDeclaration(
                name: name, type: CLINKER_OPTION_UNUSED, range: nil, choices: [], standard: "", help: reason)
        }
    }

    /// Declarations as the table of a plugin has them; never freed.
    static func table(_ options: [DriverOptionDeclaration]) -> UnsafePointer<clinker_option> {
        let items = UnsafeMutablePointer<clinker_option>.allocate(capacity: max(1, options.count))
        for (index, option) in options.enumerated() { (items + index).initialize(to: option.option) }
        return UnsafePointer(items)
    }

    /// The declarations in C; never freed.
    var option: clinker_option {
        func kept(_ text: String) -> UnsafePointer<CChar>? { text.isEmpty ? nil : UnsafePointer(strdup(text)) }
        return clinker_option(
            name: kept(name), type: type.rawValue, reserved: 0, minimum: Double(range?.lowerBound ?? 0),
            maximum: Double(range?.upperBound ?? 0), choices: kept(choices.joined(separator: ",")), standard: kept(standard),
            help: kept(help))
    }
}

// Options of the backend's section, which `open` gets as text. An invalid value leaves the backend down, with a message that names the
// option and the rule.
extension Call {
    /// The option's value, or its default.
    public subscript<T>(option: DriverOption<T>) -> T {
        get throws { try given(option) ?? option.standard }
    }

    /// The option's value; nil if it is not set or empty.
    public func given<T>(_ option: DriverOption<T>) throws -> T? {
        guard let text = self.option(option.name) else { return nil }
        guard let value = T.parse(text) else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(option.name) must be \(T.rule), not '\(text)'")
        }
        if let range = option.range, let magnitude = value.magnitude,
            magnitude < Double(range.lowerBound) || magnitude > Double(range.upperBound)
        {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "\(option.name) must be between \(range.lowerBound) and \(range.upperBound), not \(text)")
        }
        if !option.choices.isEmpty, !option.choices.contains(where: { $0.lowercased() == text.lowercased() }) {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "\(option.name) must be one of \(option.choices.joined(separator: ", ")), not '\(text)'")
        }
        return value
    }

    /// The first MiB of the file that the option names; nil if the option is not set.
    public func file(_ option: DriverOption<String>) throws -> String? { try fileOption(option.name) }

    /// A text option; nil if it is not set or empty.
    public func option(_ name: String) -> String? {
        guard let value = string(name), !value.isEmpty else { return nil }
        return value
    }

    public func option(_ name: String, default otherwise: Int, in range: ClosedRange<Int> = 0...Int.max) throws -> Int {
        guard let text = option(name) else { return otherwise }
        guard let value = Int(text), range.contains(value) else {
            let most = range.upperBound == Int.max ? " or more" : " to \(range.upperBound)"
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name) must be a whole number from \(range.lowerBound)\(most), not '\(text)'")
        }
        return value
    }

    public func option(_ name: String, default otherwise: Bool) throws -> Bool {
        guard let text = option(name) else { return otherwise }
        guard let value = Bool.parse(text) else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name) must be \(Bool.rule), not '\(text)'")
        }
        return value
    }

    /// The first MiB of the file that an option names; nil if the option is not set. A file that others can write is refused, since it
    /// decides where volumes are stored.
    public func fileOption(_ name: String) throws -> String? {
        guard let path = option(name) else { return nil }
        guard let file = fopen(path, "re") else { throw DriverError.last(CLINKER_BAD_CONFIGURATION, "\(name): \(path) cannot be read") }
        defer { fclose(file) }
        var info = stat()
        guard fstat(fileno(file), &info) == 0, info.st_uid == 0 || info.st_uid == geteuid() else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "\(name): \(path) belongs to user \(info.st_uid), not to root or the service's user: chown \(geteuid()) \(path)")
        }
        guard info.st_mode & 0o002 == 0, info.st_mode & 0o020 == 0 || info.st_gid == 0 || info.st_gid == getegid() else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name): \(path) can be written by others: chmod go-w \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}

extension String: DriverOptionValue {
    public static var optionType: clinker_option_type { CLINKER_OPTION_TEXT }
    public static var rule: String { "a text" }
    public static func parse(_ text: String) -> String? { text }
    public var optionText: String { self }
    public var magnitude: Double? { nil }
}

extension Int: DriverOptionValue {
    public static var optionType: clinker_option_type { CLINKER_OPTION_INTEGER }
    public static var rule: String { "a whole number" }
    public static func parse(_ text: String) -> Int? { Int(text) }
    public var optionText: String { String(self) }
    public var magnitude: Double? { Double(self) }
}

extension Double: DriverOptionValue {
    public static var optionType: clinker_option_type { CLINKER_OPTION_REAL }
    public static var rule: String { "a number" }
    public static func parse(_ text: String) -> Double? { Double(text).flatMap { $0.isFinite ? $0 : nil } }
    public var optionText: String { self == rounded() && abs(self) < 1e15 ? String(Int(self)) : String(self) }
    public var magnitude: Double? { self }
}

extension Bool: DriverOptionValue {
    public static var optionType: clinker_option_type { CLINKER_OPTION_BOOLEAN }
    public static var rule: String { "true or false" }
    public static func parse(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "true", "yes", "on", "t", "y", "1": true
        case "false", "no", "off", "f", "n", "0": false
        default: nil
        }
    }
    public var optionText: String { self ? "true" : "false" }
    public var magnitude: Double? { nil }
}
