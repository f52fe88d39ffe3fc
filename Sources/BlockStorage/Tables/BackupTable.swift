public import Database

/// The backups, each with the id of one that is nothing without it: that was made on top of it, in a repository that is being made so. One
/// that failed before it found a store is nothing with it either.
public final class BackupTable: Table, @unchecked Sendable {
    public static let table = BackupTable(
        "backups", "b",
        joins: "LEFT JOIN backups c ON c.id = (SELECT min(d.id) FROM backups d WHERE d.parent_id = b.id "
            + "AND (d.status = \(BackupStatus.creating.sql) OR (coalesce(b.format, '') <> '\(Backup.repositoryFormat)' "
            + "AND (d.format IS NOT NULL OR d.service_metadata IS NOT NULL OR d.status NOT IN \([BackupStatus.error, .errorDeleting, .deleting].sql)))))"
    ).declared()

    public let id = Column<String>("id"), projectID = Column<String>("project_id"), userID = Column<String>("user_id")
    /// The volume may be gone.
    public let volumeID = Column<String>("volume_id"), snapshotID = Column<String?>("snapshot_id")
    public let parentID = Column<String?>("parent_id")
    public let name = Column<String?>("name"), description = Column<String?>("description")
    /// GiB.
    public let size = Column<Int>("size")
    public let status = Column<BackupStatus>("status"), failReason = Column<String?>("fail_reason")
    /// Where its objects lie: the configured store, the format, the driver's name in Cinder, and what the format knows them by.
    public let store = Column<String?>("store"), format = Column<String?>("format"), service = Column<String?>("service")
    public let container = Column<String?>("container"), serviceMetadata = Column<String?>("service_metadata")
    public let objectCount = Column<Int>("object_count")
    public let host = Column<String?>("host"), availabilityZone = Column<String?>("availability_zone")
    /// As of when its content is.
    public let dataTimestamp = Column<String?>("data_timestamp")
    public let restoreVolumeID = Column<String?>("restore_volume_id")
    /// The snapshot that is read while the backup is made, as long as there may be one: it may be kept for the next increment.
    public let temporarySnapshotID = Column<String?>("temp_snapshot_id")
    /// What the driver stores with that snapshot; and when it was known to be there.
    public let temporarySnapshotData = Column<String?>("temp_snapshot_data")
    public let temporarySnapshotAt = Column<String?>("temp_snapshot_at")
    public let encryptionKeyID = Column<String?>("encryption_key_id")
    /// A JSON object of texts.
    public let metadata = Column<String>("metadata")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
    /// What is known of its objects: nil where nobody has looked.
    public let verifyStatus = Column<VerifyStatus?>("verify_status"), verifiedAt = Column<String?>("verified_at")
    /// The policy that made it.
    public let policyID = Column<String?>("policy_id")
    /// Until then nobody deletes it.
    public let protectedUntil = Column<String?>("protected_until")
    /// Whether the volume's driver was found to omit changes since the snapshot that the backup was made of, or to have omitted some for it:
    /// no increment asks for those changes.
    public let distrustsChanges = Column<Bool>("distrusts_changes")
    /// When all of the volume was last read, for it or for what it rests on: since then what changed is what the driver said. nil: nobody
    /// knows.
    public let wholeReadAt = Column<String?>("whole_read_at")
    public let dependentID = Column<String?>("id", joined: "c")
}

/// Snapshots of backups whose removal failed: it is tried again until they are gone. The backup may be gone already.
final class BackupSnapshotRemovalTable: Table, @unchecked Sendable {
    static let table = BackupSnapshotRemovalTable("backup_snapshot_removals", "m").declared()
    let snapshotID = Column<String>("snapshot_id")
    let backupID = Column<String>("backup_id"), volumeID = Column<String>("volume_id"), projectID = Column<String>("project_id")
    /// What the driver stores with the snapshot.
    let data = Column<String?>("data")
    /// How often it failed, why the last time, and when it is tried again.
    let attempts = Column<Int>("attempts"), message = Column<String>("message"), retryAt = Column<String>("retry_at")
    let createdAt = Column<String>("created_at")
}

/// What the last verification of a backup found, line by line.
final class BackupDamageTable: Table, @unchecked Sendable {
    static let table = BackupDamageTable("backup_damages", "d").declared()
    let backupID = Column<String>("backup_id"), number = Column<Int>("number")
    let text = Column<String>("text")
    /// The bytes of the volume that cannot be read, where they are known.
    let start = Column<Int?>("start"), length = Column<Int?>("length")
}

/// How far the repositories of each store were scrubbed.
final class BackupScrubTable: Table, @unchecked Sendable {
    static let table = BackupScrubTable("backup_scrubs", "r").declared()
    let store = Column<String>("store")
    /// The part that was done last.
    let part = Column<Int>("part")
    let finishedAt = Column<String>("finished_at")
}
