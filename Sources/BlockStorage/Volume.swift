public import Database
public import JSON
import Primitives

/// The columns of a volume in the order in which every query of volumes selects them.
public enum VolumeColumn: Int, CaseIterable, Sendable {
    case id, projectID, userID, name, description, size, status, previousStatus, attachStatus, migrationStatus, replicationStatus
    case availabilityZone, host, clusterName, volumeTypeID, snapshotID, sourceVolumeID, groupID, bootable, multiattach, encryptionKeyID
    case providerID, driverData, nameID, serviceID, sharedTargets, consumesQuota, metadata, adminMetadata, imageMetadata, createdAt,
        updatedAt
    /// Of the volume's type, by a join.
    case typeName

    var sql: String {
        switch self {
        case .projectID: "v.project_id"
        case .userID: "v.user_id"
        case .previousStatus: "v.previous_status"
        case .attachStatus: "v.attach_status"
        case .migrationStatus: "v.migration_status"
        case .replicationStatus: "v.replication_status"
        case .availabilityZone: "v.availability_zone"
        case .clusterName: "v.cluster_name"
        case .volumeTypeID: "v.volume_type_id"
        case .snapshotID: "v.snapshot_id"
        case .sourceVolumeID: "v.source_volid"
        case .groupID: "v.group_id"
        case .encryptionKeyID: "v.encryption_key_id"
        case .providerID: "v.provider_id"
        case .driverData: "v.driver_data"
        case .nameID: "v.name_id"
        case .serviceID: "v.service_uuid"
        case .sharedTargets: "v.shared_targets"
        case .consumesQuota: "v.consumes_quota"
        case .adminMetadata: "v.admin_metadata"
        case .imageMetadata: "v.image_metadata"
        case .createdAt: "v.created_at"
        case .updatedAt: "v.updated_at"
        case .typeName: "t.name"
        default: "v.\(self)"
        }
    }

    /// `SELECT ... FROM volumes` with the type's name joined.
    public static let select =
        "SELECT " + allCases.map(\.sql).joined(separator: ", ") + " FROM volumes v JOIN volume_types t ON t.id = v.volume_type_id"
}

extension Row {
    public func bytes(_ column: VolumeColumn) -> UnsafeBufferPointer<UInt8>? { bytes(column.rawValue) }
    public func text(_ column: VolumeColumn) -> String { text(column.rawValue) }
    public func optionalText(_ column: VolumeColumn) -> String? { optionalText(column.rawValue) }
    public func integer(_ column: VolumeColumn) -> Int64 { integer(column.rawValue) }
    public func bool(_ column: VolumeColumn) -> Bool { bool(column.rawValue) }
    public func isNull(_ column: VolumeColumn) -> Bool { isNull(column.rawValue) }
}

/// A volume as the domain works with it.
public struct Volume: Sendable {
    public let id, projectID, userID: String
    public let name: String?
    public let size: Int
    public let status: String
    public let previousStatus: String?
    public let attachStatus: String
    public let migrationStatus: String?
    public let availabilityZone: String?
    public let host: String?
    public let volumeTypeID, typeName: String
    public let snapshotID: String?
    public let sourceVolumeID: String?
    public let groupID: String?
    public let multiattach, bootable: Bool
    public let driverData: String?
    public let nameID: String?
    public let consumesQuota: Bool
    public let metadata, adminMetadata: String
    public let createdAt: String

    init(_ row: any Row) {
        id = row.text(.id)
        projectID = row.text(.projectID)
        userID = row.text(.userID)
        name = row.optionalText(.name)
        size = Int(row.integer(.size))
        status = row.text(.status)
        previousStatus = row.optionalText(.previousStatus)
        attachStatus = row.text(.attachStatus)
        migrationStatus = row.optionalText(.migrationStatus)
        availabilityZone = row.optionalText(.availabilityZone)
        host = row.optionalText(.host)
        volumeTypeID = row.text(.volumeTypeID)
        typeName = row.text(.typeName)
        snapshotID = row.optionalText(.snapshotID)
        sourceVolumeID = row.optionalText(.sourceVolumeID)
        groupID = row.optionalText(.groupID)
        multiattach = row.bool(.multiattach)
        bootable = row.bool(.bootable)
        driverData = row.optionalText(.driverData)
        nameID = row.optionalText(.nameID)
        consumesQuota = row.bool(.consumesQuota)
        metadata = row.text(.metadata)
        adminMetadata = row.text(.adminMetadata)
        createdAt = row.text(.createdAt)
    }

    public var isMigrating: Bool { migrationStatus.map { !["deleting", "error", "success"].contains($0) } ?? false }
    /// `host@backend` of `host@backend#pool`.
    public var backend: String? { host.map(HostName.backend) }
    public var pool: String? { host?.split(separator: "#", maxSplits: 1).dropFirst().first.map(String.init) }

    func adminMetadata(_ key: String) -> String? { (try? JSON(parsing: adminMetadata))?[key]?.string }
}

/// Statements about volumes.
public enum Volumes {
    public static let byID = SQL(VolumeColumn.select + " WHERE v.id = ?")

    /// Any volume.
    public static func find(_ id: String, in connection: any Connection) throws -> Volume? {
        try connection.first(byID, .text(id)) { Volume($0) }
    }

    /// A volume that the caller may see; a foreign one does not exist for it.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Volume {
        guard let volume = try find(id, in: connection), caller.isAdmin || volume.projectID == caller.projectID else {
            throw StorageError.volumeNotFound(id)
        }
        return volume
    }

    static let insert = SQL(
        """
        INSERT INTO volumes (id, project_id, user_id, name, description, size, status, attach_status, availability_zone, host,
            volume_type_id, snapshot_id, source_volid, bootable, multiattach, shared_targets, consumes_quota,
            metadata, admin_metadata, image_metadata, created_at)
        VALUES (?, ?, ?, ?, ?, ?, 'creating', 'detached', ?, NULL, ?, ?, ?, ?, ?, 1, 1, ?, '{}', ?, ?)
        """)
    static let insertManagedSQL = SQL(
        """
        INSERT INTO volumes (id, project_id, user_id, name, description, size, status, attach_status, availability_zone, host,
            volume_type_id, bootable, multiattach, shared_targets, consumes_quota, metadata, admin_metadata, image_metadata, created_at)
        VALUES (?, ?, ?, ?, ?, 0, 'managing', 'detached', ?, NULL, ?, ?, ?, 1, 1, ?, '{}', '{}', ?)
        """)
    static let removeSQL = SQL("DELETE FROM volumes WHERE id = ?")
    /// Removes the row; the history stays in the events.
    public static func remove(_ volume: Volume, in tx: any Transaction) throws {
        try Attachments.removeAll(ofVolume: volume.id, in: tx)
        try HostConnections.end(volume.id, connector: nil, in: tx)
        try tx.run(removeSQL, .text(volume.id))
    }

    /// Removes the row, and gives back what it was charged and what was claimed for it.
    public static func erase(_ volume: Volume, in tx: any Transaction) throws {
        if volume.consumesQuota {
            try Quotas.add(project: volume.projectID, type: volume.typeName, volumes: -1, gigabytes: -volume.size, in: tx)
        }
        if let host = volume.host { try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx) }
        try remove(volume, in: tx)
    }

    private static let transitions: [String: SQL] = Dictionary(
        VolumeTransition.all.map { transition in
            var conditions = transition.conditions.map(\.rawValue)
            if let from = transition.from {
                var states = "status IN (" + from.map { "'\($0)'" }.joined(separator: ", ") + ")"
                if transition.allowsMultiattach { states = "(\(states) OR (status = 'in-use' AND multiattach = 1))" }
                conditions.append(states)
            }
            let previous = transition.remembers ? "previous_status = status, " : ""
            return (
                transition.name + (transition.from ?? []).joined(),
                SQL(
                    "UPDATE volumes SET \(previous)status = \(transition.to.map { "'\($0)'" } ?? "status"), updated_at = ? WHERE id = ? AND "
                        + conditions.joined(separator: " AND "))
            )
        }, uniquingKeysWith: { first, _ in first })

    /// Compare and swap: true if the volume was in a state that allows the action and now is in the action's.
    public static func perform(_ transition: VolumeTransition, on id: String, in tx: any Transaction) throws -> Bool {
        guard let sql = transitions[transition.name + (transition.from ?? []).joined()] else { return false }
        return try tx.run(sql, .text(tx.now), .text(id)) == 1
    }

    static let namedSQL = SQL(VolumeColumn.select + " WHERE v.id = ?1 OR v.name_id = ?1")
    /// The volumes whose storage object may have the id in its name.
    public static func named(_ nameID: String, in connection: any Connection) throws -> [Volume] {
        try connection.rows(namedSQL, .text(nameID)) { Volume($0) }.filter { ($0.nameID ?? $0.id) == nameID }
    }

    static let setStatusSQL = SQL("UPDATE volumes SET status = ?, updated_at = ? WHERE id = ?")
    /// Sets the state without a guard: for the flow that owns the volume's exclusive claim.
    public static func setStatus(_ status: String, of id: String, in tx: any Transaction) throws {
        try tx.run(setStatusSQL, .text(status), .text(tx.now), .text(id))
    }

    static let placeSQL = SQL(
        "UPDATE volumes SET host = ?, service_uuid = ?, availability_zone = ?, scheduled_at = ?, updated_at = ? WHERE id = ?")
    public static func place(_ id: String, host: String?, serviceID: String?, zone: String?, in tx: any Transaction) throws {
        let now = tx.now
        try tx.run(placeSQL, .string(host), .string(serviceID), .string(zone), .text(now), .text(now), .text(id))
    }

    /// Where a volume's storage object is, and what it is called.
    public struct Location: Sendable {
        public var host: String
        public var serviceID, zone: String?
        /// The id in the object's name, if it is not the volume's own.
        public var nameID: String?
        public var driverData: String?
        public var providerID: String?
        public var sharedTargets: Bool?
        public var replicationStatus: String?
        public init(host: String) { self.host = host }
    }

    static let relocateSQL = SQL(
        """
        UPDATE volumes SET host = ?, service_uuid = ?, availability_zone = ?, name_id = ?, driver_data = ?, provider_id = ?,
            shared_targets = ?, replication_status = ?, updated_at = ? WHERE id = ?
        """)
    /// From now on the volume is what lies there.
    public static func relocate(_ id: String, to place: Location, in tx: any Transaction) throws {
        try tx.run(
            relocateSQL, .text(place.host), .string(place.serviceID), .string(place.zone), .string(place.nameID), .string(place.driverData),
            .string(place.providerID), place.sharedTargets.map { .bool($0) } ?? .null, .string(place.replicationStatus),
            .text(tx.now), .text(id))
    }

    static let replicatedSQL = SQL("SELECT 1 FROM volumes WHERE id = ? AND NOT " + VolumeTransition.Condition.notReplicated.rawValue)
    /// What is kept a second time elsewhere stays where it is.
    public static func isFreeToMove(_ id: String, in connection: any Connection) throws -> Bool {
        try !connection.exists(replicatedSQL, .text(id))
    }

    static let renameObjectSQL = SQL("UPDATE volumes SET name_id = NULL, driver_data = ? WHERE id = ?")
    /// The storage object has the volume's own name again.
    public static func objectRenamed(_ id: String, driverData: String?, in tx: any Transaction) throws {
        try tx.run(renameObjectSQL, .string(driverData), .text(id))
    }

    static let setMigrationStatusSQL = SQL("UPDATE volumes SET migration_status = ?, updated_at = ? WHERE id = ?")
    public static func setMigrationStatus(_ status: String, of id: String, in tx: any Transaction) throws {
        try tx.run(setMigrationStatusSQL, .text(status), .text(tx.now), .text(id))
    }

    static let setTypeSQL = SQL("UPDATE volumes SET volume_type_id = ?, multiattach = ?, updated_at = ? WHERE id = ?")
    static let setSnapshotTypeSQL = SQL("UPDATE snapshots SET volume_type_id = ? WHERE volume_id = ?")
    /// Gives the volume, and its snapshots with it, another type.
    public static func setType(_ type: VolumeType, of id: String, in tx: any Transaction) throws {
        try tx.run(setTypeSQL, .text(type.id), .bool(type.isMultiattach), .text(tx.now), .text(id))
        try tx.run(setSnapshotTypeSQL, .text(type.id), .text(id))
    }

    static let madeSQL = SQL(
        """
        UPDATE volumes SET status = 'available', driver_data = ?, provider_id = ?, shared_targets = ?, replication_status = ?,
            launched_at = ?, updated_at = ? WHERE id = ?
        """)
    public static func made(
        _ id: String, driverData: String?, providerID: String?, sharedTargets: Bool?, replicationStatus: String?, in tx: any Transaction
    ) throws {
        let now = tx.now
        try tx.run(
            madeSQL, .string(driverData), .string(providerID), sharedTargets.map { .bool($0) } ?? .null, .string(replicationStatus),
            .text(now), .text(now), .text(id))
    }

    static let resizeSQL = SQL("UPDATE volumes SET size = ?, status = ?, updated_at = ? WHERE id = ?")
    public static func resize(_ id: String, to size: Int, status: String, in tx: any Transaction) throws {
        try tx.run(resizeSQL, .int(size), .text(status), .text(tx.now), .text(id))
    }

    static let setDriverDataSQL = SQL("UPDATE volumes SET driver_data = ? WHERE id = ?")
    public static func setDriverData(_ data: String, of id: String, in tx: any Transaction) throws {
        try tx.run(setDriverDataSQL, .text(data), .text(id))
    }

    static let refreshSQL = SQL("UPDATE volumes SET status = ?, attach_status = ?, updated_at = ? WHERE id = ?")
    /// Recomputes the states from the attachments.
    public static func refreshAttachState(of id: String, in tx: any Transaction) throws {
        let statuses = try Attachments.statuses(ofVolume: id, in: tx)
        let derived = VolumeStatus.derived(fromAttachments: statuses)
        try tx.run(refreshSQL, .text(derived.status), .text(derived.attachStatus), .text(tx.now), .text(id))
        if derived.attachStatus != "attached" {
            try updateMap(.admin, of: id, in: tx) { $0["attached_mode"] = nil }
        }
    }

    // MARK: what users change

    static let updateSQL = SQL("UPDATE volumes SET name = ?, description = ?, updated_at = ? WHERE id = ?")

    /// Changes name, description and (as a whole) metadata; nil leaves a field as it is.
    public static func update(
        _ id: String, name: JSON?, description: JSON?, metadata: JSON?, caller: Caller, in tx: any Transaction
    ) throws {
        let volume = try get(id, for: caller, in: tx)
        try refuseMaintenance(volume)
        if name != nil || description != nil {
            let current = try tx.first(SQLs.names, .text(id)) { ($0.optionalText(0), $0.optionalText(1)) }
            try tx.run(
                updateSQL, .string(name.map { $0.string } ?? current?.0), .string(description.map { $0.string } ?? current?.1),
                .text(tx.now), .text(id))
        }
        if case .object(let object)? = metadata { try updateMap(.user, of: id, in: tx) { $0 = object } }
    }

    private static func refuseMaintenance(_ volume: Volume) throws(StorageError) {
        if volume.status == "maintenance" { throw StorageError.invalidVolume("The volume cannot be updated during maintenance.") }
    }

    private enum SQLs {
        static let names = SQL("SELECT name, description FROM volumes WHERE id = ?")
    }

    /// The three maps of a volume.
    public enum Map: String, Sendable {
        case user = "metadata"
        case admin = "admin_metadata"
        case image = "image_metadata"
        fileprivate static let selects: [Map: SQL] = [
            .user: SQL("SELECT metadata FROM volumes WHERE id = ?"), .admin: SQL("SELECT admin_metadata FROM volumes WHERE id = ?"),
            .image: SQL("SELECT image_metadata FROM volumes WHERE id = ?"),
        ]
        fileprivate static let updates: [Map: SQL] = [
            .user: SQL("UPDATE volumes SET metadata = ? WHERE id = ?"), .admin: SQL("UPDATE volumes SET admin_metadata = ? WHERE id = ?"),
            .image: SQL("UPDATE volumes SET image_metadata = ? WHERE id = ?"),
        ]
    }

    public static func map(_ map: Map, of id: String, in connection: any Connection) throws -> JSONObject {
        guard let sql = Map.selects[map], let text = try connection.first(sql, .text(id), map: { $0.text(0) }) else { return [:] }
        return (try JSON(parsing: text)).object ?? [:]
    }

    /// Changes one of the maps; returns it as it then is.
    @discardableResult
    public static func updateMap(_ map: Map, of id: String, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void) throws
        -> JSONObject
    {
        let before = try self.map(map, of: id, in: tx)
        var object = before
        try change(&object)
        if object != before, let sql = Map.updates[map] {
            try tx.run(sql, .text(try object.stored(map.rawValue, before: before)), .text(id))
        }
        return object
    }

    /// User metadata, guarded by the states in which it may change.
    @discardableResult
    public static func updateMetadata(
        _ id: String, caller: Caller, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void
    ) throws -> JSONObject {
        let volume = try get(id, for: caller, in: tx)
        let before = try map(.user, of: id, in: tx)
        var after = before
        try change(&after)
        guard !["maintenance", "uploading"].contains(volume.status) else {
            let isRemoval = after.count < before.count
            throw StorageError.invalidVolume(
                "\(isRemoval ? "Deleting" : "Updating") volume metadata is not allowed for volumes in \(volume.status) status.")
        }
        return try updateMap(.user, of: id, in: tx) { $0 = after }
    }

    static let setBootableSQL = SQL("UPDATE volumes SET bootable = ?, updated_at = ? WHERE id = ?")
    public static func setBootable(_ bootable: Bool, of id: String, caller: Caller, in tx: any Transaction) throws {
        try refuseMaintenance(get(id, for: caller, in: tx))
        try tx.run(setBootableSQL, .bool(bootable), .text(tx.now), .text(id))
    }

    public static func setReadOnly(_ readOnly: Bool, of id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try get(id, for: caller, in: tx)
        guard volume.status == "available" else {
            throw StorageError.invalidVolume(
                "Volume \(id) status must be available to update readonly flag, but current status is: \(volume.status).")
        }
        try updateMap(.admin, of: id, in: tx) { $0["readonly"] = .string(readOnly ? "True" : "False") }
    }

    // MARK: states that users and administrators set

    public static func reserve(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try get(id, for: caller, in: tx)
        guard try perform(.reserve, on: id, in: tx) else {
            let expected = volume.multiattach ? "available or in-use" : "available"
            throw StorageError.invalidVolume("Volume status must be \(expected) to reserve, but the status is \(volume.status).")
        }
        try Events.append("volume.reserve", volume: volume, caller: caller, in: tx)
    }

    /// Takes a reservation back; nothing happens in other states.
    public static func unreserve(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try get(id, for: caller, in: tx)
        guard volume.status == "attaching" else { return }
        let attachments = try Attachments.statuses(ofVolume: id, in: tx)
        try setStatus(attachments.isEmpty ? "available" : "in-use", of: id, in: tx)
    }

    public static func beginDetaching(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try get(id, for: caller, in: tx)
        if try perform(.beginDetaching, on: id, in: tx) || volume.isMigrating { return }
        throw StorageError.invalidVolume(
            "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
    }

    public static func rollDetaching(_ id: String, caller: Caller, in tx: any Transaction) throws {
        _ = try get(id, for: caller, in: tx)
        _ = try perform(.rollDetaching, on: id, in: tx)
    }

    static let resetSQL = SQL("UPDATE volumes SET status = ?, attach_status = ?, migration_status = ?, updated_at = ? WHERE id = ?")
    /// Sets states as an administrator says; nil leaves one as it is. Operations in flight keep their claims.
    public static func resetStatus(
        _ id: String, status: String?, attachStatus: String?, migrationStatus: String?, caller: Caller, in tx: any Transaction
    ) throws {
        let volume = try get(id, for: caller, in: tx)
        if status == "in-use", try Attachments.statuses(ofVolume: id, in: tx).isEmpty {
            throw StorageError(.invalid, "Cannot reset-state to in-use because volume does not have any attachments.")
        }
        if attachStatus == "detached" {
            try Attachments.removeAll(ofVolume: id, in: tx)
            try HostConnections.end(id, connector: nil, in: tx)
        }
        let migration = migrationStatus.map { $0 == "none" ? nil : $0 } ?? volume.migrationStatus
        try tx.run(
            resetSQL, .text(status ?? volume.status), .text(attachStatus ?? volume.attachStatus), .string(migration),
            .text(tx.now),
            .text(id))
        try Events.append("volume.reset_status", volume: volume, caller: caller, data: ["status": JSON(status)], in: tx)
    }
}
