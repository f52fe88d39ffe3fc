public import Database
import Primitives

/// Requests that give a volume another type or another place.
extension VolumeRequests {
    /// `mayMigrate`: the volume may be copied to another pool where its own does not fit the type.
    public func retype(_ id: String, to typeName: String, mayMigrate: Bool, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        let type = try VolumeTypes.resolve(typeName, for: caller, in: tx)
        let old = try VolumeTypes.get(volume.volumeTypeID, in: tx)
        guard !type.isMultiattach || !type.isEncrypted else {
            throw StorageError.invalidInput("Retype requested both encryption and multi-attach, which is not supported.")
        }
        guard try TypeEncryptions.areEqual(old, type, in: tx) else {
            throw StorageError.invalidInput(
                "Invalid volume_type passed: its volumes are not encrypted as the volume is, and a retype does not encrypt or decrypt.")
        }
        if type.isMultiattach != old.isMultiattach, volume.status != .available {
            throw StorageError.invalidInput(
                "Invalid volume_type passed: changing the multiattach type requires the volume to be in 'available' status.")
        }
        let isAllowed = try volume.status != .inUse || QoSSpecs.allowRetypeInUse(from: old, to: type, in: tx)
        guard isAllowed, type.id != old.id, try Volumes.perform(.retype, on: volume, in: tx) else {
            throw StorageError.invalidVolume(
                "Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group, "
                    + "requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change."
            )
        }
        let target = UUID.random()
        let claims: [Claim] = [.exclusive(volume), .exclusive(new: target)]
        // Where it has to move, that is the Compute service's to do, which knows one instance.
        if volume.status == .inUse, mayMigrate, hasCompute, !volume.value.isEncrypted,
            let instance = try AttachedMigration.instance(of: volume.value, in: tx)
        {
            try start(
                RetypeAttachedVolumeArguments(typeID: type.id, copyID: target, instanceID: instance), volume: id,
                project: volume.projectID, caller: caller, claims: claims, in: tx)
        } else {
            try start(
                RetypeVolumeArguments(typeID: type.id, mayMigrate: mayMigrate, targetID: target), volume: id, project: volume.projectID,
                caller: caller, claims: claims, in: tx)
        }
        let snapshots = try Snapshots.lockAll(of: volume, in: tx).map(\.value)
        for (project, charge) in volume.value.charges(with: snapshots, chargesGigabytes: snapshotsChargeGigabytes) {
            try Quotas.chargeType(type.name, charge, project: project, defaults: quotas, in: tx)
        }
    }

    /// `host`: `node@backend` or `node@backend#pool`. `locks`: nobody may use the volume meanwhile.
    public func migrate(_ id: String, to host: String, locks: Bool, downAfter seconds: Int, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        let backend = HostName.backend(of: host)
        let service = try Services.find(binary: "cinder-volume", host: backend, in: tx)
        guard let service, !service.isDisabled, !service.isFrozen, service.isUp(downAfter: seconds) else {
            throw StorageError(.invalid, "Invalid host: No available service named '\(host)'")
        }
        guard volume.host != host, volume.backend != host else {
            throw StorageError(.invalid, "Invalid host: Destination host must be different than the current host.")
        }
        // The state of a volume that is in use is not locked: its guest writes on.
        guard volume.status != .inUse else { return try migrateAttached(volume, to: host, caller: caller, in: tx) }
        try migrating(volume, by: locks ? .migrateLocked : .migrate, in: tx)
        let target = UUID.random()
        try start(
            MigrateVolumeArguments(host: host, targetID: target), volume: id, project: volume.projectID, caller: caller,
            claims: [.exclusive(volume), .exclusive(new: target)], in: tx)
    }

    /// Throws where the volume's states do not allow its migration, which begins.
    func migrating(_ volume: Locked<Volume>, by transition: VolumeTransition, in tx: any Transaction) throws {
        guard try Volumes.perform(transition, on: volume, in: tx) else {
            throw StorageError.invalidVolume(
                "Volume \(volume.id) status must be available or in-use, must not be migrating, have snapshots, be replicated, be part of a "
                    + "group and destination host/cluster must be different than the current one")
        }
        try Volumes.setMigrationStatus(.starting, of: volume, in: tx)
    }
}
