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
