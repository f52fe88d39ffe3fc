import Database

/// Pages found by key, not by counting: a deep page costs what the first one does. The order of a list, and the condition
/// that its rows stand behind the marker's.
struct KeysetPage: Sendable {
    struct Key: Sendable {
        /// The expression sorted by; never NULL.
        let sql: String
        let ascending: Bool
        var isInteger = false

        init(sql: String, ascending: Bool, isInteger: Bool = false) {
            self.sql = sql
            self.ascending = ascending
            self.isInteger = isInteger
        }

        init(_ column: AnyColumn, ascending: Bool) {
            self.init(sql: column.sortable, ascending: ascending, isInteger: column.storage.kind != .text)
        }

        static func newest(_ createdAt: AnyColumn) -> Key { Key(createdAt, ascending: false) }
    }

    private let table: Table
    private let keys: [Key]
    /// The keys with their directions.
    private let orderBy: String

    /// The keys asked for, then those that break ties, which take the first direction.
    init(_ table: Table, asked: [Key], ties: [AnyColumn]) {
        self.table = table
        let first = asked.first?.ascending ?? false
        keys = asked + ties.map { Key($0, ascending: first) }.filter { tie in !asked.contains { $0.sql == tie.sql } }
        orderBy = keys.map { "\($0.sql) \($0.ascending ? "ASC" : "DESC")" }.joined(separator: ", ")
    }

    /// Rows that may be passed over in no time.
    static let shortOffset = 1000

    /// The statement that selects the page. `isOrdered`: indexes give the rows in the order.
    func statement(
        _ conditions: Conditions, select: String? = nil, isOrdered: Bool, limit: Int, offset: Int, _ dialect: any Dialect
    ) -> (text: String, values: [Value]) {
        let select = select ?? table.select("")
        var values = conditions.values
        values.append(.int(limit))
        values.append(.int(offset))
        // In one allocation: this is done for every page.
        var text = ""
        text.reserveCapacity(select.utf8.count + conditions.whereClause.utf8.count + orderBy.utf8.count + 32)
        if isOrdered { text += select }
        text += conditions.whereClause
        text += " ORDER BY "
        text += orderBy
        text += " LIMIT ? OFFSET ?"
        if isOrdered { return (text, values) }
        return (dialect.sortedPage(select, of: table.source, alias: table.tableAlias, rest: text, orderBy: orderBy), values)
    }

    /// The page's rows.
    func rows<T>(
        _ conditions: Conditions, select: String? = nil, isOrdered: Bool, limit: Int, offset: Int, in connection: any Connection,
        map: (any Row) throws -> T
    ) throws -> [T] {
        let (text, values) = statement(conditions, select: select, isOrdered: isOrdered, limit: limit, offset: offset, connection.dialect)
        var result: [T] = []
        try connection.query(text: text, values) {
            result.append(try map($0))
            return true
        }
        return result
    }

    /// The condition for rows behind the one of that id; nil if no such row meets `scope`.
    func behind(_ id: String, scope: (sql: String, values: [Value])?, in connection: any Connection) throws
        -> (sql: String, values: [Value])?
    {
        let columns = keys.map(\.sql).joined(separator: ", ")
        var place: [Value]?
        try connection.query(
            text: "SELECT \(columns) FROM \(table.source) WHERE \(table.column("id").sql) = ?" + (scope.map { " AND \($0.sql)" } ?? ""),
            [.text(id)] + (scope?.values ?? [])
        ) { row in
            place = keys.indices.map { keys[$0].isInteger ? .integer(row.integer($0)) : .text(row.text($0)) }
            return false
        }
        guard let place else { return nil }
        if keys.allSatisfy({ $0.ascending == keys[0].ascending }) {
            let marks = keys.map { _ in "?" }.joined(separator: ", ")
            return ("(\(columns)) \(keys[0].ascending ? ">" : "<") (\(marks))", place)
        }
        // Mixed directions: the first key that differs decides. A choice is no longer than the keys are many, and the database
        // does not multiply it out; what an index can serve, the first key's bound, stands before it.
        let first = keys[0]
        var values = [place[0]]
        var choices = ""
        for (key, value) in zip(keys, place) {
            choices += " WHEN \(key.sql) <> ? THEN \(key.sql) \(key.ascending ? ">" : "<") ?"
            values += [value, value]
        }
        return ("(\(first.sql) \(first.ascending ? ">=" : "<=") ? AND CASE\(choices) ELSE \(connection.dialect.never) END)", values)
    }
}

/// Conditions joined by AND, with their values.
struct Conditions {
    /// ` WHERE ...`, or nothing.
    private(set) var whereClause = ""
    private(set) var values: [Value] = []

    mutating func add(_ condition: String, _ more: Value...) { add(condition, more) }
    mutating func add(_ condition: String, _ more: [Value]) {
        begin()
        whereClause += condition
        values += more
    }

    /// The column holds the value.
    mutating func add(_ column: AnyColumn, is value: Value) {
        begin()
        whereClause += column.sql
        whereClause += " = ?"
        values.append(value)
    }

    private mutating func begin() {
        if whereClause.isEmpty {
            whereClause.reserveCapacity(64)
            // Of what follows, and of a page's limit and offset.
            values.reserveCapacity(4)
        }
        whereClause += whereClause.isEmpty ? " WHERE " : " AND "
    }
}
