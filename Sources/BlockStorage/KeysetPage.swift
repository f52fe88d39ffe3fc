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
        // Mixed directions: equal in the first n keys, beyond in the next.
        var alternatives: [String] = []
        var values: [Value] = []
        for index in keys.indices {
            var terms = keys[..<index].map { "\($0.sql) = ?" }
            terms.append("\(keys[index].sql) \(keys[index].ascending ? ">" : "<") ?")
            alternatives.append("(" + terms.joined(separator: " AND ") + ")")
            values += place[...index]
        }
        return ("(" + alternatives.joined(separator: " OR ") + ")", values)
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

    /// The column holds the text somewhere; no character of the text is a pattern.
    mutating func add(_ column: String, contains text: String) {
        add("\(column) LIKE ? ESCAPE '\\'", .text("%" + text.map { "%_\\".contains($0) ? "\\\($0)" : String($0) }.joined() + "%"))
    }

    /// ` WHERE ...`, or nothing.
    var whereClause: String { sql.isEmpty ? "" : " WHERE " + sql.joined(separator: " AND ") }
}
