import Primitives

/// A table, declared once: a subclass has its columns as `let` properties, in any order, the joined ones behind its own.
///
///     final class ShelfTable: Table, @unchecked Sendable {
///         static let table = ShelfTable("shelves", "s").declared()
///         let id = Column<String>("id"), width = Column<Int?>("width")
///     }
///
/// Reading rows, INSERT, UPDATE and DELETE derive from it. A statement is composed when it is first used with these columns, and
/// found again by them from then on.
open class Table: @unchecked Sendable {
    public let tableName: String
    public let tableAlias: String
    private let joins: String
    // Written once, by `declared`.
    public private(set) final var columns: [AnyColumn] = []
    private final var selectClause = ""
    private final var byName: [String: AnyColumn] = [:]

    /// What a composed statement depends on.
    private struct Key: Hashable {
        enum Kind: UInt8 { case insert, update, delete, select }
        let kind: Kind
        /// Bits of the columns that are set, and of those that conditions are about.
        let set: UInt64
        let conditions: UInt64
    }
    private let composed = Guarded<[Key: SQL]>([:])

    /// `joins`: `JOIN ...`, for columns of other tables.
    public init(_ name: String, _ alias: String, joins: String = "") {
        tableName = name
        tableAlias = alias
        self.joins = joins.isEmpty ? "" : " " + joins
    }

    /// Finds the declared columns and gives each its place.
    public final func declared() -> Self {
        columns = Mirror(reflecting: self).children.compactMap { $0.value as? AnyColumn }
        precondition(!columns.isEmpty && columns.count <= 64, "a table has up to 64 columns")
        for (position, column) in columns.enumerated() { column.take(position: position, alias: tableAlias) }
        for column in columns where column.joined == nil { byName[column.name] = column }
        selectClause = clause(columns)
        return self
    }

    /// `SELECT all columns FROM the table with its joins`, and what follows it. The columns' names stand behind the table's alias.
    public final func select(_ rest: String) -> String { rest.isEmpty ? selectClause : selectClause + " " + rest }

    /// The same of those columns only that are declared before another one. To read that one, or one behind it, from such a row is an error.
    public final func select(before last: AnyColumn) -> String { clause(columns.prefix(last.position)) }

    private func clause(_ columns: some Sequence<AnyColumn>) -> String {
        let joins = columns.contains { $0.joined != nil } ? joins : ""
        return "SELECT \(columns.map(\.sql).joined(separator: ", ")) FROM \(source)\(joins)"
    }

    /// The same as `select`, for reading and locking rows of the table.
    public final func selectLocked(_ rest: String, _ dialect: any Dialect) -> String { dialect.locking(select(rest), alias: tableAlias) }

    /// The table's own column of that name.
    public final func column(_ name: String) -> AnyColumn {
        guard let column = byName[name] else { preconditionFailure("\(tableName) has no column \(name)") }
        return column
    }

    /// The table with its alias, for statements that do not select its columns.
    public final var source: String { "\(tableName) \(tableAlias)" }

    // MARK: statements

    private final func statement(_ kind: Key.Kind, _ set: UInt64, _ conditions: UInt64, _ compose: () -> String) -> SQL {
        composed.withLock { composed in
            let key = Key(kind: kind, set: set, conditions: conditions)
            if let known = composed[key] { return known }
            let sql = SQL(compose())
            composed[key] = sql
            return sql
        }
    }

    /// Bits of the columns, and their values in the order of the bits.
    private final func ordered(_ assignments: [Assignment]) -> (bits: UInt64, assignments: [Assignment]) {
        var bits: UInt64 = 0
        var last = -1
        var isOrdered = true
        for assignment in assignments {
            let position = assignment.column.position
            precondition(position >= 0 && columns[position] === assignment.column, "\(assignment.column.name) is no column of \(tableName)")
            precondition(bits & 1 << UInt64(position) == 0, "\(assignment.column.name) is given twice")
            bits |= 1 << UInt64(position)
            if position < last { isOrdered = false }
            last = position
        }
        return (bits, isOrdered ? assignments : assignments.sorted { $0.column.position < $1.column.position })
    }

    private static func list(_ assignments: [Assignment], _ text: (AnyColumn) -> String, _ separator: String) -> String {
        assignments.map { text($0.column) }.joined(separator: separator)
    }

    final func insertion(_ assignments: [Assignment]) -> (SQL, [Value]) {
        let (bits, set) = ordered(assignments)
        let sql = statement(.insert, bits, 0) {
            "INSERT INTO \(tableName) (\(Self.list(set, \.name, ", "))) VALUES (\(Self.list(set, { _ in "?" }, ", ")))"
        }
        return (sql, set.map(\.value))
    }

    final func update(_ assignments: [Assignment], where conditions: [Assignment]) -> (SQL, [Value]) {
        let (bits, set) = ordered(assignments)
        let (conditionBits, conditions) = ordered(conditions)
        let sql = statement(.update, bits, conditionBits) {
            "UPDATE \(tableName) SET \(Self.list(set, { $0.name + " = ?" }, ", ")) WHERE \(Self.list(conditions, { $0.name + " = ?" }, " AND "))"
        }
        return (sql, set.map(\.value) + conditions.map(\.value))
    }

    final func deletion(where conditions: [Assignment]) -> (SQL, [Value]) {
        let (bits, conditions) = ordered(conditions)
        let sql = statement(.delete, 0, bits) { "DELETE FROM \(tableName) WHERE \(Self.list(conditions, { $0.name + " = ?" }, " AND "))" }
        return (sql, conditions.map(\.value))
    }

    final func selection(where conditions: [Assignment]) -> (SQL, [Value]) {
        let (bits, conditions) = ordered(conditions)
        let sql = statement(.select, 0, bits) { select("WHERE " + Self.list(conditions, { $0.sql + " = ?" }, " AND ")) }
        return (sql, conditions.map(\.value))
    }
}

extension Connection {
    /// The first row with these values, or nil.
    public func first<T>(of table: Table, _ conditions: Assignment..., map: (any Row) throws -> T) throws -> T? {
        let (sql, values) = table.selection(where: conditions)
        var result: T?
        try query(sql, values) {
            result = try map($0)
            return false
        }
        return result
    }

    /// The rows with these values, in no order.
    public func rows<T>(of table: Table, _ conditions: Assignment..., map: (any Row) throws -> T) throws -> [T] {
        let (sql, values) = table.selection(where: conditions)
        var result: [T] = []
        try query(sql, values) {
            result.append(try map($0))
            return true
        }
        return result
    }
}

extension Transaction {
    public func insert(into table: Table, _ assignments: Assignment...) throws {
        let (sql, values) = table.insertion(assignments)
        try run(sql, values)
    }

    /// Sets the columns of the rows with these values; returns how many there were.
    @discardableResult
    public func update(_ table: Table, _ conditions: Assignment..., set assignments: Assignment...) throws -> Int {
        let (sql, values) = table.update(assignments, where: conditions)
        return try run(sql, values)
    }

    /// Removes the rows with these values; returns how many there were.
    @discardableResult
    public func delete(from table: Table, _ conditions: Assignment...) throws -> Int {
        let (sql, values) = table.deletion(where: conditions)
        return try run(sql, values)
    }
}
