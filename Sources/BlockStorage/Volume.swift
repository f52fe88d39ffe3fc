public import Database
public import JSON
import Primitives

/// A volume as the domain works with it. A class, so that handing it on counts one reference and not one for each of its texts.
public final class Volume: Sendable {
    public let id, projectID, userID: String
    public let name: String?
    public let size: Int
    public let status: VolumeStatus
    public let previousStatus: VolumeStatus?
    public let attachStatus: AttachmentStatus
    public let migrationStatus: MigrationStatus?
    public let availabilityZone: String?
    public let host: String?
    public let volumeTypeID, typeName: String
    public let snapshotID: String?
    public let sourceVolumeID: String?
    public let groupID: String?
    public let encryptionKeyID: String?
    /// Whether it is to be encrypted, be its key made or not.
    public let isOfEncryptedType: Bool
    public let multiattach, bootable: Bool
    public let driverData: String?
    public let nameID: String?
    public let consumesQuota: Bool
    public let metadata, adminMetadata: String
    public let createdAt: String

    /// Of a row that `VolumeTable` selected.
    public init(_ row: any Row) {
        let t = VolumeTable.table
        id = row[t.id]
        projectID = row[t.projectID]
        userID = row[t.userID]
        name = row[t.name]
        size = row[t.size]
        status = row[t.status]
        previousStatus = row[t.previousStatus]
        attachStatus = row[t.attachStatus]
        migrationStatus = row[t.migrationStatus]
        availabilityZone = row[t.availabilityZone]
        host = row[t.host]
        volumeTypeID = row[t.volumeTypeID]
        typeName = row[t.typeName]
        snapshotID = row[t.snapshotID]
        sourceVolumeID = row[t.sourceVolumeID]
        groupID = row[t.groupID]
        encryptionKeyID = row[t.encryptionKeyID]
        isOfEncryptedType = row[t.isOfEncryptedType]
        multiattach = row[t.multiattach]
        bootable = row[t.bootable]
        driverData = row[t.driverData]
        nameID = row[t.nameID]
        consumesQuota = row[t.consumesQuota]
        metadata = row[t.metadata]
        adminMetadata = row[t.adminMetadata]
        createdAt = row[t.createdAt]
    }

    /// Whether the volume exists for the caller.
    func isVisible(to caller: Caller) -> Bool { Self.isVisible(to: caller, project: projectID, migrationStatus) }

    /// A copy that the Compute service moves an instance to is of no use to its project, which would attach it before the Compute service
    /// does, or delete what that works with: it exists for administrators alone, and as one the Compute service asks.
    static func isVisible(to caller: Caller, project: String, _ migrationStatus: MigrationStatus?) -> Bool {
        caller.isAdmin || project == caller.projectID && migrationStatus?.isTarget != true
    }

    /// Whether it is encrypted, or is to be.
    public var isEncrypted: Bool { encryptionKeyID != nil || isOfEncryptedType }

    public var isMigrating: Bool { migrationStatus.map { !$0.isOver } ?? false }

    /// Throws while the volume is copied to another place, or a retype may find that it has to be. To connect it would wait for the copy's
    /// end, longer than any client does.
    func requireAttachable() throws {
        // To the copy that the Compute service makes the instance is attached.
        guard isMigrating && migrationStatus?.isTarget != true || (status == .retyping && previousStatus != .inUse) else { return }
        throw StorageError.invalidVolume("Volume \(id) is being migrated or retyped; it can be attached when that has ended.")
    }
    /// `host@backend` of `host@backend#pool`.
    public var backend: String? { host.map(HostName.backend) }
    public var pool: String? { host.flatMap(HostName.pool) }

    func adminMetadata(_ key: String) -> String? { (try? JSON(parsing: adminMetadata))?[key]?.string }
}

/// Statements about volumes.
public enum Volumes {
    static let table = VolumeTable.table

    /// Any volume.
    public static func find(_ id: String, in connection: any Connection) throws -> Volume? {
        try connection.first(Volume.findStatement, .text(id)) { Volume($0) }
    }

    /// A volume that the caller may see; a foreign one does not exist for it.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Volume {
        guard let volume = try find(id, in: connection), volume.isVisible(to: caller) else {
            throw StorageError.volumeNotFound(id)
        }
        return volume
    }

    /// Removes the row; the history stays in the events.
    public static func remove(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        try Attachments.removeAll(of: volume, in: tx)
        try HostConnections.end(volume, connector: nil, in: tx)
        try VolumeTransfers.removeAll(of: volume, in: tx)
        try ImageCacheEntries.remove(volume.id, in: tx)
        try Backups.forgetSnapshots(of: volume, in: tx)
        try BackupPolicyAssignments.removeAll(of: .volume, volume.id, in: tx)
        try tx.delete(from: table, table.id(volume.id))
    }

    /// Removes the row, and gives back what it was charged and what was claimed for it.
    public static func erase(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        if let host = volume.host { try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx) }
        try remove(volume, in: tx)
        try Quotas.add(-volume.value.charge, type: volume.typeName, project: volume.projectID, in: tx)
    }

    /// Compare and swap: true if the volume was in a state that allows the action and now is in the action's.
    public static func perform(_ transition: VolumeTransition, on volume: Locked<Volume>, in tx: any Transaction) throws -> Bool {
        try tx.run(transition.statement, .text(tx.now), .text(volume.id)) == 1
    }

    static let namedSQL = SQL(table.select("WHERE v.id = ? OR v.name_id = ?"))
    /// The volumes whose storage object may have the id in its name.
    public static func named(_ nameID: String, in connection: any Connection) throws -> [Volume] {
        try connection.rows(namedSQL, .text(nameID), .text(nameID)) { Volume($0) }.filter { ($0.nameID ?? $0.id) == nameID }
    }

    /// Sets the state without a guard: for the flow that owns the volume's exclusive claim.
    public static func setStatus(_ status: VolumeStatus, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.status(status), table.updatedAt(tx.now))
    }

    public static func place(_ volume: Locked<Volume>, host: String?, serviceID: String?, zone: String?, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(volume.id), set: table.availabilityZone(zone), table.host(host), table.serviceID(serviceID),
            table.updatedAt(tx.now),
            table.scheduledAt(tx.now))
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

    /// From now on the volume is what lies there.
    public static func relocate(_ volume: Locked<Volume>, to place: Location, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(volume.id), set: table.replicationStatus(place.replicationStatus), table.availabilityZone(place.zone),
            table.host(place.host), table.providerID(place.providerID), table.driverData(place.driverData), table.nameID(place.nameID),
            table.serviceID(place.serviceID), table.sharedTargets(place.sharedTargets), table.updatedAt(tx.now))
    }

    static let replicatedSQL = SQL("SELECT 1 FROM volumes WHERE id = ? AND NOT " + VolumeTransition.Condition.notReplicated.sql)
    /// What is kept a second time elsewhere stays where it is.
    public static func isFreeToMove(_ id: String, in connection: any Connection) throws -> Bool {
        try !connection.exists(replicatedSQL, .text(id))
    }

    /// The storage object has the volume's own name again.
    public static func objectRenamed(_ volume: Locked<Volume>, driverData: String?, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.driverData(driverData), table.nameID(nil))
    }

    public static func setMigrationStatus(_ status: MigrationStatus, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.migrationStatus(status), table.updatedAt(tx.now))
    }

    /// Gives the volume, and all its snapshots with it, another type.
    public static func setType(
        _ type: VolumeType, of volume: Locked<Volume>, with snapshots: [Locked<Snapshot>], in tx: any Transaction
    ) throws {
        try tx.update(
            table, table.id(volume.id), set: table.volumeTypeID(type.id), table.multiattach(type.isMultiattach), table.updatedAt(tx.now))
        guard !snapshots.isEmpty else { return }
        try tx.update(Snapshots.table, Snapshots.table.volumeID(volume.id), set: Snapshots.table.volumeTypeID(type.id))
    }

    /// From now on the volume is the caller's.
    static func give(_ volume: Locked<Volume>, to caller: Caller, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(volume.id), set: table.projectID(caller.projectID), table.userID(caller.userID), table.updatedAt(tx.now))
    }

    public static func made(
        _ volume: Locked<Volume>, driverData: String?, providerID: String?, sharedTargets: Bool?, replicationStatus: String?,
        in tx: any Transaction
    ) throws {
        try tx.update(
            table, table.id(volume.id), set: table.status(.available), table.replicationStatus(replicationStatus),
            table.providerID(providerID),
            table.driverData(driverData), table.sharedTargets(sharedTargets), table.updatedAt(tx.now), table.launchedAt(tx.now))
    }

    public static func resize(_ volume: Locked<Volume>, to size: Int, status: VolumeStatus, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.size(size), table.status(status), table.updatedAt(tx.now))
    }

    /// The key that the volume's content is encrypted by. nil: there is none any more.
    public static func setEncryptionKey(_ id: String?, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.encryptionKeyID(id))
    }

    public static func setDriverData(_ data: String, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.driverData(data))
    }

    static func setStates(_ status: VolumeStatus, attached: AttachmentStatus, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(volume.id), set: table.status(status), table.attachStatus(attached), table.updatedAt(tx.now))
    }

    /// Recomputes the states from the attachments. Of a volume of which an image is made, or that gets another type, the status stays until
    /// that `hasEnded`.
    public static func refreshAttachState(of volume: Locked<Volume>, hasEnded: Bool = false, in tx: any Transaction) throws {
        let statuses = try Attachments.statuses(ofVolume: volume.id, in: tx)
        let derived = VolumeStatus.derived(fromAttachments: statuses)
        let status = [.uploading, .retyping].contains(volume.status) && !hasEnded ? volume.status : derived.status
        try setStates(status, attached: derived.attachStatus, of: volume, in: tx)
        if derived.attachStatus != .attached {
            try updateMap(.admin, of: volume, in: tx) { $0["attached_mode"] = nil }
        }
    }

    // MARK: what users change

    /// Changes name, description and (as a whole) metadata; nil leaves a field as it is.
    public static func update(
        _ id: String, name: JSON?, description: JSON?, metadata: JSON?, caller: Caller, in tx: any Transaction
    ) throws {
        let volume = try lock(id, for: caller, in: tx)
        try refuseMaintenance(volume.value)
        if name != nil || description != nil {
            let current = try tx.first(of: table, table.id(id)) { (name: $0[table.name], description: $0[table.description]) }
            try tx.update(
                table, table.id(id), set: table.name(name.map { $0.string } ?? current?.name),
                table.description(description.map { $0.string } ?? current?.description), table.updatedAt(tx.now))
        }
        if case .object(let object)? = metadata { try updateMap(.user, of: volume, in: tx) { $0 = object } }
        try NotificationOutbox.note(NotificationRule(subject: .volume, name: "volume.update"), id, caller: caller, in: tx)
    }

    private static func refuseMaintenance(_ volume: Volume) throws(StorageError) {
        if volume.status == .maintenance { throw StorageError.invalidVolume("The volume cannot be updated during maintenance.") }
    }

    /// The three maps of a volume.
    public enum Map: String, Sendable {
        case user = "metadata"
        case admin = "admin_metadata"
        case image = "image_metadata"

        var column: Column<String> {
            switch self {
            case .user: table.metadata
            case .admin: table.adminMetadata
            case .image: table.imageMetadata
            }
        }
    }

    public static func map(_ map: Map, of id: String, in connection: any Connection) throws -> JSONObject {
        guard let text = try connection.first(of: table, table.id(id), map: { $0[map.column] }) else { return [:] }
        return (try JSON(parsing: text)).object ?? [:]
    }

    /// Changes one of the maps; returns it as it then is.
    @discardableResult
    public static func updateMap(
        _ map: Map, of volume: Locked<Volume>, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void
    ) throws -> JSONObject {
        let before = try self.map(map, of: volume.id, in: tx)
        var object = before
        try change(&object)
        if object != before {
            try tx.update(table, table.id(volume.id), set: map.column(try object.stored(map.rawValue, before: before)))
        }
        return object
    }

    /// One of the maps, guarded by the states in which it may change.
    @discardableResult
    public static func updateMetadata(
        _ kind: Map = .user, of id: String, caller: Caller, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void
    ) throws -> JSONObject {
        let volume = try lock(id, for: caller, in: tx)
        let before = try map(kind, of: id, in: tx)
        var after = before
        try change(&after)
        guard ![.maintenance, .uploading].contains(volume.status) else {
            let isRemoval = after.count < before.count
            throw StorageError.invalidVolume(
                "\(isRemoval ? "Deleting" : "Updating") volume metadata is not allowed for volumes in \(volume.status) status.")
        }
        return try updateMap(kind, of: volume, in: tx) { $0 = after }
    }

    public static func setBootable(_ bootable: Bool, of id: String, caller: Caller, in tx: any Transaction) throws {
        try refuseMaintenance(lock(id, for: caller, in: tx).value)
        try tx.update(table, table.id(id), set: table.bootable(bootable), table.updatedAt(tx.now))
    }

    public static func setReadOnly(_ readOnly: Bool, of id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try lock(id, for: caller, in: tx)
        guard volume.status == .available else {
            throw StorageError.invalidVolume(
                "Volume \(id) status must be available to update readonly flag, but current status is: \(volume.status).")
        }
        try updateMap(.admin, of: volume, in: tx) { $0["readonly"] = .string(readOnly ? "True" : "False") }
    }

    // MARK: states that users and administrators set

    public static func reserve(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try lock(id, for: caller, in: tx)
        try AttachedMigration.requireMoved(nil, to: volume.value, in: tx)
        guard try perform(.reserve, on: volume, in: tx) else {
            let expected = volume.multiattach ? "available or in-use" : "available"
            throw StorageError.invalidVolume("Volume status must be \(expected) to reserve, but the status is \(volume.status).")
        }
        try volume.value.requireAttachable()
        try Events.append("volume.reserve", volume: volume.value, caller: caller, in: tx)
    }

    /// Takes a reservation back; nothing happens in other states.
    public static func unreserve(_ id: String, caller: Caller, in tx: any Transaction) throws {
        try unreserve(lock(id, for: caller, in: tx), in: tx)
    }

    public static func unreserve(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        guard volume.status == .attaching else { return }
        let attachments = try Attachments.statuses(ofVolume: volume.id, in: tx)
        try setStatus(attachments.isEmpty ? .available : .inUse, of: volume, in: tx)
    }

    public static func beginDetaching(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try lock(id, for: caller, in: tx)
        if try perform(.beginDetaching, on: volume, in: tx) || volume.isMigrating { return }
        throw StorageError.invalidVolume(
            "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
    }

    public static func rollDetaching(_ id: String, caller: Caller, in tx: any Transaction) throws {
        _ = try perform(.rollDetaching, on: lock(id, for: caller, in: tx), in: tx)
    }

    /// Sets states as an administrator says; nil leaves one as it is. Operations in flight keep their claims.
    public static func resetStatus(
        _ id: String, status: VolumeStatus?, attachStatus: AttachmentStatus?, migrationStatus: MigrationStatus?, caller: Caller,
        in tx: any Transaction
    ) throws {
        let volume = try lock(id, for: caller, in: tx)
        if status == .inUse, try Attachments.statuses(ofVolume: id, in: tx).isEmpty {
            throw StorageError(.invalid, "Cannot reset-state to in-use because volume does not have any attachments.")
        }
        if attachStatus == .detached {
            try Attachments.removeAll(of: volume, in: tx)
            try HostConnections.end(volume, connector: nil, in: tx)
        }
        let migration = migrationStatus.map { $0 == .absent ? nil : $0 } ?? volume.migrationStatus
        try tx.update(
            table, table.id(id), set: table.status(status ?? volume.status),
            table.attachStatus(attachStatus ?? volume.attachStatus),
            table.migrationStatus(migration), table.updatedAt(tx.now))
        try Events.append("volume.reset_status", volume: volume.value, caller: caller, data: ["status": JSON(status?.rawValue)], in: tx)
    }
}
