public import Database

/// The volumes, each with the name of its type.
public final class VolumeTable: Table, @unchecked Sendable {
    public static let table = VolumeTable(
        "volumes", "v", joins: "JOIN volume_types t ON t.id = v.volume_type_id"
    ).declared()

    public let id = Column<String>("id"), projectID = Column<String>("project_id"), userID = Column<String>("user_id")
    public let name = Column<String?>("name"), description = Column<String?>("description")
    /// GiB.
    public let size = Column<Int>("size")
    public let status = Column<VolumeStatus>("status")
    public let attachStatus = Column<AttachmentStatus>("attach_status")
    public let migrationStatus = Column<MigrationStatus?>("migration_status")
    public let replicationStatus = Column<String?>("replication_status")
    public let availabilityZone = Column<String?>("availability_zone")
    /// `node@backend#pool`
    public let host = Column<String?>("host"), clusterName = Column<String?>("cluster_name")
    public let volumeTypeID = Column<String>("volume_type_id"), snapshotID = Column<String?>("snapshot_id")
    public let sourceVolumeID = Column<String?>("source_volid"), groupID = Column<String?>("group_id")
    public let bootable = Column<Bool>("bootable"), multiattach = Column<Bool>("multiattach")
    public let encryptionKeyID = Column<String?>("encryption_key_id"), providerID = Column<String?>("provider_id")
    /// The id in the storage object's name, if it is not the volume's own.
    public let nameID = Column<String?>("name_id")
    public let serviceID = Column<String?>("service_uuid"), sharedTargets = Column<Bool?>("shared_targets")
    public let consumesQuota = Column<Bool>("consumes_quota")
    /// JSON objects of texts.
    public let metadata = Column<String>("metadata"), adminMetadata = Column<String>("admin_metadata")
    public let imageMetadata = Column<String>("image_metadata")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")

    // From here on what pages do not read: what is of types (`ShownTypes`), and what no client is shown.
    public let previousStatus = Column<VolumeStatus?>("previous_status")
    /// What the driver stores with the volume.
    public let driverData = Column<String?>("driver_data")
    public let scheduledAt = Column<String?>("scheduled_at"), launchedAt = Column<String?>("launched_at")
    public let typeName = Column<String>("name", joined: "t")
    /// Whether it is to be encrypted, be its key made or not.
    public let isOfEncryptedType = Column<Bool>("is_encrypted", joined: "t")

    static let pageColumns = table.select(before: table.previousStatus)
}
