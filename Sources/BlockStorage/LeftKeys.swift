public import Database
import JSON

/// A key that an operation was to delete, and did not.
public struct LeftKey: Sendable {
    /// The operation that gave it up.
    public let operationID: String
    /// nil: it was never recorded, and is known by the name under which it was made.
    public let keyID: String?
    /// What it was made for; the volume may be gone.
    public let volumeID, projectID: String
    /// The operation that had made it; nil: the key was the volume's.
    public let madeBy: String?
    /// How often its deletion failed behind that operation, why the last time, and when it is tried again.
    public let attempts: Int
    public let message: String
    public let retryAt: String
    /// Since when it is left.
    public let createdAt: String

    init(_ row: any Row) {
        let t = LeftKeyTable.table
        operationID = row[t.operationID]
        keyID = row[t.keyID]
        volumeID = row[t.volumeID]
        projectID = row[t.projectID]
        madeBy = row[t.madeBy]
        attempts = row[t.attempts]
        message = row[t.message]
        retryAt = row[t.retryAt]
        createdAt = row[t.createdAt]
    }
}

/// Keys that operations were to delete, and did not. They stay here until they are deleted, however long that takes: what else is known of
/// those operations is forgotten after a while.
public enum LeftKeys {
    private static let table = LeftKeyTable.table
    /// Longest message that is kept.
    private static let longestMessage = 255

    static let allSQL = SQL(table.select("ORDER BY lk.created_at, lk.operation_id LIMIT 1000"))
    /// The oldest first.
    public static func all(in connection: any Connection) throws -> [LeftKey] { try connection.rows(allSQL) { LeftKey($0) } }

    static let dueSQL = SQL(table.select("WHERE \(RetryTime.isDue(table.retryAt)) ORDER BY lk.retry_at, lk.operation_id LIMIT ?"))
    /// Those that it is time to try to delete, the longest due first.
    public static func due(limit: Int, in connection: any Connection) throws -> [LeftKey] {
        let (now, latest) = RetryTime.bounds(in: connection)
        return try connection.rows(dueSQL, now, latest, .int(limit)) { LeftKey($0) }
    }

    /// Notes that an operation ends without having deleted a key, in the transaction that ends it.
    /// - Parameter madeBy: the operation that had made it; nil: it was the volume's.
    public static func note(
        _ keyID: String?, ofVolume id: String, madeBy: String? = nil, by operation: Operation, message: String, in tx: any Transaction
    ) throws {
        try insert(
            keyID, ofVolume: id, madeBy: madeBy, operation: operation.id, project: operation.projectID, message: message,
            retryAt: RetryTime.next(after: 1, in: tx), since: tx.now, in: tx)
    }

    private static func insert(
        _ keyID: String?, ofVolume id: String, madeBy: String?, operation: String, project: String, message: String, retryAt: String,
        since: String, in tx: any Transaction
    ) throws {
        let t = table
        guard try !tx.exists(isLeftSQL, .text(operation)) else { return }
        try tx.insert(
            into: t, t.operationID(operation), t.keyID(keyID), t.volumeID(id), t.projectID(project), t.madeBy(madeBy), t.attempts(0),
            t.message(String(message.unicodeScalars.prefix(longestMessage))), t.retryAt(retryAt), t.createdAt(since))
    }

    static let isLeftSQL = SQL("SELECT 1 FROM left_keys WHERE operation_id = ?")

    /// Notes that another attempt failed.
    public static func failed(_ key: LeftKey, message: String, in tx: any Transaction) throws {
        let (t, attempts) = (table, key.attempts + 1)
        // The first failure was the operation's.
        try tx.update(
            t, t.operationID(key.operationID),
            set: t.attempts(attempts), t.message(String(message.unicodeScalars.prefix(longestMessage))),
            t.retryAt(RetryTime.next(after: attempts + 1, in: tx)))
    }

    /// It is gone.
    public static func forget(_ key: LeftKey, in tx: any Transaction) throws {
        try tx.delete(from: table, table.operationID(key.operationID))
    }

    /// Makes the next attempt due now. False: it is gone.
    public static func hasten(_ key: LeftKey, in tx: any Transaction) throws -> Bool {
        try tx.update(table, table.operationID(key.operationID), set: table.retryAt(tx.now)) > 0
    }
}

// What the release before this table had noted: an event told what an operation had been about that was over.
extension LeftKeys {
    static let earlierKind = "key.kept"
    private static let flows = "('\(DeleteKeyArguments.flow.name)', '\(DiscardKeyArguments.flow.name)')"
    /// The latest attempt with each counts.
    static let earlierSQL = SQL(
        """
        SELECT o.id, o.project_id, o.error, o.created_at, e.data, e.id FROM operations o
        JOIN events e ON e.resource_id = o.resource_id AND e.operation_id = o.id AND e.kind = '\(earlierKind)'
        WHERE o.state = \(OperationState.failed.sql) AND o.flow IN \(flows) AND NOT EXISTS (
            SELECT 1 FROM operations l WHERE l.resource_id = o.resource_id AND l.flow = o.flow AND l.created_at > o.created_at)
        ORDER BY o.created_at, o.id LIMIT ?
        """)
    static let dropEventSQL = SQL("DELETE FROM events WHERE id = ?")

    /// Takes over what an earlier release noted in events, which go with that: nothing is taken over twice. Returns how many there were.
    public static func takeOver(limit: Int, in tx: any Transaction) throws -> Int {
        let earlier = try tx.rows(earlierSQL, .int(limit)) { row in
            (
                operation: row.text(0), project: row.text(1), error: row.optionalText(2) ?? "", since: row.text(3), data: row.text(4),
                event: row.int(5)
            )
        }
        for one in earlier {
            let data = (try? JSON(parsing: one.data)) ?? .null
            if let volume = data["volume_id"]?.string {
                try insert(
                    data["key_id"]?.string, ofVolume: volume, madeBy: data["made_by"]?.string, operation: one.operation,
                    project: one.project, message: one.error, retryAt: tx.now, since: one.since, in: tx)
            }
            try tx.run(dropEventSQL, .int(one.event))
        }
        return earlier.count
    }
}
