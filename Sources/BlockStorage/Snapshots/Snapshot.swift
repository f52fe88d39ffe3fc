public import Database
public import JSON
import Primitives

/// A volume's content as of one moment.
public struct Snapshot: Sendable {
    public let id, volumeID, projectID, userID: String
    public let name, description: String?
    /// GiB.
    public let size: Int
    public let status: String
    public let progress: String?
    public let volumeTypeID, typeName: String
    /// JSON text.
    public let metadata: String
    public let driverData: String?
    public let consumesQuota: Bool
    public let createdAt: String
    public let updatedAt: String?

    static let select = """
        SELECT s.id, s.volume_id, s.project_id, s.user_id, s.name, s.description, s.size, s.status, s.progress, s.volume_type_id, t.name,
            s.metadata, s.driver_data, s.consumes_quota, s.created_at, s.updated_at
        FROM snapshots s JOIN volume_types t ON t.id = s.volume_type_id
        """

    init(_ row: any Row) {
        id = row.text(0)
        volumeID = row.text(1)
        projectID = row.text(2)
        userID = row.text(3)
        name = row.optionalText(4)
        description = row.optionalText(5)
        size = row.int(6)
        status = row.text(7)
        progress = row.optionalText(8)
        volumeTypeID = row.text(9)
        typeName = row.text(10)
        metadata = row.text(11)
        driverData = row.optionalText(12)
        consumesQuota = row.bool(13)
        createdAt = row.text(14)
        updatedAt = row.optionalText(15)
    }
}

/// States of a snapshot.
public enum SnapshotStatus {
    /// All, in the order of Cinder's message.
    public static let all = [
        "error", "available", "creating", "deleting", "deleted", "updating", "error_deleting", "unmanaging", "backing-up", "restoring",
    ]
    /// What failed to be deleted can be tried again.
    static let deletable = ["available", "error", "error_deleting"]
    /// What Nova may say of a snapshot that it makes itself.
    static let reported = ["creating": ["creating", "available", "error"], "deleting": ["deleting", "error_deleting"]]
}

/// Statements about snapshots.
public enum Snapshots {
    static let byID = SQL(Snapshot.select + " WHERE s.id = ?")
    static let ofVolumeSQL = SQL(Snapshot.select + " WHERE s.volume_id = ? ORDER BY s.created_at, s.id")

    public static func find(_ id: String, in connection: any Connection) throws -> Snapshot? {
        try connection.first(byID, .text(id)) { Snapshot($0) }
    }

    /// A snapshot that the caller may see.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Snapshot {
        guard let snapshot = try find(id, in: connection), caller.isAdmin || snapshot.projectID == caller.projectID else {
            throw StorageError.snapshotNotFound(id)
        }
        return snapshot
    }

    /// Oldest first.
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [Snapshot] {
        try connection.rows(ofVolumeSQL, .text(id)) { Snapshot($0) }
    }

    static let insertSQL = SQL(
        """
        INSERT INTO snapshots (id, volume_id, project_id, user_id, name, description, size, status, progress, volume_type_id, metadata,
            consumes_quota, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, 'creating', '0%', ?, ?, 1, ?)
        """)
    static func insert(_ new: NewSnapshot, of volume: Volume, caller: Caller, in tx: any Transaction) throws -> String {
        let id = UUID.random()
        try tx.run(
            insertSQL, .text(id), .text(volume.id), .text(volume.projectID), .text(caller.userID), .string(new.name),
            .string(new.description), .int(volume.size), .text(volume.volumeTypeID), .text(try new.metadata.stored("metadata")),
            .text(tx.now))
        return id
    }

    static let madeSQL = SQL("UPDATE snapshots SET status = 'available', progress = '100%', driver_data = ?, updated_at = ? WHERE id = ?")
    /// The driver made it.
    public static func made(_ id: String, driverData: String?, in tx: any Transaction) throws {
        try tx.run(madeSQL, .string(driverData), .text(tx.now), .text(id))
    }

    static let resizeSQL = SQL("UPDATE snapshots SET size = ? WHERE id = ?")
    /// The size that the backend says, and its charge.
    public static func resize(_ snapshot: Snapshot, to size: Int, chargesGigabytes: Bool, in tx: any Transaction) throws {
        if snapshot.consumesQuota, chargesGigabytes {
            try Quotas.add(project: snapshot.projectID, type: snapshot.typeName, volumes: 0, gigabytes: size - snapshot.size, in: tx)
        }
        try tx.run(resizeSQL, .int(size), .text(snapshot.id))
    }

    static let setStatusSQL = SQL("UPDATE snapshots SET status = ?, updated_at = ? WHERE id = ?")
    public static func setStatus(_ status: String, of id: String, in tx: any Transaction) throws {
        try tx.run(setStatusSQL, .text(status), .text(tx.now), .text(id))
    }

    static let swapStatusSQL = SQL("UPDATE snapshots SET status = ?, updated_at = ? WHERE id = ? AND status = ?")
    static func setStatus(_ status: String, of snapshot: Snapshot, in tx: any Transaction) throws -> Bool {
        try tx.run(swapStatusSQL, .text(status), .text(tx.now), .text(snapshot.id), .text(snapshot.status)) == 1
    }

    static let removeSQL = SQL("DELETE FROM snapshots WHERE id = ?")
    /// Removes the row and gives its charge back.
    public static func remove(_ snapshot: Snapshot, chargesGigabytes: Bool, in tx: any Transaction) throws {
        if snapshot.consumesQuota {
            try Quotas.add(
                project: snapshot.projectID, type: snapshot.typeName, volumes: 0, gigabytes: chargesGigabytes ? -snapshot.size : 0,
                snapshots: -1, in: tx)
        }
        try tx.run(removeSQL, .text(snapshot.id))
    }

    // MARK: what users change

    static let updateSQL = SQL("UPDATE snapshots SET name = ?, description = ?, updated_at = ? WHERE id = ?")
    /// Changes name and description; nil leaves one as it is.
    public static func update(_ id: String, name: JSON?, description: JSON?, caller: Caller, in tx: any Transaction) throws {
        let snapshot = try get(id, for: caller, in: tx)
        try tx.run(
            updateSQL, .string(name.map { $0.string } ?? snapshot.name), .string(description.map { $0.string } ?? snapshot.description),
            .text(tx.now), .text(id))
    }

    static let setMetadataSQL = SQL("UPDATE snapshots SET metadata = ?, updated_at = ? WHERE id = ?")
    @discardableResult
    public static func updateMetadata(
        _ id: String, caller: Caller, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void
    ) throws -> JSONObject {
        let before = try JSON(parsing: get(id, for: caller, in: tx).metadata).object ?? [:]
        var metadata = before
        try change(&metadata)
        try tx.run(setMetadataSQL, .text(try metadata.stored("metadata", before: before)), .text(tx.now), .text(id))
        return metadata
    }

    /// Sets the state as an administrator says.
    public static func resetStatus(_ id: String, status: String, caller: Caller, in tx: any Transaction) throws {
        _ = try get(id, for: caller, in: tx)
        try setStatus(status.lowercased(), of: id, in: tx)
    }

    static let setProgressSQL = SQL("UPDATE snapshots SET status = ?, progress = ?, updated_at = ? WHERE id = ?")
    /// What Nova says of a snapshot that it makes or removes itself.
    public static func report(_ id: String, status: String, progress: String?, caller: Caller, in tx: any Transaction) throws {
        let snapshot = try get(id, for: caller, in: tx)
        guard let allowed = SnapshotStatus.reported[snapshot.status] else {
            throw StorageError(.invalid, "Snapshot status \(snapshot.status) not allowed for update_snapshot_status")
        }
        guard allowed.contains(status) else {
            throw StorageError(
                .invalid, "Provided snapshot status \(status) not allowed for snapshot with status \(snapshot.status).")
        }
        try tx.run(setProgressSQL, .text(status), .string(progress ?? snapshot.progress), .text(tx.now), .text(id))
    }
}
