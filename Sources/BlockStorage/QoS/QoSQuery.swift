public import Database

/// A page of QoS specs.
public struct QoSQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, name, consumer, created_at, updated_at

        var column: AnyColumn { QoSSpecs.table.column(rawValue) }
    }

    /// There are few of them.
    public var isShort: Bool { true }
    public var filters: [(column: Column, match: ColumnMatch)] = []
    public var matchesNothing = false
    public var sort: [(column: Column, ascending: Bool)] = []
    public var limit: Int
    public var offset = 0
    public var marker: String?

    public init(projectID: String?, limit: Int) { self.limit = limit }

    public func page(in connection: any Connection) throws -> [QoSSpecs] {
        matchesNothing ? [] : try rows(in: connection) { try QoSSpecs($0) }
    }
}

extension QoSQuery: PageQuery {
    static var table: Table { QoSSpecs.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { QoSSpecs.notFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    /// They belong to nobody.
    var projectID: String? { nil }
    var isOrdered: Bool { false }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, dialect) }
    }
}
