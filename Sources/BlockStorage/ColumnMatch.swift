public import Database

/// What a column must hold for a row to be listed.
public enum ColumnMatch: Sendable {
    case nothing, everything
    case null
    case equals(Value)
    case oneOf([Value])
    /// The text somewhere in it; `%` and `_` stand for any text and any character, as they do in Cinder.
    case like(String)
}

extension Conditions {
    mutating func add(_ column: String, _ match: ColumnMatch, _ dialect: any Dialect) {
        switch match {
        case .nothing: add(dialect.never)
        case .everything: break
        case .null: add("\(column) IS NULL")
        case .equals(let value): add("\(column) = ?", value)
        case .oneOf(let values): add("\(column) IN (\(values.map { _ in "?" }.joined(separator: ", ")))", values)
        case .like(let text): add(dialect.matches(column), .text("%" + text + "%"))
        }
    }
}
