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
        if matchesNothing { return [] }
        let table = QoSSpecs.table
        var conditions = Conditions()
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, connection.dialect) }
        let order = KeysetPage(
            table,
            asked: sort.isEmpty ? [.newest(table.createdAt)] : sort.map { KeysetPage.Key($0.column.column, ascending: $0.ascending) },
            ties: [table.createdAt, table.id])
        if let marker {
            guard let behind = try order.behind(marker, scope: nil, in: connection) else { throw QoSSpecs.notFound(marker) }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(conditions, isOrdered: false, limit: limit, offset: offset, in: connection) { try QoSSpecs($0) }
    }
}
