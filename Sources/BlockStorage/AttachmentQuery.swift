public import Database

/// A page of attachments.
public struct AttachmentQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, instance_id, attach_status, attached_host, attach_mode, created_at, updated_at, mountpoint

        var column: AnyColumn { Attachments.table.column(rawValue) }
    }

    /// Whether the order is one in which indexes give the rows.
    private var isOrdered: Bool {
        (sort.isEmpty || (sort.count == 1 && sort[0].column == .created_at)) && offset <= KeysetPage.shortOffset
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool {
        let isFound = filters.isEmpty ? projectID != nil : filters.allSatisfy { $0.column == .id || $0.column == .volume_id }
        return matchesNothing || (isOrdered && isFound)
    }

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

    public func page(in connection: any Connection) throws -> [Attachment] {
        if matchesNothing || limit == 0 { return [] }
        var conditions = Conditions()
        if let projectID { conditions.add("a.project_id = ?", .text(projectID)) }
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, connection.dialect) }
        let table = Attachments.table
        let order = KeysetPage(
            table,
            asked: sort.isEmpty ? [.newest(table.createdAt)] : sort.map { KeysetPage.Key($0.column.column, ascending: $0.ascending) },
            ties: [table.createdAt, table.id])
        if let marker {
            let scope = projectID.map { (sql: "a.project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, scope: scope, in: connection) else {
                throw StorageError.attachmentNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(conditions, isOrdered: isOrdered, limit: limit, offset: offset, in: connection) { Attachment($0) }
    }
}
