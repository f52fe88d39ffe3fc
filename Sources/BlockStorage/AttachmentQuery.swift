public import Database

/// A page of attachments.
public struct AttachmentQuery: Sendable {
    public enum Column: String, Sendable {
        case id, volume_id, instance_id, attach_status, attached_host, attach_mode, created_at, updated_at, mountpoint
    }

    public var projectID: String?
    public var filters: [(column: Column, value: String)] = []
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
        var conditions: [String] = []
        var values: [Value] = []
        if let projectID {
            conditions.append("project_id = ?")
            values.append(.text(projectID))
        }
        for filter in filters {
            conditions.append("\(filter.column.rawValue) = ?")
            values.append(.text(filter.value))
        }
        var order = sort.isEmpty ? [(column: Column.created_at, ascending: false)] : sort
        let first = order[0].ascending
        for column in [Column.created_at, .id] where !order.contains(where: { $0.column == column }) {
            order.append((column: column, ascending: first))
        }
        let by = order.map { "coalesce(\($0.column.rawValue), '') \($0.ascending ? "ASC" : "DESC")" }.joined(separator: ", ")
        if let marker {
            // The row's own columns compared with the marker's, direction by direction.
            guard try Attachments.find(marker, in: connection) != nil else { throw StorageError.attachmentNotFound(marker) }
            var alternatives: [String] = []
            for index in order.indices {
                var terms = order[..<index].map {
                    "coalesce(\($0.column.rawValue), '') = (SELECT coalesce(m.\($0.column.rawValue), '') FROM attachments m WHERE m.id = ?)"
                }
                terms.append(
                    "coalesce(\(order[index].column.rawValue), '') \(order[index].ascending ? ">" : "<") "
                        + "(SELECT coalesce(m.\(order[index].column.rawValue), '') FROM attachments m WHERE m.id = ?)")
                alternatives.append("(" + terms.joined(separator: " AND ") + ")")
                values += Array(repeating: .text(marker), count: index + 1)
            }
            conditions.append("(" + alternatives.joined(separator: " OR ") + ")")
        }
        var result: [Attachment] = []
        let text =
            "SELECT \(Attachment.columns) FROM attachments"
            + (conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")) + " ORDER BY \(by) LIMIT ? OFFSET ?"
        try connection.query(text: text, values + [.int(limit), .int(offset)]) {
            result.append(Attachment($0))
            return true
        }
        return result
    }
}
