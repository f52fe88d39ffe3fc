/// What engines say differently. Everything else that statements are made of means the same in SQLite, PostgreSQL and MariaDB:
/// `?` for each value in its order, times and UUIDs as text, truth as 0 and 1, row values, CASE, EXISTS.
///
/// Expressions are given as SQL: columns and `?`. A fragment binds its values in the order in which it was given them.
public protocol Dialect: Sendable {
    /// Truth of a comparison of two texts byte by byte holds for columns and values alike; this one is for a pattern: `%` stands for
    /// any text, `_` for any character, and ASCII letters are alike in both cases.
    func matches(_ column: String) -> String
    /// The text of a member of a JSON object, NULL if there is none. Binds the member as `memberPath` gives it.
    func member(of column: String) -> String
    /// The value by which `member` finds the key; nil if it cannot.
    func memberPath(_ key: String) -> Value?
    /// Whether a JSON object of texts has the member with the value. Binds key and value.
    func hasMember(_ column: String) -> String
    /// A column that no index is to be taken for.
    func withoutIndex(_ column: String) -> String
    /// A SELECT that locks the rows of the table under the alias until the transaction ends.
    func locking(_ select: String, alias: String) -> String
    /// Whether a writing transaction locks by every read: nobody else writes meanwhile.
    var readsLock: Bool { get }
    /// The number of the row: later rows of a table have greater ones.
    func rowNumber(_ alias: String) -> String
    /// Conditions that always and never hold.
    var always: String { get }
    var never: String { get }
    /// `INSERT` that leaves or changes the row of the same key. `changes`: columns with what they become; the present value is
    /// `table.column`, the new row's is what `inserted` gives. Empty: the row stays as it is. `rows`: how many at once.
    func upsert(into table: String, columns: [String], key: [String], changes: [(column: String, value: String)], rows: Int) -> String
    /// The column of the row that an `upsert` would have inserted.
    func inserted(_ column: String) -> String
    /// Removes the first rows in an order, a bounded number.
    func deleteFirst(from table: String, key: String, where condition: String, orderBy: String, limit: Int) -> String
    /// A page of rows that must be sorted: `rest` is its condition, its order and its place. The rows are found by their numbers first: only
    /// what is sorted by is kept meanwhile.
    func sortedPage(_ select: String, of source: String, alias: String, rest: String, orderBy: String) -> String
    /// What a SELECT would do, a line for each step: the statement and the column of the lines.
    func explain(_ statement: String) -> (text: String, column: Int)
}

extension Dialect {
    /// One row.
    public func upsert(into table: String, columns: [String], key: [String], changes: [(column: String, value: String)]) -> String {
        upsert(into: table, columns: columns, key: key, changes: changes, rows: 1)
    }

    /// The texts that begin with the value and one of the characters behind it, or are the value alone. Ranges: an index serves them, and no
    /// character of the value is a pattern. Texts are compared byte by byte. Binds what `prefixValues` gives.
    public func isWithin(_ column: String, _ separators: [Character]) -> String {
        "(" + (["\(column) = ?"] + separators.map { _ in "(\(column) > ? AND \(column) < ?)" }).joined(separator: " OR ") + ")"
    }

    public func prefixValues(_ value: String, _ separators: [Character]) -> [Value] {
        [.text(value)]
            + separators.flatMap { separator -> [Value] in
                guard let byte = separator.asciiValue, byte < 0x7F else { preconditionFailure("a separator is one ASCII character") }
                return [.text(value + String(separator)), .text(value + String(UnicodeScalar(byte + 1)))]
            }
    }
}

/// SQLite 3.35 and later.
struct SQLiteDialect: Dialect {
    func matches(_ column: String) -> String { "\(column) LIKE ?" }
    func member(of column: String) -> String { "json_extract(\(column), ?)" }
    func memberPath(_ key: String) -> Value? { key.utf8.contains(UInt8(ascii: "\"")) ? nil : .text("$.\"\(key)\"") }
    func hasMember(_ column: String) -> String { "EXISTS (SELECT 1 FROM json_each(\(column)) m WHERE m.key = ? AND m.value = ?)" }
    func withoutIndex(_ column: String) -> String { "+" + column }
    /// There is one writer.
    func locking(_ select: String, alias: String) -> String { select }
    var readsLock: Bool { true }
    func rowNumber(_ alias: String) -> String { alias.isEmpty ? "rowid" : alias + ".rowid" }
    var always: String { "1" }
    var never: String { "0" }

    func upsert(into table: String, columns: [String], key: [String], changes: [(column: String, value: String)], rows: Int) -> String {
        let row = "(" + columns.map { _ in "?" }.joined(separator: ", ") + ")"
        let values = Array(repeating: row, count: rows).joined(separator: ", ")
        let change =
            changes.isEmpty ? "NOTHING" : "UPDATE SET " + changes.map { "\($0.column) = \($0.value)" }.joined(separator: ", ")
        return "INSERT INTO \(table) (\(columns.joined(separator: ", "))) VALUES \(values) "
            + "ON CONFLICT (\(key.joined(separator: ", "))) DO \(change)"
    }

    func inserted(_ column: String) -> String { "excluded." + column }

    func deleteFirst(from table: String, key: String, where condition: String, orderBy: String, limit: Int) -> String {
        "DELETE FROM \(table) WHERE \(key) IN (SELECT \(key) FROM \(table) WHERE \(condition) ORDER BY \(orderBy) LIMIT \(limit))"
    }

    func sortedPage(_ select: String, of source: String, alias: String, rest: String, orderBy: String) -> String {
        let number = rowNumber(alias)
        return "\(select) WHERE \(number) IN (SELECT \(number) FROM \(source)\(rest)) ORDER BY \(orderBy)"
    }

    func explain(_ statement: String) -> (text: String, column: Int) { ("EXPLAIN QUERY PLAN " + statement, 3) }
}
