public import Database
import Primitives

/// Migration of a volume that an instance uses. Nobody but the Compute service can copy what a guest is writing: the volume gets a copy, a
/// volume of its own with `migration_status` `target:ID`, to which the Compute service moves the instance; then the two change places. Where
/// the copy has another type, the volume gets it then: that is how a volume that an instance uses is retyped, if it has to move for that.
public enum AttachedMigration {
    private static let table = VolumeTable.table

    // MARK: the copy

    /// Makes the row of the volume's copy, which takes nothing of the project's quotas.
    public static func insertCopy(
        _ id: String, of volume: Locked<Volume>, type: VolumeType, host: String, serviceID: String?, zone: String?, in tx: any Transaction
    ) throws {
        let t = table
        let of = try tx.first(of: t, t.id(volume.id)) { (name: $0[t.name], description: $0[t.description], images: $0[t.imageMetadata]) }
        try tx.insert(
            into: t, t.id(id), t.projectID(volume.projectID), t.userID(volume.value.userID), t.name(of?.name),
            t.description(of?.description), t.size(volume.size), t.status(.creating), t.attachStatus(.detached),
            t.migrationStatus(.target(of: volume.id)), t.availabilityZone(zone), t.host(host), t.serviceID(serviceID),
            t.volumeTypeID(type.id), t.bootable(volume.bootable), t.multiattach(type.isMultiattach), t.sharedTargets(true),
            t.consumesQuota(false), t.metadata(volume.value.metadata), t.adminMetadata("{}"), t.imageMetadata(of?.images ?? "{}"),
            t.createdAt(tx.now), t.scheduledAt(tx.now))
    }

    /// Locks a volume and its copy, in the order of locks; nil for one that is gone.
    public static func lock(_ id: String, copy: String, in tx: any Transaction) throws -> (volume: Locked<Volume>?, copy: Locked<Volume>?) {
        guard id != copy else {
            let volume = try Volumes.lock(id, in: tx)
            return (volume, volume)
        }
        let first = try Volumes.lock(min(id, copy), in: tx)
        let second = try Volumes.lock(max(id, copy), in: tx)
        return id < copy ? (first, second) : (second, first)
    }

    /// Removes what a volume is not migrated to, or has left.
    public static func discard(_ copy: Locked<Volume>, requestID: String, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(copy.id), set: table.status(.deleting), table.previousStatus(.errorDeleting),
            table.migrationStatus(.deleting), table.updatedAt(tx.now))
        _ = try Operations.create(
            DeleteVolumeArguments(), resourceType: "volume", resourceID: copy.id, projectID: copy.projectID,
            caller: .service(requestID: requestID), claims: [.exclusive(copy)], in: tx)
    }

    static let copySQL = SQL("SELECT id FROM volumes WHERE migration_status = ?")
    /// Whether the volume has a copy that the Compute service works with, or will.
    static func hasCopy(_ id: String, in connection: any Connection) throws -> Bool {
        try connection.exists(copySQL, MigrationStatus.target(of: id).bound)
    }

    static let retypedSQL = SQL { dialect in
        "SELECT migration_status, volume_type_id FROM volumes WHERE \(dialect.matches("migration_status"))"
    }
    /// Volumes whose copies have another type, which they are to get, with that type's id.
    static func retyped(in connection: any Connection) throws -> [(volume: Volume, typeID: String)] {
        try connection.rows(retypedSQL, .text(MigrationStatus.targets)) { (MigrationStatus(rawValue: $0.text(0)).source, $0.text(1)) }
            .compactMap { source, typeID in
                guard let volume = try source.flatMap({ try Volumes.find($0, in: connection) }), volume.volumeTypeID != typeID else {
                    return nil
                }
                return (volume, typeID)
            }
    }

    /// Whether the Compute service has begun to move the instance to the copy: before it answers it attaches that.
    public static func hasBegun(_ copy: String, instance: String, in connection: any Connection) throws -> Bool {
        try Attachments.ofVolume(copy, in: connection).contains { $0.instanceID == instance }
    }

    /// Throws where the volume is a copy and somebody else than the instance that is moved to it, `instance`, would use it. The Compute service
    /// does that by an attachment that names the instance; where it does not, the migration is refused before there is a copy.
    static func requireMoved(_ instance: String?, to copy: Volume, in connection: any Connection) throws {
        guard let source = copy.migrationStatus?.source else { return }
        if let instance, try Attachments.ofVolume(source, in: connection).contains(where: { $0.instanceID == instance }) { return }
        throw StorageError.invalidVolume(
            "Volume \(copy.id) is the copy that an instance is moved to from volume \(source): nothing else may be attached to it.")
    }

    private static let swappedSQL = SQL(
        """
        SELECT 1 FROM volumes WHERE migration_status = ?
        UNION ALL SELECT 1 FROM operations WHERE resource_id = ? AND flow IN (?, ?) AND finished_at IS NULL
        """)
    /// Throws while the Compute service copies the volume, or to it, or is about to: it would not see that the size is another.
    static func requireNone(of volume: Volume, in connection: any Connection) throws {
        let copy = MigrationStatus.target(of: volume.id)
        let isSwapped = try connection.exists(
            swappedSQL, copy.bound, .text(volume.id), .text(MigrateAttachedVolumeArguments.flow.name),
            .text(RetypeAttachedVolumeArguments.flow.name))
        guard isSwapped || volume.migrationStatus?.isTarget == true else { return }
        throw StorageError.invalidVolume(
            "Volume \(volume.id) is being migrated by the Compute service; it can be extended when that has ended.")
    }

    // MARK: the end

    /// Throws where the Compute service's word that it is done, or has failed, cannot be true.
    static func requireEnd(of volume: Volume, _ copy: Volume, hasFailed: Bool, in connection: any Connection) throws {
        guard volume.migrationStatus != nil else { throw StorageError.invalidVolume("Source volume not mid-migration.") }
        guard let status = copy.migrationStatus else { throw StorageError.invalidVolume("Destination volume not mid-migration.") }
        let expected = MigrationStatus.target(of: volume.id)
        guard status == expected else {
            throw StorageError.invalidVolume("Destination has migration_status \(status), expected \(expected).")
        }
        let isUsed = try HostConnections.isConnected(copy.id, in: connection)
        if hasFailed {
            guard !isUsed else {
                throw StorageError.invalidVolume("Volume \(copy.id) is still attached: the migration to it cannot be taken back.")
            }
        } else {
            guard isUsed, copy.status == .inUse else {
                throw StorageError.invalidVolume("Volume \(copy.id) is not attached: no instance was moved to it.")
            }
            guard try !HostConnections.isConnected(volume.id, in: connection) else {
                throw StorageError.invalidVolume("Volume \(volume.id) is still attached: its instance was not moved from it.")
            }
        }
    }

    /// Ends the migration: the volume becomes what the copy is, and the other way round; who uses the copy uses the volume.
    /// - Parameter chargesGigabytes: whether snapshots are charged for their size too.
    public static func finish(
        _ id: String, copy copyID: String, hasFailed: Bool, chargesGigabytes: Bool, requestID: String, in tx: any Transaction
    ) throws {
        let locked = try lock(id, copy: copyID, in: tx)
        guard let volume = locked.volume else { throw StorageError.volumeNotFound(id) }
        guard let copy = locked.copy else { throw StorageError.volumeNotFound(copyID) }
        try requireEnd(of: volume.value, copy.value, hasFailed: hasFailed, in: tx)
        let (old, new) = (volume.value.volumeTypeID, copy.value.volumeTypeID)
        let snapshots = old == new ? [] : try Snapshots.lockAll(of: volume, in: tx)
        if hasFailed {
            try Attachments.removeAll(of: copy, in: tx)
        } else {
            if old != new {
                try Volumes.setType(VolumeTypes.get(new, in: tx), of: volume, with: snapshots, in: tx)
                try Volumes.setType(VolumeTypes.get(old, in: tx), of: copy, with: [], in: tx)
            }
            let (here, there) = (try location(of: volume, in: tx), try location(of: copy, in: tx))
            try Volumes.relocate(volume, to: there, in: tx)
            try Volumes.relocate(copy, to: here, in: tx)
            try Backups.forgetSnapshots(of: volume, in: tx)
            try Attachments.move(from: copy, to: volume, in: tx)
            let mode = copy.value.adminMetadata("attached_mode")
            try Volumes.updateMap(.admin, of: volume, in: tx) { $0["attached_mode"] = mode.map { .string($0) } }
        }
        try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx)
        try Volumes.setMigrationStatus(hasFailed ? .error : .success, of: volume, in: tx)
        try Volumes.setStates(.deleting, attached: .detached, of: copy, in: tx)
        try discard(copy, requestID: requestID, in: tx)
        // Until now the volume was charged under the names of both.
        guard old != new else { return }
        let left = hasFailed ? copy.typeName : volume.typeName
        for (project, charge) in volume.value.charges(with: snapshots.map(\.value), chargesGigabytes: chargesGigabytes) {
            try Quotas.addType(left, -charge, project: project, in: tx)
        }
    }

    private static func location(of volume: Locked<Volume>, in tx: any Transaction) throws -> Volumes.Location {
        let t = table
        var place = Volumes.Location(host: volume.host ?? "")
        place.zone = volume.value.availabilityZone
        place.nameID = volume.nameID ?? volume.id
        place.driverData = volume.driverData
        let rest = try tx.first(of: t, t.id(volume.id)) {
            (service: $0[t.serviceID], provider: $0[t.providerID], shared: $0[t.sharedTargets], replication: $0[t.replicationStatus])
        }
        place.serviceID = rest?.service
        place.providerID = rest?.provider
        place.sharedTargets = rest?.shared
        place.replicationStatus = rest?.replication
        return place
    }
}

extension AttachedMigration {
    /// The instance that uses the volume; nil where there is none, or somebody else uses it too.
    static func instance(of volume: Volume, in connection: any Connection) throws -> String? {
        let attachments = try Attachments.ofVolume(volume.id, in: connection)
        guard attachments.count == 1, attachments[0].status == .attached, try HostConnections.ofVolume(volume.id, in: connection).isEmpty
        else { return nil }
        return attachments[0].instanceID
    }

    /// Whether the instance uses the volume, and nobody else.
    public static func isUsed(_ volume: Volume, byInstanceAlone instance: String, in connection: any Connection) throws -> Bool {
        try self.instance(of: volume, in: connection) == instance
    }
}

/// How a migration that the Compute service carried out is ended.
public enum MigrationEnd: Sendable {
    /// There was none: the id of the volume that is in use from now on.
    case none(String)
    /// By an operation, whose end the caller waits for.
    case operation(String)
}

extension VolumeRequests {
    /// An instance's volume is copied by the Compute service.
    func migrateAttached(_ volume: Locked<Volume>, to host: String, caller: Caller, in tx: any Transaction) throws {
        guard hasCompute else {
            throw StorageError.invalidVolume("An attached volume cannot be migrated without a compute service: detach it first.")
        }
        guard let instance = try AttachedMigration.instance(of: volume.value, in: tx) else {
            throw StorageError.invalidVolume(
                "An attached volume is migrated by the Compute service: it must be attached to one instance, and to nobody else.")
        }
        guard !volume.value.isEncrypted else {
            throw StorageError.invalidVolume("An encrypted volume cannot be migrated while it is attached: detach it first.")
        }
        try migrating(volume, by: .migrate, in: tx)
        let copy = UUID.random()
        try start(
            MigrateAttachedVolumeArguments(host: host, copyID: copy, instanceID: instance), volume: volume.id, project: volume.projectID,
            caller: caller, claims: [.exclusive(volume), .exclusive(new: copy)], in: tx)
    }

    /// The Compute service says that it has copied a volume to another, or that it could not. Where no migration is under way, the other
    /// volume is attached in the place of the first.
    public func completeMigration(
        of id: String, to otherID: String, hasFailed: Bool, permit: DetachPermit, caller: Caller, in tx: any Transaction
    ) throws -> MigrationEnd {
        for id in [id, otherID] { _ = try Volumes.get(id, for: caller, in: tx) }
        let locked = try AttachedMigration.lock(id, copy: otherID, in: tx)
        guard let volume = locked.volume else { throw StorageError.volumeNotFound(id) }
        guard let other = locked.copy else { throw StorageError.volumeNotFound(otherID) }
        guard volume.migrationStatus != nil || other.migrationStatus != nil else {
            if !hasFailed { try Attachments.replace(volume, by: other, permit: permit, caller: caller, in: tx) }
            return .none(otherID)
        }
        try AttachedMigration.requireEnd(of: volume.value, other.value, hasFailed: hasFailed, in: tx)
        return .operation(
            try start(
                FinishMigrationArguments(copyID: otherID, hasFailed: hasFailed), volume: id, project: volume.projectID, caller: caller,
                claims: [.exclusive(volume), .exclusive(other)], in: tx))
    }
}

extension Volumes {
    /// The Compute service says that it has finished an extension. No driver of this release leaves one to it, so none is ever pending.
    public static func completeExtension(_ id: String, caller: Caller, in connection: any Connection) throws {
        guard try get(id, for: caller, in: connection).status == .extending else {
            throw StorageError.invalidVolume("Volume is not being extended.")
        }
        throw StorageError.invalidVolume("Required volume admin metadata is malformed or missing.")
    }
}
