import Database

/// Notifications that have not been sent yet, in the order of what happened.
final class NotificationTable: Table, @unchecked Sendable {
    static let table = NotificationTable("notifications", "n").declared()

    /// Given by the database, in the order of what happened.
    let id = Column<Int64>("id")
    let messageID = Column<String>("message_id"), eventType = Column<String>("event_type"), priority = Column<String>("priority")
    let publisher = Column<String>("publisher")
    /// What it is about: of two about the same the first is sent first.
    let resourceID = Column<String>("resource_id")
    let userID = Column<String>("user_id"), projectID = Column<String>("project_id"), requestID = Column<String>("request_id")
    let createdAt = Column<String>("created_at")
    /// JSON.
    let payload = Column<String>("payload")
}
