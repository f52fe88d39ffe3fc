import Database

/// Keys that operations were to delete, and did not.
final class LeftKeyTable: Table, @unchecked Sendable {
    static let table = LeftKeyTable("left_keys", "lk").declared()

    /// The operation that gave it up.
    let operationID = Column<String>("operation_id")
    /// nil: it was never recorded.
    let keyID = Column<String?>("key_id")
    let volumeID = Column<String>("volume_id"), projectID = Column<String>("project_id")
    /// The operation that had made it; nil: it was the volume's.
    let madeBy = Column<String?>("made_by")
    let attempts = Column<Int>("attempts"), message = Column<String>("message"), retryAt = Column<String>("retry_at")
    let createdAt = Column<String>("created_at")
}
