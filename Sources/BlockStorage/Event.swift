public import Database
public import JSON
import Primitives

/// The append-only history.
public enum Events {
    static let insert = SQL(
        """
        INSERT INTO events (time, kind, resource_type, resource_id, project_id, operation_id, request_id, data)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """)

    static func append(_ kind: String, volume: Volume, caller: Caller, data: JSONObject = [:], in tx: any Transaction) throws {
        try append(
            kind, resourceType: "volume", resourceID: volume.id, projectID: volume.projectID, operationID: nil, requestID: caller.requestID,
            data: data, in: tx)
    }

    public static func append(
        _ kind: String, resourceType: String, resourceID: String, projectID: String, operationID: String?, requestID: String,
        data: JSONObject = [:], in tx: any Transaction
    ) throws {
        try tx.run(
            insert, .text(Timestamp.now()), .text(kind), .text(resourceType), .text(resourceID), .text(projectID), .string(operationID),
            .text(requestID), .text(data.isEmpty ? "{}" : JSON.object(data).text))
    }

    static let ofResourceSQL = SQL("SELECT time, kind, data FROM events WHERE resource_id = ? ORDER BY id")
    /// What happened to a resource, oldest first.
    public static func ofResource(_ id: String, in connection: any Connection) throws -> [(time: String, kind: String, data: String)] {
        try connection.rows(ofResourceSQL, .text(id)) { ($0.text(0), $0.text(1), $0.text(2)) }
    }

    static let purgeSQL = SQL("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE time < ? ORDER BY id LIMIT 10000)")
    /// Removes a bounded number of events older than the time.
    public static func purge(before time: String, in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(time)) }
}
