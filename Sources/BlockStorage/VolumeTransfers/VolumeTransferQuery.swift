public import Database

/// A page of transfers.
public struct VolumeTransferQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, display_name, source_project_id, created_at

        var column: AnyColumn { self == .display_name ? VolumeTransfers.table.name : VolumeTransfers.table.column(rawValue) }
    }

    private var isOrdered: Bool {
        (sort.isEmpty || (sort.count == 1 && sort[0].column == .created_at)) && offset <= KeysetPage.shortOffset
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool { matchesNothing || (isOrdered && filters.isEmpty && projectID != nil) }

    /// The project that offers; nil: any.
    public var projectID: String?
    public var filters: [(column: Column, match: ColumnMatch)] = []
    public var matchesNothing = false
    public var sort: [(column: Column, ascending: Bool)] = []
    public var limit: Int
    public var offset = 0
    public var marker: String?

    public init(projectID: String?, limit: Int) {
        self.projectID = projectID
        self.limit = limit
    }

    public func page(in connection: any Connection) throws -> [VolumeTransfer] {
        if matchesNothing { return [] }
        let table = VolumeTransfers.table
        var conditions = Conditions()
        let scope = projectID.map { (sql: "x.source_project_id = ?", values: [Value.text($0)]) }
        if let scope { conditions.add(scope.sql, scope.values) }
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, connection.dialect) }
        let order = KeysetPage(
            table,
            asked: sort.isEmpty ? [.newest(table.createdAt)] : sort.map { KeysetPage.Key($0.column.column, ascending: $0.ascending) },
            ties: [table.createdAt, table.id])
        if let marker {
            guard let behind = try order.behind(marker, scope: scope, in: connection) else { throw VolumeTransfers.notFound(marker) }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(conditions, isOrdered: isOrdered, limit: limit, offset: offset, in: connection) { VolumeTransfer($0) }
    }
}
