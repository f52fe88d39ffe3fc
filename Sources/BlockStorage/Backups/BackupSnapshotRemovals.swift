public import Database

/// A snapshot of a backup whose removal failed, or one that an image is made of, which must go whatever becomes of that.
public struct BackupSnapshotRemoval: Sendable {
    /// `backupID`: it was made for that one, which may be gone.
    public let snapshotID, backupID, volumeID, projectID: String
    /// What the driver stores with it.
    public let data: String?
    /// How often it was tried, never of one that is still read, and why it failed last.
    public let attempts: Int
    public let message: String
    public let retryAt: String

    init(_ row: any Row) {
        let t = BackupSnapshotRemovalTable.table
        snapshotID = row[t.snapshotID]
        backupID = row[t.backupID]
        volumeID = row[t.volumeID]
        projectID = row[t.projectID]
        data = row[t.data]
        attempts = row[t.attempts]
        message = row[t.message]
        retryAt = row[t.retryAt]
    }
}

/// Snapshots of backups whose removal failed. The operation that removes one holds its volume only as long as it tries: where it fails,
/// what is still to be done stays here, and another operation tries it again later. A volume's lock is also that of these.
public enum BackupSnapshotRemovals {
    private static let table = BackupSnapshotRemovalTable.table

    public static func find(_ snapshotID: String, in connection: any Connection) throws -> BackupSnapshotRemoval? {
        try connection.first(of: table, table.snapshotID(snapshotID)) { BackupSnapshotRemoval($0) }
    }

    static let ofVolumeSQL = SQL(table.select("WHERE m.volume_id = ? ORDER BY m.snapshot_id"))
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [BackupSnapshotRemoval] {
        try connection.rows(ofVolumeSQL, .text(id)) { BackupSnapshotRemoval($0) }
    }

    static let dueSQL = SQL(
        """
        SELECT m.snapshot_id FROM backup_snapshot_removals m WHERE \(RetryTime.isDue(table.retryAt))
        AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.resource = m.snapshot_id) ORDER BY m.retry_at, m.snapshot_id LIMIT 100
        """)
    /// Snapshots that it is time to try to remove again, and that no operation is at work on.
    public static func due(in connection: any Connection) throws -> [String] {
        let (now, latest) = RetryTime.bounds(in: connection)
        return try connection.rows(dueSQL, now, latest) { $0.text(0) }
    }

    /// Notes a snapshot before the volume's driver is asked to make it, and again with what the driver stores with it: it is removed when the
    /// operation that reads it has ended, whatever way. That operation has claimed the snapshot's id; until then nobody else removes it, but who
    /// removes the volume.
    public static func note(
        _ snapshotID: String, of volume: Locked<Volume>, readFor reader: String, data: String?, in tx: any Transaction
    ) throws {
        let t = table
        guard try find(snapshotID, in: tx) == nil else {
            try tx.update(t, t.snapshotID(snapshotID), set: t.data(data))
            return
        }
        try tx.insert(
            into: t, t.snapshotID(snapshotID), t.backupID(reader), t.volumeID(volume.id), t.projectID(volume.projectID), t.data(data),
            t.attempts(0), t.message(""), t.retryAt(tx.now), t.createdAt(tx.now))
    }

    /// Begins the operation that removes a snapshot which was noted, in the transaction that ends the one that read it.
    public static func begin(_ snapshotID: String, of volume: Locked<Volume>, caller: Caller, in tx: any Transaction) throws {
        guard let found = try find(snapshotID, in: tx) else { return }
        _ = try Operations.create(
            RemoveBackupSnapshotArguments(volumeID: found.volumeID, snapshotID: snapshotID, data: found.data), resourceType: "image",
            resourceID: found.backupID, projectID: found.projectID, caller: caller,
            claims: [.exclusive(new: snapshotID), .shared(volume)], in: tx)
    }

    /// Notes that an attempt failed. Returns how many did.
    public static func failed(
        _ arguments: RemoveBackupSnapshotArguments, backupID: String, projectID: String, message: String, in tx: any Transaction
    ) throws -> Int {
        let (t, id) = (table, arguments.snapshotID)
        let known = try find(id, in: tx)
        let attempts = (known?.attempts ?? 0) + 1
        let (message, retryAt) = (String(message.unicodeScalars.prefix(255)), RetryTime.next(after: attempts, in: tx))
        if known != nil {
            try tx.update(t, t.snapshotID(id), set: t.attempts(attempts), t.message(message), t.retryAt(retryAt))
        } else {
            try tx.insert(
                into: t, t.snapshotID(id), t.backupID(backupID), t.volumeID(arguments.volumeID), t.projectID(projectID),
                t.data(arguments.data), t.attempts(1), t.message(message), t.retryAt(retryAt), t.createdAt(tx.now))
        }
        return attempts
    }

    /// It is gone.
    public static func finished(_ snapshotID: String, in tx: any Transaction) throws {
        try tx.delete(from: table, table.snapshotID(snapshotID))
    }

    /// They went with the storage object that the volume had.
    static func forget(of volume: Locked<Volume>, in tx: any Transaction) throws { try tx.delete(from: table, table.volumeID(volume.id)) }

    /// Begins an operation that tries again, unless one is at work on the snapshot. False: there is nothing to remove any more, or it is tried.
    @discardableResult
    public static func retry(_ snapshotID: String, caller: Caller, in tx: any Transaction) throws -> Bool {
        guard let found = try find(snapshotID, in: tx) else { return false }
        guard let volume = try Volumes.lock(found.volumeID, in: tx), volume.host != nil else {
            try finished(snapshotID, in: tx)
            return false
        }
        guard try !Operations.isClaimed(snapshotID, in: tx), try find(snapshotID, in: tx) != nil else { return false }
        _ = try Operations.create(
            RemoveBackupSnapshotArguments(volumeID: found.volumeID, snapshotID: snapshotID, data: found.data), resourceType: "backup",
            resourceID: found.backupID, projectID: found.projectID, caller: caller,
            claims: [.exclusive(new: snapshotID), .shared(volume)], in: tx)
        return true
    }
}
