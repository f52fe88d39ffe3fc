public import Database

/// A page of attachments.
public struct AttachmentQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, instance_id, attach_status, attached_host, attach_mode, created_at, updated_at, mountpoint

        /// The column with a place for NULL in the order.
        var sortable: String {
            [.id, .volume_id, .attach_status, .created_at].contains(self) ? rawValue : "coalesce(\(rawValue), '')"
        }
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
        if let projectID { conditions.add("project_id = ?", .text(projectID)) }
        for filter in filters { conditions.add(filter.column.rawValue, filter.match) }
        let order = KeysetPage(
            table: "attachments",
            asked: (sort.isEmpty ? [(column: Column.created_at, ascending: false)] : sort).map {
                KeysetPage.Key(sql: $0.column.sortable, ascending: $0.ascending)
            }, ties: ["created_at", "id"])
        if let marker {
            let scope = projectID.map { (sql: "project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, idColumn: "id", scope: scope, in: connection) else {
                throw StorageError.attachmentNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        var result: [Attachment] = []
        let (text, values) = order.statement(
            "SELECT \(Attachment.columns) FROM attachments", rowID: "rowid", conditions, isOrdered: isOrdered, limit: limit, offset: offset)
        try connection.query(text: text, values) {
            result.append(Attachment($0))
            return true
        }
        return result
    }
}
