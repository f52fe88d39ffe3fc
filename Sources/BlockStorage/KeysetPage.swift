import Database

/// Pages found by key, not by counting: a deep page costs what the first one does. The order of a list, and the condition
/// that its rows stand behind the marker's.
struct KeysetPage: Sendable {
    struct Key: Sendable {
        /// The expression sorted by; never NULL.
        let sql: String
        let ascending: Bool
        var isInteger = false
    }

    let table: String
    let keys: [Key]

    /// The keys asked for, then those that break ties, which take the first direction.
    init(table: String, asked: [Key], ties: [String]) {
        self.table = table
        let first = asked.first?.ascending ?? false
        keys = asked + ties.filter { tie in !asked.contains { $0.sql == tie } }.map { Key(sql: $0, ascending: first) }
    }

    /// Rows that may be passed over in no time.
    static let shortOffset = 1000

    /// The page's rows. Where they must be sorted (`isOrdered` is false), they are found by their numbers first: only what is sorted by is kept meanwhile.
    func statement(
        _ select: String, rowID: String, _ conditions: Conditions, isOrdered: Bool, limit: Int, offset: Int
    ) -> (text: String, values: [Value]) {
        let values = conditions.values + [.int(limit), .int(offset)]
        let page = conditions.whereClause + " ORDER BY \(orderBy) LIMIT ? OFFSET ?"
        if isOrdered { return (select + page, values) }
        return (select + " WHERE \(rowID) IN (SELECT \(rowID) FROM \(table)\(page)) ORDER BY \(orderBy)", values)
    }

    var orderBy: String { keys.map { "\($0.sql) \($0.ascending ? "ASC" : "DESC")" }.joined(separator: ", ") }

    /// The condition for rows behind the one of that id (named by `idColumn`); nil if no such row meets `scope`.
    func behind(_ id: String, idColumn: String, scope: (sql: String, values: [Value])?, in connection: any Connection) throws
        -> (sql: String, values: [Value])?
    {
        let columns = keys.map(\.sql).joined(separator: ", ")
        var place: [Value]?
        try connection.query(
            text: "SELECT \(columns) FROM \(table) WHERE \(idColumn) = ?" + (scope.map { " AND \($0.sql)" } ?? ""),
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
        return ("(\(first.sql) \(first.ascending ? ">=" : "<=") ? AND CASE\(choices) ELSE 0 END)", values)
    }
}

/// Conditions joined by AND, with their values.
struct Conditions {
    private(set) var sql: [String] = []
    private(set) var values: [Value] = []

    mutating func add(_ condition: String, _ more: Value...) { add(condition, more) }
    mutating func add(_ condition: String, _ more: [Value]) {
        sql.append(condition)
        values += more
    }

    /// ` WHERE ...`, or nothing.
    var whereClause: String { sql.isEmpty ? "" : " WHERE " + sql.joined(separator: " AND ") }
}
