public import Database

/// A page of transfers.
public struct VolumeTransferQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, display_name, source_project_id, created_at

        var column: AnyColumn { self == .display_name ? VolumeTransfers.table.name : VolumeTransfers.table.column(rawValue) }
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
        matchesNothing ? [] : try rows(in: connection) { VolumeTransfer($0) }
    }
}

extension VolumeTransferQuery: PageQuery {
    static var table: Table { VolumeTransfers.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static var owner: AnyColumn { VolumeTransfers.table.sourceProjectID }
    static func notFound(_ id: String) -> StorageError { VolumeTransfers.notFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, dialect) }
    }
}
