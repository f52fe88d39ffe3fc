public import Database
public import JSON
import Primitives

/// A volume's content as of one moment.
public struct Snapshot: Sendable {
    public let id, volumeID, projectID, userID: String
    public let name, description: String?
    /// GiB.
    public let size: Int
    public let status: SnapshotStatus
    public let progress: String?
    public let volumeTypeID, typeName: String
    /// JSON text.
    public let metadata: String
    public let driverData: String?
    public let consumesQuota: Bool
    public let createdAt: String
    public let updatedAt: String?
    /// The policy that made it, which may be gone.
    public let policyID: String?

    /// Of a row that `SnapshotTable` selected.
    public init(_ row: any Row) {
        let t = SnapshotTable.table
        id = row[t.id]
        volumeID = row[t.volumeID]
        projectID = row[t.projectID]
        userID = row[t.userID]
        name = row[t.name]
        description = row[t.description]
        size = row[t.size]
        status = row[t.status]
        progress = row[t.progress]
        volumeTypeID = row[t.volumeTypeID]
        typeName = row[t.typeName]
        metadata = row[t.metadata]
        driverData = row[t.driverData]
        consumesQuota = row[t.consumesQuota]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
        policyID = row[t.policyID]
    }

    /// Whether the snapshot exists for the caller.
    func isVisible(to caller: Caller) -> Bool { caller.isAdmin || projectID == caller.projectID }
}

extension SnapshotStatus {
    /// All that an administrator can set, in the order of Cinder's message.
    public static let settable = [
        error, available, creating, deleting, deleted, updating, errorDeleting, unmanaging, backingUp, restoring,
    ]
    /// What failed to be deleted can be tried again.
    static let deletable = [available, error, errorDeleting]
    /// What Nova may say of a snapshot that it makes itself.
    static let reported = [creating: [creating, available, error], deleting: [deleting, errorDeleting]]
}

/// Statements about snapshots.
public enum Snapshots {
    static let table = SnapshotTable.table
    static let ofVolumeSQL = SQL(table.select("WHERE s.volume_id = ? ORDER BY s.created_at, s.id"))

    public static func find(_ id: String, in connection: any Connection) throws -> Snapshot? {
        try connection.first(Snapshot.findStatement, .text(id)) { Snapshot($0) }
    }

    /// A snapshot that the caller may see.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Snapshot {
        guard let snapshot = try find(id, in: connection), snapshot.isVisible(to: caller) else {
            throw StorageError.snapshotNotFound(id)
        }
        return snapshot
    }

    /// Oldest first.
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [Snapshot] {
        try connection.rows(ofVolumeSQL, .text(id)) { Snapshot($0) }
    }

    static func insert(_ new: NewSnapshot, of volume: Locked<Volume>, caller: Caller, in tx: any Transaction) throws -> String {
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.volumeID(volume.id), table.projectID(volume.projectID), table.userID(caller.userID),
            table.name(new.name), table.description(new.description), table.size(volume.size), table.status(.creating),
            table.progress("0%"), table.volumeTypeID(volume.volumeTypeID), table.metadata(try new.metadata.stored("metadata")),
            table.consumesQuota(true), table.createdAt(tx.now), table.policyID(new.policyID),
            table.encryptionKeyID(volume.encryptionKeyID))
        return id
    }

    /// The driver made it.
    public static func made(_ snapshot: Locked<Snapshot>, driverData: String?, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(snapshot.id), set: table.status(.available), table.progress("100%"), table.driverData(driverData),
            table.updatedAt(tx.now))
    }

    /// The size that the backend says, and its charge.
    public static func resize(_ snapshot: Locked<Snapshot>, to size: Int, chargesGigabytes: Bool, in tx: any Transaction) throws {
        try tx.update(table, table.id(snapshot.id), set: table.size(size))
        if snapshot.consumesQuota, chargesGigabytes {
            try Quotas.add(Charge(gigabytes: size - snapshot.size), type: snapshot.typeName, project: snapshot.projectID, in: tx)
        }
    }

    public static func setStatus(_ status: SnapshotStatus, of snapshot: Locked<Snapshot>, in tx: any Transaction) throws {
        try tx.update(table, table.id(snapshot.id), set: table.status(status), table.updatedAt(tx.now))
    }

    /// From now on the snapshot is the caller's.
    static func give(_ snapshot: Locked<Snapshot>, to caller: Caller, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(snapshot.id), set: table.projectID(caller.projectID), table.userID(caller.userID), table.updatedAt(tx.now))
    }

    /// Removes the row and gives its charge back.
    public static func remove(_ snapshot: Locked<Snapshot>, chargesGigabytes: Bool, in tx: any Transaction) throws {
        try tx.delete(from: table, table.id(snapshot.id))
        try Quotas.add(
            -snapshot.value.charge(chargesGigabytes: chargesGigabytes), type: snapshot.typeName, project: snapshot.projectID, in: tx)
    }

    // MARK: what users change

    /// Changes name and description; nil leaves one as it is.
    public static func update(_ id: String, name: JSON?, description: JSON?, caller: Caller, in tx: any Transaction) throws {
        let snapshot = try lock(id, for: caller, in: tx)
        try tx.update(
            table, table.id(id), set: table.name(name.map { $0.string } ?? snapshot.name),
            table.description(description.map { $0.string } ?? snapshot.description), table.updatedAt(tx.now))
        try NotificationOutbox.note(NotificationRule(subject: .snapshot, name: "snapshot.update"), id, caller: caller, in: tx)
    }

    @discardableResult
    public static func updateMetadata(
        _ id: String, caller: Caller, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void
    ) throws -> JSONObject {
        let before = try JSON(parsing: lock(id, for: caller, in: tx).metadata).object ?? [:]
        var metadata = before
        try change(&metadata)
        try tx.update(
            table, table.id(id), set: table.metadata(try metadata.stored("metadata", before: before)), table.updatedAt(tx.now))
        return metadata
    }

    /// Sets the state as an administrator says.
    public static func resetStatus(_ id: String, status: String, caller: Caller, in tx: any Transaction) throws {
        try setStatus(SnapshotStatus(rawValue: status.lowercased()), of: lock(id, for: caller, in: tx), in: tx)
        try NotificationOutbox.note(NotificationRule(subject: .snapshot, name: "snapshot.reset_status"), id, caller: caller, in: tx)
    }

    /// What Nova says of a snapshot that it makes or removes itself.
    public static func report(_ id: String, status: String, progress: String?, caller: Caller, in tx: any Transaction) throws {
        let snapshot = try lock(id, for: caller, in: tx)
        guard let allowed = SnapshotStatus.reported[snapshot.status] else {
            throw StorageError(.invalid, "Snapshot status \(snapshot.status) not allowed for update_snapshot_status")
        }
        let reported = SnapshotStatus(rawValue: status)
        guard allowed.contains(reported) else {
            throw StorageError(
                .invalid, "Provided snapshot status \(status) not allowed for snapshot with status \(snapshot.status).")
        }
        try tx.update(
            table, table.id(id), set: table.status(reported), table.progress(progress ?? snapshot.progress), table.updatedAt(tx.now))
    }
}
