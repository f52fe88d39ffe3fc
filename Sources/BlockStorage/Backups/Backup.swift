public import Database
public import JSON
import Primitives

/// A volume's content as of one moment, kept in a store.
public final class Backup: Sendable {
    public let id, projectID, userID, volumeID: String
    public let snapshotID, parentID: String?
    public let name, description: String?
    /// GiB.
    public let size: Int
    public let status: BackupStatus
    public let failReason: String?
    public let store, format, service, container, serviceMetadata: String?
    public let objectCount: Int
    public let host, availabilityZone: String?
    public let dataTimestamp, restoreVolumeID, encryptionKeyID: String?
    /// The snapshot that it is or was read from, where that was made for it; with what the driver stores with it, and when it was known to
    /// be there.
    public let temporarySnapshotID, temporarySnapshotData, temporarySnapshotAt: String?
    /// JSON text.
    public let metadata: String
    public let createdAt: String
    public let updatedAt: String?
    public let verifyStatus: VerifyStatus?
    public let verifiedAt: String?
    /// The policy that made it, which may be gone.
    public let policyID: String?
    /// Until then nobody deletes it.
    public let protectedUntil: String?
    /// No increment asks the volume's driver for what changed since the snapshot that it was made of.
    public let distrustsChanges: Bool
    /// When all of the volume was last read, for it or for what it was made on top of; of one that was imported, when it was made. nil: nobody
    /// knows.
    public let wholeReadAt: String?
    /// Whether another backup is nothing without it: one that was made on top of it, in a repository one that is being made so.
    public let hasDependents: Bool

    /// Of a row that `BackupTable` selected.
    public init(_ row: any Row) {
        let t = BackupTable.table
        id = row[t.id]
        projectID = row[t.projectID]
        userID = row[t.userID]
        volumeID = row[t.volumeID]
        snapshotID = row[t.snapshotID]
        parentID = row[t.parentID]
        name = row[t.name]
        description = row[t.description]
        size = row[t.size]
        status = row[t.status]
        failReason = row[t.failReason]
        store = row[t.store]
        format = row[t.format]
        service = row[t.service]
        container = row[t.container]
        serviceMetadata = row[t.serviceMetadata]
        objectCount = row[t.objectCount]
        host = row[t.host]
        availabilityZone = row[t.availabilityZone]
        dataTimestamp = row[t.dataTimestamp]
        restoreVolumeID = row[t.restoreVolumeID]
        temporarySnapshotID = row[t.temporarySnapshotID]
        temporarySnapshotData = row[t.temporarySnapshotData]
        temporarySnapshotAt = row[t.temporarySnapshotAt]
        encryptionKeyID = row[t.encryptionKeyID]
        metadata = row[t.metadata]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
        verifyStatus = row[t.verifyStatus]
        verifiedAt = row[t.verifiedAt]
        policyID = row[t.policyID]
        protectedUntil = row[t.protectedUntil]
        distrustsChanges = row[t.distrustsChanges]
        wholeReadAt = row[t.wholeReadAt]
        hasDependents = !row.isNull(t.dependentID)
    }

    public var isIncremental: Bool { parentID != nil }

    /// The format whose backups do not rest on one another, though increments are made by a comparison.
    static let repositoryFormat = "repository"

    /// Whether it is whole without the backup on top of which it was made: that one may be gone.
    public var standsAlone: Bool { format == Self.repositoryFormat }

    /// Whether all of it was put into the store, whatever became of it.
    var isWhole: Bool { objectCount > 0 || status == .available || status == .restoring }

    /// Whether the backup exists for the caller.
    func isVisible(to caller: Caller) -> Bool { caller.isAdmin || projectID == caller.projectID }
}

extension BackupStatus {
    /// What an administrator can set, in the order of Cinder's message.
    public static let settable = [available, error]
    /// What may be deleted without force. What failed to be deleted can be tried again.
    static let deletable = [available, error, errorDeleting]
}

/// Statements about backups.
public enum Backups {
    static let table = BackupTable.table

    public static func find(_ id: String, in connection: any Connection) throws -> Backup? {
        try connection.first(Backup.findStatement, .text(id)) { Backup($0) }
    }

    /// A backup that the caller may see.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Backup {
        guard let backup = try find(id, in: connection), backup.isVisible(to: caller) else { throw StorageError.backupNotFound(id) }
        return backup
    }

    /// Backups that one may rest on: nobody makes so many, and a circle ends there.
    static let longestChain = 10_000

    static let chainLengthSQL = SQL(
        """
        WITH RECURSIVE chain(id, parent_id, number) AS (SELECT id, parent_id, 1 FROM backups WHERE id = ?
            UNION ALL SELECT b.id, b.parent_id, number + 1 FROM backups b JOIN chain ON b.id = chain.parent_id
            WHERE number < \(longestChain))
        SELECT max(number) FROM chain
        """)
    /// How many backups a chain has that ends with this one.
    static func chainLength(_ id: String, in connection: any Connection) throws -> Int {
        try connection.first(chainLengthSQL, .text(id)) { $0.int(0) } ?? 0
    }

    /// What restoring a backup reads: the backups that it rests on, the full one first, and itself. In a repository those on top of which it was
    /// made, as far as they are still there.
    public static func chain(_ id: String, in connection: any Connection) throws -> [Backup] {
        var chain: [Backup] = []
        var next: String? = id
        while let id = next {
            let standsAlone = chain.last?.standsAlone ?? false
            guard let backup = try find(id, in: connection) else {
                if standsAlone { break }
                throw StorageError.backupNotFound(id)
            }
            guard chain.count < longestChain else {
                if standsAlone { break }
                throw StorageError.invalidBackup("it rests on more than \(longestChain) others, or on itself.")
            }
            chain.append(backup)
            next = backup.parentID
        }
        return chain.reversed()
    }

    static let parentSQL = SQL(
        table.select(
            """
            WHERE b.volume_id = ? AND b.project_id = ? AND b.status = \(BackupStatus.available.sql) AND (? = '' OR b.data_timestamp < ?)
            ORDER BY b.data_timestamp DESC, b.id LIMIT 1
            """))
    /// The backup that an increment is made on top of: the project's newest of the volume that is whole. `before`: of a snapshot, when
    /// it was made.
    static func parent(ofVolume id: String, project: String, before: String?, in connection: any Connection) throws -> Backup? {
        let before = before ?? ""
        return try connection.first(parentSQL, .text(id), .text(project), .text(before), .text(before)) { Backup($0) }
    }

    static let newestSQL = SQL(
        table.select(
            "WHERE b.volume_id = ? AND b.project_id = ? AND b.status = \(BackupStatus.available.sql) ORDER BY b.created_at DESC, b.id LIMIT 1"
        ))
    /// The whole backup of the volume that the project made last, whatever it is of.
    static func newest(ofVolume id: String, project: String, in connection: any Connection) throws -> Backup? {
        try connection.first(newestSQL, .text(id), .text(project)) { Backup($0) }
    }

    // MARK: what flows record

    public static func setStatus(_ status: BackupStatus, of backup: Locked<Backup>, failReason: String? = nil, in tx: any Transaction)
        throws
    {
        try tx.update(
            table, table.id(backup.id), set: table.status(status),
            table.failReason(failReason.map { String($0.unicodeScalars.prefix(255)) } ?? backup.failReason), table.updatedAt(tx.now))
    }

    /// Where the objects of a new backup are put.
    public struct Place: Sendable {
        public var store, format, service, host: String
        public var zone: String?
        public var container, serviceMetadata: String?
        /// What the snapshot is called that is made to be read; nil: as others.
        public var snapshotName: String?
        public init(store: String, format: String, service: String, host: String) {
            self.store = store
            self.format = format
            self.service = service
            self.host = host
        }
    }

    public static func place(_ backup: Locked<Backup>, at place: Place, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(backup.id), set: table.store(place.store), table.format(place.format), table.service(place.service),
            table.host(place.host), table.availabilityZone(place.zone), table.container(place.container),
            table.serviceMetadata(place.serviceMetadata),
            table.temporarySnapshotID(backup.temporarySnapshotID.map { place.snapshotName ?? $0 }), table.updatedAt(tx.now))
    }

    /// The key that the backed up content is encrypted by.
    public static func setEncryptionKey(_ id: String?, of backup: Locked<Backup>, in tx: any Transaction) throws {
        try tx.update(table, table.id(backup.id), set: table.encryptionKeyID(id))
    }

    /// All of it is in the store. `inherits`: what the volume's driver called unchanged was not read, but is as in the backup that it was made
    /// on top of.
    public static func made(_ backup: Locked<Backup>, objectCount: Int, inherits: Bool = false, in tx: any Transaction) throws {
        let parent = inherits ? try backup.parentID.flatMap { try find($0, in: tx) } : nil
        try tx.update(
            table, table.id(backup.id), set: table.status(.available), table.objectCount(objectCount), table.failReason(nil),
            table.wholeReadAt(inherits ? parent?.wholeReadAt : backup.createdAt), table.updatedAt(tx.now))
    }

    /// The volume that it is restored to, as long as it is.
    static func restoring(_ backup: Locked<Backup>, to volume: String, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(backup.id), set: table.status(.restoring), table.restoreVolumeID(volume), table.updatedAt(tx.now))
    }

    /// Removes the row and gives its charge back.
    public static func remove(_ backup: Locked<Backup>, in tx: any Transaction) throws {
        try tx.delete(from: BackupDamageTable.table, BackupDamageTable.table.backupID(backup.id))
        try tx.delete(from: table, table.id(backup.id))
        try Quotas.addBackup(gigabytes: -backup.size, count: -1, project: backup.projectID, in: tx)
    }

    /// Removes the row of one whose objects could not be removed, and tells so.
    public static func forget(_ backup: Locked<Backup>, because reason: String, of operation: Operation, in tx: any Transaction) throws {
        try remove(backup, in: tx)
        try append(
            "backup.forgotten", backup.value, caller: operation.caller,
            data: [
                "reason": .string(reason), "store": JSON(backup.store), "container": JSON(backup.container),
                "service_metadata": JSON(backup.serviceMetadata), "encryption_key_id": JSON(backup.encryptionKeyID),
            ], in: tx)
    }

    // MARK: what users change

    /// Changes name, description and (as a whole) metadata; nil leaves one as it is.
    public static func update(
        _ id: String, name: JSON?, description: JSON?, metadata: JSONObject?, caller: Caller, in tx: any Transaction
    ) throws {
        let backup = try lock(id, for: caller, in: tx)
        let before = try JSON(parsing: backup.metadata).object ?? [:]
        try tx.update(
            table, table.id(id), set: table.name(name.map { $0.string } ?? backup.name),
            table.description(description.map { $0.string } ?? backup.description),
            table.metadata(try metadata?.stored("metadata", before: before) ?? backup.metadata), table.updatedAt(tx.now))
    }

    /// Ends the protection that a policy gave it: it can be deleted again.
    public static func unprotect(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let backup = try lock(id, for: caller, in: tx)
        guard let until = backup.protectedUntil else { return }
        try tx.update(table, table.id(id), set: table.protectedUntil(nil), table.updatedAt(tx.now))
        try append("backup.unprotect", backup.value, caller: caller, data: ["protected_until": .string(until)], in: tx)
    }

    /// Sets the state as an administrator says. Operations in flight keep their claims.
    public static func resetStatus(_ id: String, status: String, caller: Caller, in tx: any Transaction) throws {
        let backup = try lock(id, for: caller, in: tx)
        try setStatus(BackupStatus(rawValue: status.lowercased()), of: backup, in: tx)
        try append("backup.reset_status", backup.value, caller: caller, data: ["status": .string(status.lowercased())], in: tx)
    }

    static func append(_ kind: String, _ backup: Backup, caller: Caller, data: JSONObject = [:], in tx: any Transaction) throws {
        try Events.append(
            kind, resourceType: "backup", resourceID: backup.id, projectID: backup.projectID, operationID: nil,
            requestID: caller.requestID, data: data, in: tx)
        try NotificationOutbox.noteEvent(kind, backup.id, caller: caller, in: tx)
    }
}
