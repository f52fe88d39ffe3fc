public import Primitives

/// What a column may hold, as Swift's own types.
public protocol ColumnValue: Sendable {
    static func read(_ row: any Row, _ column: Int) -> Self
    /// As it is bound to a statement.
    var bound: Value { get }
    /// How the database keeps it, and whether it may be NULL.
    static var storage: ColumnStorage { get }
}

public struct ColumnStorage: Sendable, Equatable {
    public enum Kind: Sendable { case text, integer, boolean }
    public let kind: Kind
    public let isNullable: Bool

    public init(kind: Kind, isNullable: Bool = false) {
        self.kind = kind
        self.isNullable = isNullable
    }
}

extension String: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> String { row.text(column) }
    public var bound: Value { .text(self) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .text) }
}

extension Int: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> Int { row.int(column) }
    public var bound: Value { .integer(Int64(self)) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .integer) }
}

extension Int64: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> Int64 { row.integer(column) }
    public var bound: Value { .integer(self) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .integer) }
}

extension Bool: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> Bool { row.bool(column) }
    public var bound: Value { .bool(self) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .boolean) }
}

extension Secret: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> Secret { Secret(row.text(column)) }
    public var bound: Value { .text(reveal()) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .text) }
}

extension Optional: ColumnValue where Wrapped: ColumnValue {
    public static func read(_ row: any Row, _ column: Int) -> Wrapped? { row.isNull(column) ? nil : Wrapped.read(row, column) }
    public var bound: Value { self?.bound ?? .null }
    public static var storage: ColumnStorage { ColumnStorage(kind: Wrapped.storage.kind, isNullable: true) }
}

/// A text that stands for a state or the like. Every text is one: what another release wrote survives.
extension ColumnValue where Self: RawRepresentable, RawValue == String {
    public static func read(_ row: any Row, _ column: Int) -> Self {
        guard let value = Self(rawValue: row.text(column)) else { preconditionFailure("\(Self.self) does not take every text") }
        return value
    }
    public var bound: Value { .text(rawValue) }
    public static var storage: ColumnStorage { ColumnStorage(kind: .text) }
}

/// A column of a table, whatever it holds.
public class AnyColumn: @unchecked Sendable {
    public let name: String
    public let storage: ColumnStorage
    /// The alias of the joined table that it is of; nil: the table's own.
    let joined: String?
    /// Place among the columns of the table's SELECT. Set once, when the table is declared.
    @exclusivity(unchecked) public fileprivate(set) final var position = -1
    /// The column in statements that join: `v.name`.
    @exclusivity(unchecked) public fileprivate(set) final var sql = ""

    fileprivate init(_ name: String, _ storage: ColumnStorage, joined: String?) {
        self.name = name
        self.storage = storage
        self.joined = joined
    }

    /// The column with a place for NULL in the order: before every other value.
    public final var sortable: String {
        guard storage.isNullable else { return sql }
        return storage.kind == .text ? "coalesce(\(sql), '')" : "coalesce(\(sql), -1)"
    }

    final func take(position: Int, alias: String) {
        self.position = position
        sql = "\(joined ?? alias).\(name)"
    }
}

/// A column with the type of its values. `column(value)` is an assignment, or a condition of equality.
public final class Column<V: ColumnValue>: AnyColumn, @unchecked Sendable {
    /// `joined`: the alias of the table that it is of, where that is another one.
    public init(_ name: String, joined: String? = nil) { super.init(name, V.storage, joined: joined) }

    public func callAsFunction(_ value: V) -> Assignment { Assignment(column: self, value: value.bound) }
}

/// A column and its value.
public struct Assignment: Sendable {
    public let column: AnyColumn
    public let value: Value
}

extension Row {
    /// The column's value, of a row that the column's table selected.
    public subscript<V: ColumnValue>(_ column: Column<V>) -> V { V.read(self, column.position) }
    /// UTF-8 of a text column, nil for NULL; valid until the next row.
    public func bytes(_ column: AnyColumn) -> UnsafeBufferPointer<UInt8>? { bytes(column.position) }
    public func isNull(_ column: AnyColumn) -> Bool { isNull(column.position) }
}
