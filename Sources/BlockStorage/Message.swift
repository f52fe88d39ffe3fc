public import Database
import Primitives

/// What a user is told of work that failed after it was accepted. Codes are Cinder's: clients filter by them.
public struct Message: Sendable {
    /// What was being done.
    public enum Action: String, Sendable {
        case scheduleVolume = "001"
        case updateAttachment = "004"
        case unmanageVolume = "006"
        case extendVolume = "007"
        case createVolume = "008"
        case createSnapshot = "009"
        case deleteSnapshot = "010"
        case revertVolume = "011"
        /// Cinder has none for it.
        case deleteVolume = "101"

        var text: String {
            switch self {
            case .scheduleVolume: "schedule allocate volume"
            case .updateAttachment: "update attachment"
            case .unmanageVolume: "unmanage volume"
            case .extendVolume: "extend volume"
            case .createVolume: "create volume from backend storage"
            case .createSnapshot: "create snapshot"
            case .deleteSnapshot: "delete snapshot"
            case .revertVolume: "update snapshot"
            case .deleteVolume: "delete volume"
            }
        }
    }

    /// Why it failed, as far as a user may know.
    public enum Detail: String, Sendable {
        case unknown = "001"
        case noBackend = "003"
        case extendFailed = "010"
        case createFailed = "012"
        case snapshotFailed = "013"
        case snapshotBusy = "015"
        case snapshotNotDeleted = "016"
        case attachFailed = "021"
        case volumeBusy = "101"
        case volumeNotDeleted = "102"

        var text: String {
            switch self {
            case .unknown: "The reason is not known. The log of the service tells more under the request's id."
            case .noBackend: "Could not find any available weighted backend."
            case .extendFailed: "The storage could not make the volume larger."
            case .createFailed: "The storage could not make the volume."
            case .snapshotFailed: "The storage could not make the snapshot."
            case .snapshotBusy: "The snapshot is in use: something made from it depends on it, or a host is connected to its volume."
            case .snapshotNotDeleted: "The storage could not delete the snapshot."
            case .attachFailed: "The storage could not connect the volume."
            case .volumeBusy: "The volume is in use: a host is connected to it, or something depends on it."
            case .volumeNotDeleted: "The storage could not delete the volume."
            }
        }
    }

    public let id, eventID, text, level, createdAt, guaranteedUntil, requestID, projectID: String
    public let resourceType, resourceID: String?

    init(_ row: any Row) {
        id = row.text(0)
        projectID = row.text(1)
        eventID = row.text(2)
        level = row.text(3)
        requestID = row.text(4)
        resourceType = row.optionalText(5)
        resourceID = row.optionalText(6)
        text = row.text(7)
        createdAt = row.text(8)
        guaranteedUntil = row.text(9)
    }
}

public enum Messages {
    static let columns =
        "id, project_id, event_id, message_level, request_id, resource_type, resource_uuid, user_message, created_at, expires_at"
    static let insertSQL = SQL("INSERT INTO messages (\(columns)) VALUES (?, ?, ?, 'ERROR', ?, ?, ?, ?, ?, ?)")
    static let byID = SQL("SELECT \(columns) FROM messages WHERE id = ?")
    static let deleteSQL = SQL("DELETE FROM messages WHERE id = ?")
    static let purgeSQL = SQL(
        "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE expires_at < ? ORDER BY expires_at LIMIT 10000)")
    /// Seconds that a message is kept.
    static let lifetime = 2_592_000.0

    /// Tells the volume's project why an operation on it failed.
    public static func add(
        _ action: Message.Action, _ detail: Message.Detail, volumeID: String, snapshotID: String? = nil, projectID: String,
        requestID: String,
        in tx: any Transaction
    ) throws {
        let kind = snapshotID == nil ? "VOLUME" : "VOLUME_SNAPSHOT"
        let now = tx.time
        try tx.run(
            insertSQL, .text(UUID.random()), .text(projectID), .text("VOLUME_\(kind)_\(action.rawValue)_\(detail.rawValue)"),
            .text(requestID),
            .text(kind), .text(snapshotID ?? volumeID), .text("\(action.text):\(detail.text)"), .text(Timestamp.format(now)),
            .text(Timestamp.format(now + lifetime)))
    }

    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Message {
        guard let message = try connection.first(byID, .text(id), map: { Message($0) }),
            caller.isAdmin || message.projectID == caller.projectID
        else { throw notFound(id) }
        return message
    }

    private static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "Message \(id) could not be found.") }

    public static func delete(_ id: String, caller: Caller, in tx: any Transaction) throws {
        _ = try get(id, for: caller, in: tx)
        try tx.run(deleteSQL, .text(id))
    }

    /// Columns by which messages are filtered and sorted.
    public enum Column: String, Sendable, CaseIterable {
        case id, event_id, message_level, request_id, resource_type, resource_uuid, created_at

        /// The column with a place for NULL in the order.
        var sortable: String { self == .resource_type || self == .resource_uuid ? "coalesce(\(rawValue), '')" : rawValue }
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public static func isShort(
        _ filters: [(column: Column, match: ColumnMatch)], _ sort: (column: Column, ascending: Bool)?, offset: Int
    ) -> Bool {
        isOrdered(sort, offset: offset) && filters.allSatisfy { $0.column == .id }
    }

    private static func isOrdered(_ sort: (column: Column, ascending: Bool)?, offset: Int) -> Bool {
        (sort.map { $0.column == .created_at } ?? true) && offset <= KeysetPage.shortOffset
    }

    /// A page of a project's messages, newest first unless said otherwise.
    public static func page(
        projectID: String, filters: [(column: Column, match: ColumnMatch)], sort: (column: Column, ascending: Bool)?, limit: Int,
        offset: Int,
        marker: String?, in connection: any Connection
    ) throws -> [Message] {
        var conditions = Conditions()
        conditions.add("project_id = ?", .text(projectID))
        for filter in filters { conditions.add(filter.column.rawValue, filter.match) }
        let key = KeysetPage.Key(sql: (sort?.column ?? .created_at).sortable, ascending: sort?.ascending ?? false)
        let order = KeysetPage(table: "messages", asked: [key], ties: ["created_at", "id"])
        if let marker {
            guard let behind = try order.behind(marker, idColumn: "id", scope: ("project_id = ?", [.text(projectID)]), in: connection)
            else {
                throw notFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        var result: [Message] = []
        let (text, values) = order.statement(
            "SELECT \(columns) FROM messages", rowID: "rowid", conditions, isOrdered: isOrdered(sort, offset: offset), limit: limit,
            offset: offset)
        try connection.query(text: text, values) {
            result.append(Message($0))
            return true
        }
        return result
    }

    /// Removes a bounded number of messages whose time is over.
    public static func purge(in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(tx.now)) }
}
