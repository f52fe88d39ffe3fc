public import Database

/// The snapshots, each with the name of its type.
public final class SnapshotTable: Table, @unchecked Sendable {
    public static let table = SnapshotTable(
        "snapshots", "s", joins: "JOIN volume_types t ON t.id = s.volume_type_id"
    ).declared()

    public let id = Column<String>("id"), volumeID = Column<String>("volume_id")
    public let projectID = Column<String>("project_id"), userID = Column<String>("user_id")
    public let name = Column<String?>("name"), description = Column<String?>("description")
    /// GiB.
    public let size = Column<Int>("size")
    public let status = Column<SnapshotStatus>("status"), progress = Column<String?>("progress")
    public let volumeTypeID = Column<String>("volume_type_id")
    /// A JSON object of texts.
    public let metadata = Column<String>("metadata")
    public let driverData = Column<String?>("driver_data"), providerID = Column<String?>("provider_id")
    public let groupSnapshotID = Column<String?>("group_snapshot_id"), encryptionKeyID = Column<String?>("encryption_key_id")
    public let consumesQuota = Column<Bool>("consumes_quota")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
    /// The policy that made it.
    public let policyID = Column<String?>("policy_id")
    public let typeName = Column<String>("name", joined: "t")
}
