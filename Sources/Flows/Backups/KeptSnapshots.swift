import BlockStorage
import Database
import DriverHost
import Primitives

// Snapshots of backups that lie beside a volume: what the next increment asks the driver for the changes since, and how they get out of
// the way of everything else.

/// Since which snapshot an increment may ask the volume's driver for what changed.
enum ChangesBase: Sendable {
    /// What the driver is told of it.
    case snapshot(DriverValue)
    /// No snapshot of the parent is known here: whoever made the parent may have left one beside the volume, named as in the store.
    case namedInStore
}

extension FlowRun {
    /// What a driver is told of the snapshot that was made for a backup.
    func driverArguments(snapshotOf backup: Backup) -> DriverValue? {
        backup.temporarySnapshotID.map { driverArguments(snapshot: $0, size: backup.size, data: backup.temporarySnapshotData) }
    }

    /// The same of one that has no row.
    func driverArguments(snapshot id: String, size: Int, data: String?) -> DriverValue {
        .members([
            "id": .string(id), "name": .string(settings.names.snapshot(id)), "size": .integer(Int64(size)), "data": .optional(data),
        ])
    }

    /// Whether the volume that a backup is made of is an image of Ceph, so that Cinder would look in it for the snapshots of backups.
    func isVolumeInCeph(_ backup: Backup, _ services: FlowServices) async throws -> Bool {
        guard let host = try await volume(backup.volumeID).host else { return false }
        return services.backends.backend(HostName.backend(of: host))?.capabilities?["storage_protocol"]?.string == "ceph"
    }

    /// Whether the word of the volume's driver for what changed is enough for an increment on a backup: what it omitted before is in nobody's
    /// list any more, and is found when all is read again.
    func isDriverTrusted(since parent: Backup) -> Bool {
        guard settings.wholeReadDays > 0 else { return true }
        guard let last = parent.wholeReadAt.flatMap({ Timestamp.parse($0) }) else { return false }
        return Timestamp.seconds() - last < Double(settings.wholeReadDays) * 86_400
    }

    /// The snapshot since which an increment may ask what changed: the one that its parent was made of, if that still exists and is surely the
    /// older one. nil: the whole volume is read.
    func base(of backup: Backup, after parent: Backup) async throws -> ChangesBase? {
        guard parent.volumeID == backup.volumeID, !parent.distrustsChanges else { return nil }
        // A snapshot that is made for this backup is newer than all that the parent rests on. One of a user's may be older.
        var source: Snapshot?
        if let id = backup.snapshotID {
            guard let found = try await read({ try Snapshots.find(id, in: $0) }) else { return nil }
            source = found
        }
        if parent.temporarySnapshotID != nil {
            guard let made = parent.temporarySnapshotAt, source.map({ made < $0.createdAt }) ?? true else { return nil }
            return driverArguments(snapshotOf: parent).map { .snapshot($0) }
        }
        // What is read now is newer than the parent. A user's snapshot may be older, and when the parent's was made is not known.
        if parent.snapshotID == nil { return source == nil ? .namedInStore : nil }
        guard let id = parent.snapshotID, source.map({ parent.createdAt < $0.createdAt }) ?? true,
            let snapshot = try await read({ try Snapshots.find(id, in: $0) }), snapshot.volumeID == backup.volumeID,
            [.available, .backingUp].contains(snapshot.status)
        else { return nil }
        return .snapshot(driverArguments(snapshot))
    }

    /// Records that the driver does not tell of all that changed since the snapshot of a backup: should the process die or the backup fail before
    /// everything was read, nobody asks it again. Best effort: the end of the step records it, too.
    func distrustChanges(since backup: String?) async {
        try? await recordPart { tx in
            if let backup = try backup.flatMap({ try Backups.lock($0, in: tx) }) { try Backups.distrustChanges(since: backup, in: tx) }
        }
    }

    /// Removes the snapshots of backups that lie beside a volume, each recorded on its own; the next increments read the whole volume.
    ///
    /// - Throws: `busy` where one cannot be removed: nothing else was changed, and the call may be repeated.
    func dropBackupSnapshots(of volume: Volume, on backend: OperationBackend, wait: Double? = 60) async throws {
        for backup in try await read({ try Backups.withSnapshots(ofVolume: volume.id, in: $0) }) {
            try await dropSnapshot(of: backup, volume, on: backend, wait: wait)
        }
        // Of backups that are gone.
        for removal in try await read({ try BackupSnapshotRemovals.ofVolume(volume.id, in: $0) }) {
            let snapshot = driverArguments(snapshot: removal.snapshotID, size: volume.size, data: removal.data)
            _ = try await drop(snapshot, ofBackup: removal.backupID, isKnown: true, volume, on: backend, wait: wait)
            try await recordPart { try BackupSnapshotRemovals.finished(removal.snapshotID, in: $0) }
        }
    }

    /// The same of one backup.
    func dropSnapshot(of backup: Backup, _ volume: Volume, on backend: OperationBackend, wait: Double? = 60) async throws {
        guard let id = backup.temporarySnapshotID, let snapshot = driverArguments(snapshotOf: backup) else { return }
        let isKnown = backup.temporarySnapshotAt != nil
        guard try await drop(snapshot, ofBackup: backup.id, isKnown: isKnown, volume, on: backend, wait: wait) else { return }
        try await recordPart { tx in
            try BackupSnapshotRemovals.finished(id, in: tx)
            if let backup = try Backups.lock(backup.id, in: tx) { try Backups.forgetSnapshot(of: backup, in: tx) }
        }
    }

    /// False: the driver has no snapshots, and it was not known that there is this one.
    private func drop(
        _ snapshot: DriverValue, ofBackup id: String, isKnown: Bool, _ volume: Volume, on backend: OperationBackend, wait: Double?
    ) async throws -> Bool {
        do {
            _ = try await backend.call(
                .deleteSnapshot, .members(["volume": driverArguments(volume), "snapshot": snapshot]), wait: wait)
            return true
        } catch let failure as DriverFailure {
            switch failure.code {
            case .unsupported where !isKnown: return false
            case .unavailable, .cancelled: throw failure
            default: throw DriverFailure(.busy, "the snapshot of backup \(id) could not be removed: \(failure.message)")
            }
        }
    }
}
