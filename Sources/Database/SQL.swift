import Synchronization

/// A statement known at start. Each connection prepares it once, in its engine's dialect, and finds it again by its number.
public final class SQL: Sendable {
    let compose: @Sendable (any Dialect) -> String
    let number: Int
    private static let next = Atomic<Int>(0)

    public convenience init(_ text: String) { self.init { _ in text } }

    /// A statement that engines say differently.
    public init(_ compose: @escaping @Sendable (any Dialect) -> String) {
        self.compose = compose
        number = Self.next.wrappingAdd(1, ordering: .relaxed).oldValue
    }

    /// The statement as an engine is told it.
    public func text(in dialect: any Dialect) -> String { compose(dialect) }
}

/// A value bound to a statement. Times and UUIDs are text in the one representation of `Timestamp` and `UUID`, truth is 0 or 1.
public enum Value: Sendable {
    case null
    case integer(Int64)
    case real(Double)
    case text(String)

    public static func int(_ value: Int?) -> Value { value.map { .integer(Int64($0)) } ?? .null }
    public static func bool(_ value: Bool) -> Value { .integer(value ? 1 : 0) }
    public static func string(_ value: String?) -> Value { value.map { .text($0) } ?? .null }
}
