public import Database

/// The one order in which transactions lock rows. Two that keep it never wait for each other; debug builds trap where one does not. A
/// transaction needs the locks of what it changes, and of what it must find unchanged at its end.
extension LockRank {
    /// By id. A policy's lock is also that of its assignments, its runs and their items.
    static let backupPolicies = LockRank(0, "backup policy")
    /// The operation that is carried on, by id.
    static let operations = LockRank(1, "operation")
    /// By id. A volume's lock is also that of its attachments, of its host connections, and of the claims on it.
    static let volumes = LockRank(2, "volume")
    /// By id, and after the volume that they belong to. A snapshot's lock is also that of the claims on it.
    static let snapshots = LockRank(3, "snapshot")
    /// By id, and after the volume that they are of or are restored to. A backup's lock is also that of the claims on it.
    static let backups = LockRank(4, "backup")
    /// By host.
    static let pools = LockRank(5, "pool")
    /// Quota usages by project and name. They are charged first and compared after.
    static let quotas = LockRank(6, "quota")
    /// Operations that may run when another one gives its claims up, by ticket: none of them is carried on by a transaction yet.
    static let waiters = LockRank(7, "waiting operation")
}

extension Volume: Lockable {
    public static var lockRank: LockRank { .volumes }
    public static let findStatement = SQL(VolumeTable.table.select("WHERE v.id = ?"))
    public static let lockStatement = SQL { VolumeTable.table.selectLocked("WHERE v.id = ?", $0) }
}

extension Snapshot: Lockable {
    public static var lockRank: LockRank { .snapshots }
    public static let findStatement = SQL(SnapshotTable.table.select("WHERE s.id = ?"))
    public static let lockStatement = SQL { SnapshotTable.table.selectLocked("WHERE s.id = ?", $0) }
}

extension Backup: Lockable {
    public static var lockRank: LockRank { .backups }
    public static let findStatement = SQL(BackupTable.table.select("WHERE b.id = ?"))
    public static let lockStatement = SQL { BackupTable.table.selectLocked("WHERE b.id = ?", $0) }
}

extension BackupPolicy: Lockable {
    public static var lockRank: LockRank { .backupPolicies }
    public static let findStatement = SQL(BackupPolicyTable.table.select("WHERE y.id = ?"))
    public static let lockStatement = SQL { BackupPolicyTable.table.selectLocked("WHERE y.id = ?", $0) }
}

extension BackupPolicies {
    /// Reads and locks any policy.
    static func lock(_ id: String, in tx: any Transaction) throws -> Locked<BackupPolicy>? { try tx.lock(BackupPolicy.self, id) }
}

extension Backups {
    /// Reads and locks any backup.
    public static func lock(_ id: String, in tx: any Transaction) throws -> Locked<Backup>? { try tx.lock(Backup.self, id) }

    /// Reads and locks a backup that the caller may see; a foreign one does not exist for it.
    static func lock(_ id: String, for caller: Caller, in tx: any Transaction) throws -> Locked<Backup> {
        guard let backup = try lock(id, in: tx), backup.value.isVisible(to: caller) else { throw StorageError.backupNotFound(id) }
        return backup
    }
}

extension Volumes {
    /// Reads and locks any volume.
    public static func lock(_ id: String, in tx: any Transaction) throws -> Locked<Volume>? { try tx.lock(Volume.self, id) }

    /// Reads and locks a volume that the caller may see; a foreign one does not exist for it.
    public static func lock(_ id: String, for caller: Caller, in tx: any Transaction) throws -> Locked<Volume> {
        guard let volume = try lock(id, in: tx), volume.value.isVisible(to: caller) else { throw StorageError.volumeNotFound(id) }
        return volume
    }
}

extension Snapshots {
    /// Reads and locks any snapshot.
    public static func lock(_ id: String, in tx: any Transaction) throws -> Locked<Snapshot>? { try tx.lock(Snapshot.self, id) }

    /// Reads and locks a snapshot that the caller may see; a foreign one does not exist for it.
    static func lock(_ id: String, for caller: Caller, in tx: any Transaction) throws -> Locked<Snapshot> {
        guard let snapshot = try lock(id, in: tx), snapshot.value.isVisible(to: caller) else { throw StorageError.snapshotNotFound(id) }
        return snapshot
    }

    /// The same with its volume, which is locked first.
    static func lockWithVolume(_ id: String, for caller: Caller, in tx: any Transaction) throws -> (Locked<Volume>, Locked<Snapshot>) {
        let found = try tx.lock(Snapshot.self, id) { snapshot in
            guard snapshot.isVisible(to: caller) else { throw StorageError.snapshotNotFound(id) }
            guard let volume = try Volumes.lock(snapshot.volumeID, in: tx) else { throw StorageError.volumeNotFound(snapshot.volumeID) }
            return volume
        }
        guard let found else { throw StorageError.snapshotNotFound(id) }
        return found
    }

    static let lockOfVolumeSQL = SQL { table.selectLocked("WHERE s.volume_id = ? ORDER BY s.created_at, s.id", $0) }
    /// Reads and locks the snapshots of a volume, oldest first. Who locks several has their volume's lock.
    public static func lockAll(of volume: Locked<Volume>, in tx: any Transaction) throws -> [Locked<Snapshot>] {
        try tx.lock(Snapshot.self, lockOfVolumeSQL, [.text(volume.id)])
    }

    /// Those of the volume's own project. Others stayed with the project that the volume was transferred from.
    static func lockOwn(of volume: Locked<Volume>, in tx: any Transaction) throws -> [Locked<Snapshot>] {
        try lockAll(of: volume, in: tx).filter { $0.projectID == volume.projectID }
    }
}
