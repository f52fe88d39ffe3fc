public import Database

/// The snapshots that backups were read from and that were made for that: no rows of their own, in no list and in no quota. That of a
/// volume's newest backup in a store may be kept: the driver tells then what changed since, and the next increment reads that alone.
/// Which one is kept follows from the backups; it is removed before anything that it would be in the way of.
extension Backups {
    /// Backups that an increment may be made on top of, now or as soon as their restoration is over.
    private static let wholeStates = [BackupStatus.available, .restoring]

    /// Whether the backup `b` is the one that the next increment in its store is made on top of: the project's newest of the volume, as
    /// `parentSQL` orders them; and the driver is to be asked for what changed since.
    private static let isBase = """
        (b.distrusts_changes = 0 AND b.status IN \(wholeStates.sql) AND NOT EXISTS (SELECT 1 FROM backups n WHERE n.volume_id = b.volume_id
            AND n.project_id = b.project_id AND n.store = b.store AND n.status IN \(wholeStates.sql)
            AND (n.data_timestamp > b.data_timestamp OR (n.data_timestamp = b.data_timestamp AND n.id < b.id))))
        """

    /// Those that still have a snapshot, and are not being made: of these the operation that makes them sees to it.
    private static let hasSnapshot = "b.temp_snapshot_id IS NOT NULL AND b.status <> \(BackupStatus.creating.sql)"

    static let withSnapshotsSQL = SQL(table.select("WHERE b.volume_id = ? AND \(hasSnapshot) ORDER BY b.id"))
    /// The backups of a volume whose snapshots still lie beside it: kept for the next increment, or not removed yet.
    public static func withSnapshots(ofVolume id: String, in connection: any Connection) throws -> [Backup] {
        try connection.rows(withSnapshotsSQL, .text(id)) { Backup($0) }
    }

    /// Whether a snapshot of a backup lies beside the volume, or may.
    public static func hasSnapshots(besideVolume id: String, in connection: any Connection) throws -> Bool {
        try !withSnapshots(ofVolume: id, in: connection).isEmpty || !BackupSnapshotRemovals.ofVolume(id, in: connection).isEmpty
    }

    static let unneededSQL = SQL(
        table.select(
            """
            WHERE b.volume_id = ? AND \(hasSnapshot) AND NOT \(isBase)
            AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.resource = b.temp_snapshot_id AND c.operation_id <> ?) ORDER BY b.id
            """))
    /// Those of them whose snapshots no increment can need, and that no other operation is removing or reads: whoever would wait for one
    /// would keep the volume from everybody meanwhile. The last backup that reads one finds it here.
    public static func withUnneededSnapshots(ofVolume id: String, besides operation: Operation?, in connection: any Connection) throws
        -> [Backup]
    {
        try connection.rows(unneededSQL, .text(id), .text(operation?.id ?? "")) { Backup($0) }
    }

    static let isBaseSQL = SQL("SELECT 1 FROM backups b WHERE b.id = ? AND \(isBase)")
    /// Whether the next increment of its volume in its store is made on top of the backup.
    public static func isBase(_ backup: Backup, in connection: any Connection) throws -> Bool {
        try connection.exists(isBaseSQL, .text(backup.id))
    }

    /// A snapshot of a backup as the doctor compares it with its backend.
    public struct StoredSnapshot: Sendable {
        public let id, backupID, volumeID, host: String
        /// GiB.
        public let size: Int
        /// nil: the backup is gone.
        public let status: BackupStatus?
        /// The next increment may ask what changed since.
        public let isNeeded: Bool
        /// How often its removal failed, and why the last time.
        public let failure: String?
    }

    private static let removalColumns = "m.attempts, m.message"
    static let storedSnapshotsSQL = SQL(
        """
        SELECT b.temp_snapshot_id, b.id, b.volume_id, v.host, b.size, b.status, CASE WHEN \(isBase) THEN 1 ELSE 0 END, \(removalColumns)
        FROM backups b JOIN volumes v ON v.id = b.volume_id
        LEFT JOIN backup_snapshot_removals m ON m.snapshot_id = b.temp_snapshot_id
        WHERE b.temp_snapshot_id IS NOT NULL AND v.host IS NOT NULL
        UNION ALL SELECT m.snapshot_id, m.backup_id, m.volume_id, v.host, v.size, NULL, 0, \(removalColumns)
        FROM backup_snapshot_removals m JOIN volumes v ON v.id = m.volume_id
        WHERE v.host IS NOT NULL AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.temp_snapshot_id = m.snapshot_id)
            AND (m.attempts > 0 OR NOT EXISTS (SELECT 1 FROM claims c WHERE c.resource = m.snapshot_id))
        """)
    /// All that there are, or may be.
    public static func storedSnapshots(in connection: any Connection) throws -> [StoredSnapshot] {
        try connection.rows(storedSnapshotsSQL) { row in
            StoredSnapshot(
                id: row.text(0), backupID: row.text(1), volumeID: row.text(2), host: row.text(3), size: row.int(4),
                status: row.optionalText(5).map { BackupStatus(rawValue: $0) }, isNeeded: row.int(6) == 1,
                failure: row.optionalText(8).map { "it could not be removed (\(row.int(7)) times tried, the last time: \($0))" })
        }
    }

    static let ofSnapshotSQL = SQL(table.select("WHERE b.temp_snapshot_id = ?"))
    /// The id of the backup that a snapshot was made for, which may be gone; nil: it is none of these.
    static func ofSnapshot(_ id: String, in connection: any Connection) throws -> String? {
        try connection.first(ofSnapshotSQL, .text(id)) { Backup($0).id } ?? BackupSnapshotRemovals.find(id, in: connection)?.backupID
    }

    // MARK: what flows record

    /// The snapshot of the backup is there. `data`: what the driver stores with it.
    public static func snapshotMade(_ backup: Locked<Backup>, data: String?, in tx: any Transaction) throws {
        try tx.update(table, table.id(backup.id), set: table.temporarySnapshotData(data), table.temporarySnapshotAt(tx.now))
    }

    /// The driver does not tell of all that changed since the snapshot of the backup: it is not asked for that again.
    public static func distrustChanges(since backup: Locked<Backup>, in tx: any Transaction) throws {
        try tx.update(table, table.id(backup.id), set: table.distrustsChanges(true))
    }

    /// There is no snapshot of the backup any more.
    public static func forgetSnapshot(of backup: Locked<Backup>, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(backup.id), set: table.temporarySnapshotID(nil), table.temporarySnapshotData(nil),
            table.temporarySnapshotAt(nil))
    }

    static let forgetSnapshotsSQL = SQL(
        """
        UPDATE backups SET temp_snapshot_id = NULL, temp_snapshot_data = NULL, temp_snapshot_at = NULL
        WHERE volume_id = ? AND temp_snapshot_id IS NOT NULL AND status <> \(BackupStatus.creating.sql)
        """)
    /// They went with the storage object that the volume had. A backup that is only begun has none yet, but will.
    public static func forgetSnapshots(of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.run(forgetSnapshotsSQL, .text(volume.id))
        try BackupSnapshotRemovals.forget(of: volume, in: tx)
    }

    /// Begins an operation that removes the snapshot of a backup.
    public static func removeSnapshot(of backup: Locked<Backup>, _ volume: Locked<Volume>, caller: Caller, in tx: any Transaction) throws {
        guard let id = backup.temporarySnapshotID else { return }
        _ = try Operations.create(
            RemoveBackupSnapshotArguments(volumeID: volume.id, snapshotID: id, data: backup.temporarySnapshotData),
            resourceType: "backup", resourceID: backup.id, projectID: backup.projectID, caller: caller,
            claims: [.exclusive(new: id), .shared(volume)], in: tx)
    }
}
