public import Database
import Primitives

/// A notification that has not been sent yet.
public struct PendingNotification: Sendable {
    public let id: Int64
    public let messageID, eventType, priority, publisher, resourceID, userID, projectID, requestID, createdAt: String
    /// JSON text.
    public let payload: String

    init(_ row: any Row) {
        let t = NotificationTable.table
        id = row[t.id]
        messageID = row[t.messageID]
        eventType = row[t.eventType]
        priority = row[t.priority]
        publisher = row[t.publisher]
        resourceID = row[t.resourceID]
        userID = row[t.userID]
        projectID = row[t.projectID]
        requestID = row[t.requestID]
        createdAt = row[t.createdAt]
        payload = row[t.payload]
    }
}

/// The notifications that have not been sent yet, as their sender sees them.
public enum PendingNotifications {
    private static let table = NotificationTable.table
    private static let firstSQL = SQL(table.select("ORDER BY n.id LIMIT ?"))

    /// The oldest.
    public static func first(_ limit: Int, in connection: any Connection) throws -> [PendingNotification] {
        try connection.rows(firstSQL, .int(limit)) { PendingNotification($0) }
    }

    private static let removeSQL = SQL("DELETE FROM notifications WHERE id = ?")
    public static func remove(_ ids: [Int64], in tx: any Transaction) throws { for id in ids { try tx.run(removeSQL, .integer(id)) } }

    private static let summarySQL = SQL("SELECT count(*), min(id) FROM notifications")
    private static let createdSQL = SQL("SELECT created_at FROM notifications WHERE id = ?")

    /// How many there are, and since when the oldest is there.
    public static func summary(in connection: any Connection) throws -> (count: Int, oldest: String?) {
        let (count, first) = try connection.first(summarySQL) { ($0.int(0), $0.int(0) == 0 ? 0 : $0.integer(1)) } ?? (0, 0)
        return (count, count == 0 ? nil : try connection.first(createdSQL, .integer(first)) { $0.text(0) })
    }

    private static let dropSQL = SQL(
        "DELETE FROM notifications WHERE id <= (SELECT id FROM notifications ORDER BY id LIMIT 1 OFFSET ?)")

    /// Removes the oldest where there are more than `limit`; returns how many.
    public static func drop(over limit: Int, in tx: any Transaction) throws -> Int {
        let surplus = try summary(in: tx).count - limit
        return surplus > 0 ? try tx.run(dropSQL, .int(surplus - 1)) : 0
    }
}
