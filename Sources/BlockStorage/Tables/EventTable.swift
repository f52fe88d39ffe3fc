public import Database

/// The append-only history.
public final class EventTable: Table, @unchecked Sendable {
    public static let table = EventTable("events", "e").declared()

    /// Given by the database, in the order of the history.
    public let id = Column<Int64>("id")
    public let time = Column<String>("time"), kind = Column<String>("kind")
    public let resourceType = Column<String>("resource_type"), resourceID = Column<String>("resource_id")
    public let projectID = Column<String>("project_id"), operationID = Column<String?>("operation_id")
    public let requestID = Column<String>("request_id")
    /// JSON.
    public let data = Column<String>("data")
}

/// What users are told of work that failed after it was accepted.
public final class MessageTable: Table, @unchecked Sendable {
    public static let table = MessageTable("messages", "m").declared()

    public let id = Column<String>("id"), projectID = Column<String>("project_id"), eventID = Column<String>("event_id")
    public let level = Column<String>("message_level"), requestID = Column<String>("request_id")
    public let resourceType = Column<String?>("resource_type"), resourceID = Column<String?>("resource_uuid")
    public let text = Column<String>("user_message")
    public let createdAt = Column<String>("created_at"), expiresAt = Column<String>("expires_at")
}
