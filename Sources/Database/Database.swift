import Primitives
import Synchronization

/// A statement known at compile time. Each connection prepares it once and finds it again by its number.
public final class SQL: Sendable {
    public let text: String
    let number: Int
    private static let next = Atomic<Int>(0)

    public init(_ text: String) {
        self.text = text
        number = Self.next.wrappingAdd(1, ordering: .relaxed).oldValue
    }
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

/// The current row of a query; valid only inside the closure that received it. Columns count from 0.
public protocol Row: AnyObject {
    /// UTF-8 of a text column, nil for NULL; valid until the next row.
    func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>?
    func integer(_ column: Int) -> Int64
    func real(_ column: Int) -> Double
    func isNull(_ column: Int) -> Bool
}

extension Row {
    public func int(_ column: Int) -> Int { Int(integer(column)) }
    public func bool(_ column: Int) -> Bool { integer(column) != 0 }
    public func text(_ column: Int) -> String { bytes(column).map { String(decoding: $0, as: UTF8.self) } ?? "" }
    public func optionalText(_ column: Int) -> String? { bytes(column).map { String(decoding: $0, as: UTF8.self) } }
    public func optionalInt(_ column: Int) -> Int? { isNull(column) ? nil : int(column) }
}

/// Runs statements; lent to a closure, used on its thread only, never kept.
public protocol Connection: AnyObject {
    /// Calls `each` for every row, until it returns false.
    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws
    /// The same for a statement composed at run time; cached by its text.
    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws
}

extension Connection {
    public func rows<T>(_ sql: SQL, _ values: Value..., map: (any Row) throws -> T) throws -> [T] {
        var result: [T] = []
        try query(sql, values) {
            result.append(try map($0))
            return true
        }
        return result
    }

    /// The first row, or nil.
    public func first<T>(_ sql: SQL, _ values: Value..., map: (any Row) throws -> T) throws -> T? {
        var result: T?
        try query(sql, values) {
            result = try map($0)
            return false
        }
        return result
    }

    public func exists(_ sql: SQL, _ values: Value...) throws -> Bool {
        var found = false
        try query(sql, values) { _ in
            found = true
            return false
        }
        return found
    }
}

/// A writing transaction: one savepoint inside the commit that it shares with others.
public protocol Transaction: Connection {
    /// Runs a statement that changes rows and returns how many it changed.
    @discardableResult
    func run(_ sql: SQL, _ values: [Value]) throws -> Int
    @discardableResult
    func run(text: String, _ values: [Value]) throws -> Int
    /// Called once, on the writer's thread, after the change is on stable storage; not at all if it is undone.
    func onCommit(_ action: @escaping @Sendable () -> Void)
}

extension Transaction {
    @discardableResult
    public func run(_ sql: SQL, _ values: Value...) throws -> Int { try run(sql, values) }
}

/// What a read may cost before it is given up with a `DatabaseError` of the kind `tooLong`.
public enum ReadLimit: Sendable, Equatable {
    case none
    /// So many steps of the database's machine: the same work, however busy the processor is.
    case steps(Int)
    case seconds(Double)
}

/// A database: pooled readers, and one writer that joins concurrent changes into one commit.
public protocol Database: Sendable {
    /// Lends a reading connection. All statements of the closure see one state of the database.
    func read<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T
    /// Runs a change and returns when it is on stable storage. An error of the closure undoes its change alone.
    func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T
    /// Brings the schema up to date. Refuses a database of a later release and one whose history differs.
    func migrate(_ migrations: [Migration]) async throws
    /// Finishes what was accepted and closes.
    func close()
}

extension Database {
    /// A read that nothing from outside can make long.
    public func read<T>(_ body: (any Connection) throws -> T) throws -> T { try read(.none, body) }
}

/// What the database engine said.
public struct DatabaseError: Error, CustomStringConvertible, Sendable {
    public enum Kind: Sendable { case constraint, full, corrupt, readOnly, io, unusable, tooLong, busy, other }
    public let kind: Kind
    public let message: String
    public let sql: String?
    public init(kind: Kind, message: String, sql: String? = nil) {
        self.kind = kind
        self.message = message
        self.sql = sql
    }
    public var description: String { sql.map { "\(message) in: \($0)" } ?? message }
}
