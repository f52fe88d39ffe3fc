public import Database

/// A page of attachments.
public struct AttachmentQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, instance_id, attach_status, attached_host, attach_mode, created_at, updated_at, mountpoint

        var column: AnyColumn { Attachments.table.column(rawValue) }
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
        matchesNothing ? [] : try rows(in: connection) { Attachment($0) }
    }
}

extension AttachmentQuery: PageQuery {
    static var table: Table { Attachments.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { .attachmentNotFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, dialect) }
    }
}
