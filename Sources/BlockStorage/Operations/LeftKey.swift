public import Database
import JSON
import Primitives

/// Keys that operations were to delete, and did not. What an operation was about is not kept when it is over: an event tells it.
public struct LeftKey: Sendable {
    public let operationID, resourceID: String
    /// nil: it was never recorded.
    public let keyID: String?
    public let volumeID: String
    public let error: String
    /// The operation that had made it; nil: the key was the volume's.
    let madeBy: String?

    private static let kind = "key.kept"
    private static let flows = "('\(DeleteKeyArguments.flow.name)', '\(DiscardKeyArguments.flow.name)')"
    /// The latest attempt with each.
    private static let isLast =
        "NOT EXISTS (SELECT 1 FROM operations l WHERE l.resource_id = o.resource_id AND l.flow = o.flow AND l.created_at > o.created_at)"
    private static let isFailed = "o.state = \(OperationState.failed.sql) AND o.flow IN \(flows)"
    static let allSQL = SQL(
        """
        SELECT o.id, o.resource_id, e.data, o.error FROM operations o
        JOIN events e ON e.resource_id = o.resource_id AND e.operation_id = o.id AND e.kind = '\(kind)'
        WHERE \(isFailed) AND \(isLast) ORDER BY o.created_at, o.id LIMIT 1000
        """)
    static let isLeftSQL = SQL("SELECT 1 FROM operations o WHERE o.id = ? AND \(isFailed) AND \(isLast)")

    /// The oldest first.
    public static func all(in connection: any Connection) throws -> [LeftKey] {
        try connection.rows(allSQL) { row in
            let data = try JSON(parsing: row.text(2))
            return LeftKey(
                operationID: row.text(0), resourceID: row.text(1), keyID: data["key_id"]?.string, volumeID: data["volume_id"]?.string ?? "",
                error: row.optionalText(3) ?? "", madeBy: data["made_by"]?.string)
        }
    }

    /// Notes that an operation ends without having deleted a key.
    public static func note(_ keyID: String?, ofVolume id: String, madeBy: String? = nil, by operation: Operation, in tx: any Transaction)
        throws
    {
        try Events.append(
            kind, resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
            operationID: operation.id, requestID: operation.requestID,
            data: ["key_id": JSON(keyID), "volume_id": .string(id), "made_by": JSON(madeBy)], in: tx)
    }

    /// Begins the deletion again, unless somebody has; returns the new operation.
    public func deleteAgain(in tx: any Transaction) throws -> String? {
        guard try tx.exists(Self.isLeftSQL, .text(operationID)), let last = try Operations.find(operationID, in: tx) else { return nil }
        func begin(_ arguments: some FlowArguments) throws -> String {
            try Operations.create(
                arguments, resourceType: last.resourceType, resourceID: last.resourceID, projectID: last.projectID,
                caller: .service(requestID: UUID.random(prefix: "req-")), claims: [.exclusive(new: UUID.random())], in: tx)
        }
        if let madeBy { return try begin(DiscardKeyArguments(volumeID: volumeID, operationID: madeBy)) }
        return try begin(DeleteKeyArguments(keyID: keyID, volumeID: volumeID))
    }
}
