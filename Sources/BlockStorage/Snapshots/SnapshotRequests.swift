public import Database
public import JSON
import Primitives

/// What a user asks for when making a snapshot.
public struct NewSnapshot: Sendable {
    public var name, description: String?
    public var metadata: JSONObject = [:]
    /// The policy by which it is made.
    public var policyID: String?
    public init() {}
}

/// Requests about snapshots: everything checked and charged, the row and the operation written, in the caller's transaction.
extension VolumeRequests {
    /// Returns the new snapshot's id. `allowsInUse`: also of a volume that is attached.
    public func createSnapshot(of volumeID: String, _ new: NewSnapshot, allowsInUse: Bool, caller: Caller, in tx: any Transaction) throws
        -> String
    {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard volume.host != nil else {
            throw StorageError.invalidVolume("The snapshot cannot be created because volume has not been scheduled to any host.")
        }
        guard volume.status != .maintenance else {
            throw StorageError.invalidVolume("The snapshot cannot be created when the volume is in maintenance mode.")
        }
        guard !volume.isMigrating else { throw StorageError.invalidVolume("Snapshot cannot be created while volume is migrating.") }
        guard volume.status != .error else {
            throw StorageError.invalidVolume("The snapshot cannot be created when the volume is in error status.")
        }
        guard volume.status == .available || (allowsInUse && volume.status == .inUse) else {
            throw StorageError.invalidVolume(
                "Volume \(volumeID) status must be available\(allowsInUse ? ", in-use" : ""), but current status is: \(volume.status).")
        }
        try refuseFrozen(volume.value, in: tx)
        let id = try Snapshots.insert(new, of: volume, caller: caller, in: tx)
        try start(
            CreateSnapshotArguments(snapshotID: id), volume: volume.id, project: volume.projectID, caller: caller,
            claims: [.exclusive(new: id), .shared(volume)], in: tx)
        try chargeSnapshot(of: volume.value, in: tx)
        return id
    }

    func chargeSnapshot(of volume: Volume, in tx: any Transaction) throws {
        let charge = Charge(gigabytes: snapshotsChargeGigabytes ? volume.size : 0, snapshots: 1)
        try Quotas.charge(charge, type: volume.typeName, project: volume.projectID, defaults: quotas, in: tx)
    }

    /// `force`: whatever its state.
    public func deleteSnapshot(_ id: String, force: Bool, caller: Caller, in tx: any Transaction) throws {
        let (volume, snapshot) = try Snapshots.lockWithVolume(id, for: caller, in: tx)
        guard force || SnapshotStatus.deletable.contains(snapshot.status) else {
            throw StorageError(
                .invalid,
                "Invalid snapshot: Snapshot \(force ? "" : "status must be \(SnapshotStatus.deletable.map(\.rawValue).joined(separator: " or ")) and") "
                    + "must not be part of a group."
            )
        }
        try Snapshots.setStatus(.deleting, of: snapshot, in: tx)
        try refuseFrozen(volume.value, in: tx)
        try start(
            // The volume may be another project's by now.
            DeleteSnapshotArguments(snapshotID: id), volume: volume.id, project: snapshot.projectID, caller: caller,
            claims: [.exclusive(snapshot), .shared(volume)], in: tx)
    }

    /// Brings the volume back to its latest snapshot.
    public func revert(_ volumeID: String, to snapshotID: String?, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard let latest = try Snapshots.lockAll(of: volume, in: tx).last else {
            throw StorageError(.invalid, "Volume \(volumeID) doesn't have any snapshots.")
        }
        guard latest.id == snapshotID else {
            throw StorageError(.invalid, "Specified snapshot \(snapshotID ?? "None") is None or not the latest one of volume \(volumeID).")
        }
        // What a volume was before it was transferred is its former owner's.
        guard caller.isAdmin || latest.projectID == volume.projectID else { throw StorageError.snapshotNotFound(latest.id) }
        guard latest.size == volume.size else {
            throw StorageError(
                .invalid,
                "Can't revert volume \(volumeID) to its latest snapshot \(latest.id). The volume size must be equal to the snapshot size.")
        }
        guard try Volumes.perform(.revert, on: volume, in: tx) else {
            throw StorageError(
                .conflict,
                "Invalid volume: Can't revert volume \(volumeID) to its latest snapshot \(latest.id). Volume's status must be 'available'.")
        }
        guard latest.status == .available else {
            throw StorageError(
                .conflict,
                "Invalid snapshot: Can't revert volume \(volumeID) to its latest snapshot \(latest.id). Snapshot's status must be 'available'."
            )
        }
        try Snapshots.setStatus(.restoring, of: latest, in: tx)
        try start(
            RevertVolumeArguments(snapshotID: latest.id), volume: volumeID, project: volume.projectID, caller: caller,
            claims: [.exclusive(latest), .exclusive(volume)], in: tx)
    }

    /// Snapshots that go with their volume, all of them or none; returns them.
    func deleteSnapshots(of volume: Locked<Volume>, force: Bool, in tx: any Transaction) throws -> [Locked<Snapshot>] {
        let snapshots = try Snapshots.lockAll(of: volume, in: tx)
        for snapshot in snapshots {
            guard force || SnapshotStatus.deletable.contains(snapshot.status) else {
                throw StorageError.invalidVolume(
                    "Failed to update snapshot \(snapshot.id): it is \(snapshot.status), it must be available or error.")
            }
            try Snapshots.setStatus(.deleting, of: snapshot, in: tx)
        }
        return snapshots
    }

    /// A volume whose source is a snapshot: it must be whole, and the volume no smaller.
    func checkSource(_ snapshot: Snapshot, size: Int?) throws {
        guard snapshot.status == .available else {
            throw StorageError(.invalid, "Invalid snapshot: Originating snapshot status must be one of 'available' values")
        }
        if let size, size < snapshot.size {
            throw StorageError.invalidInput(
                "Volume size '\(size)'GB cannot be smaller than the snapshot size \(snapshot.size)GB. They must be >= original snapshot size."
            )
        }
    }

    private func refuseFrozen(_ volume: Volume, in tx: any Transaction) throws {
        guard let backend = volume.backend, let service = try Services.find(binary: "cinder-volume", host: backend, in: tx),
            service.isFrozen
        else {
            return
        }
        throw StorageError.invalidInput("Modification operations are not allowed on frozen storage backends.")
    }
}
