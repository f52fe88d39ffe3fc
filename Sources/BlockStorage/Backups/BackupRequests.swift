public import Database
public import JSON
import Primitives

/// What a user asks for when making a backup.
public struct NewBackup: Sendable {
    public var name, description: String?
    public var container: String?
    public var snapshotID: String?
    public var zone: String?
    public var isIncremental = false
    /// Also of a volume that is attached.
    public var force = false
    public var metadata: JSONObject = [:]
    /// The policy by which it is made.
    public var policyID: String?
    /// Until then nobody deletes it.
    public var protectedUntil: String?
    public init() {}
}

/// Requests about backups: everything checked and charged, the row and the operation written, in the caller's transaction.
extension VolumeRequests {
    /// Returns the new backup's id. `downAfter`: seconds after which a service without a heartbeat is down.
    public func createBackup(of volumeID: String, _ new: NewBackup, downAfter seconds: Int, caller: Caller, in tx: any Transaction) throws
        -> String
    {
        guard !caller.projectID.isEmpty else {
            throw StorageError(.invalid, "Invalid input received: a backup belongs to a project, and the token is for none.")
        }
        try BackupContainer.check(new.container)
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        var snapshot: Locked<Snapshot>?
        if let id = new.snapshotID {
            let found = try Snapshots.lock(id, for: caller, in: tx)
            guard found.volumeID == volumeID else {
                throw StorageError.invalidVolume("Volume \(volumeID) does not match with snapshot.volume_id \(found.volumeID).")
            }
            guard found.status == .available else {
                throw StorageError(
                    .invalid,
                    "Invalid snapshot: Snapshot to be backed up must be available, but the current status is \"\(found.status)\".")
            }
            snapshot = found
        } else {
            guard [.available, .inUse].contains(volume.status) else {
                throw StorageError.invalidVolume(
                    "Volume to be backed up must be available or in-use, but the current status is \"\(volume.status)\".")
            }
            guard volume.status != .inUse || new.force else {
                throw StorageError.invalidVolume("Backing up an in-use volume must use the force flag.")
            }
            guard !volume.isMigrating else { throw StorageError.invalidVolume("Backup cannot be created while volume is migrating.") }
        }
        guard try Services.hasBackupService(zone: new.zone, downAfter: seconds, in: tx) else { throw Self.noBackupService }
        var parent: Backup?
        if new.isIncremental {
            // As in Cinder, a snapshot that is no newer than any backup is compared with the one that was made last.
            parent =
                try Backups.parent(ofVolume: volumeID, project: caller.projectID, before: snapshot?.createdAt, in: tx)
                ?? Backups.newest(ofVolume: volumeID, project: caller.projectID, in: tx)
            if parent == nil { throw StorageError.invalidBackup("No backups available to do an incremental backup.") }
        }
        // What it is made on top of is locked, so that it stays; a new id is behind no lock.
        let base = try parent.flatMap { try Backups.lock($0.id, in: tx) }
        guard parent == nil || base?.status == .available else {
            throw StorageError.invalidBackup("No backups available to do an incremental backup.")
        }
        if let base, base.value.isIncremental, !base.value.standsAlone, try Backups.chainLength(base.id, in: tx) >= Backups.longestChain {
            throw StorageError.invalidBackup(
                "the chain of backup \(base.id) has \(Backups.longestChain) backups, the most that one may have: make a full backup.")
        }
        if let base, !base.value.standsAlone { _ = try Backups.lostParts(of: Backups.chain(base.id, in: tx), in: tx) }
        let id = UUID.random()
        let temporary = snapshot == nil ? UUID.random() : nil
        let t = Backups.table
        try tx.insert(
            into: t, t.id(id), t.projectID(caller.projectID), t.userID(caller.userID), t.volumeID(volumeID), t.snapshotID(new.snapshotID),
            t.parentID(parent?.id), t.name(new.name), t.description(new.description), t.size(volume.size), t.status(.creating),
            t.container(new.container), t.objectCount(0), t.availabilityZone(new.zone), t.dataTimestamp(snapshot?.createdAt ?? tx.now),
            t.temporarySnapshotID(temporary), t.metadata(try new.metadata.stored("metadata")), t.createdAt(tx.now),
            t.policyID(new.policyID), t.protectedUntil(new.protectedUntil), t.distrustsChanges(false))
        var claims = [Claim.exclusive(new: id)]
        if let snapshot {
            try Snapshots.setStatus(.backingUp, of: snapshot, in: tx)
            claims += [.shared(snapshot), .shared(volume)]
        } else {
            claims.append(.shared(volume))
            if let temporary { claims.append(.exclusive(new: temporary)) }
        }
        if let base, let claim = try Backups.claimOnImage(of: base.value, in: tx) { claims.append(claim) }
        // Another backup that is made meanwhile must not remove what this one asks for changes since.
        if let base, let claim = Claim.shared(snapshotOf: base) { claims.append(claim) }
        try startBackup(
            CreateBackupArguments(zone: new.zone, container: new.container), id, project: caller.projectID, caller: caller, claims: claims,
            in: tx)
        try Quotas.chargeBackup(gigabytes: volume.size, project: caller.projectID, defaults: quotas, in: tx)
        return id
    }

    static let noBackupService = StorageError(.unavailable, "Service cinder-backup could not be found.")

    /// `force`: whatever its state; a backup that is being made is given up first, and the row of one that could not be deleted goes though its
    /// objects cannot be removed.
    public func deleteBackup(_ id: String, force: Bool, caller: Caller, in tx: any Transaction) throws {
        let found = try Backups.get(id, for: caller, in: tx)
        if force, let running = try Operations.latest(of: id, in: tx), running.finishedAt == nil, running.flow == CreateBackupArguments.flow
        {
            _ = try Operations.cancel(running, caller: caller, in: tx)
        }
        // Whoever claims the image of a chain has the volume's lock.
        if Backups.sharesImage(found) { _ = try Volumes.lock(found.volumeID, in: tx) }
        let backup = try Backups.lock(found.id, for: caller, in: tx)
        guard force || BackupStatus.deletable.contains(backup.status) else {
            throw StorageError.invalidBackup("Backup status must be available or error")
        }
        // Whoever has it deleted: that nobody can is what it is protected for.
        if let until = backup.protectedUntil, until > tx.now, backup.isWhole {
            throw StorageError.invalidBackup("Backup is protected until \(until.prefix(19)) UTC.")
        }
        guard !backup.hasDependents else { throw StorageError.invalidBackup("Incremental backups exist for this backup.") }
        try Backups.setStatus(.deleting, of: backup, in: tx)
        var claims = [Claim.exclusive(backup)]
        if let claim = try Backups.claimOnImage(of: backup.value, in: tx) { claims.append(claim) }
        if force, backup.status == .errorDeleting {
            try startBackup(ForgetBackupArguments(), id, project: backup.projectID, caller: caller, claims: claims, in: tx)
        } else {
            try startBackup(DeleteBackupArguments(), id, project: backup.projectID, caller: caller, claims: claims, in: tx)
        }
    }

    /// Of one project.
    static let mostVerifications = 2
    static let unfinishedSQL = SQL("SELECT resource_id FROM operations WHERE finished_at IS NULL AND flow = ? AND project_id = ?")

    /// Has all that a backup needs read, and what is damaged marked.
    public func verifyBackup(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let backup = try Backups.lock(id, for: caller, in: tx)
        guard backup.status == .available else {
            throw StorageError.invalidBackup("Backup status must be available and not \(backup.status).")
        }
        // Each is a process that reads a whole chain.
        let going = try tx.rows(Self.unfinishedSQL, .text(VerifyBackupArguments.flow.name), .text(backup.projectID)) { $0.text(0) }
        guard !going.contains(id) else { throw StorageError(.conflict, "Backup \(id) is being verified already.") }
        guard going.count < Self.mostVerifications else {
            throw StorageError(.conflict, "\(going.count) backups of the project are being verified, the most at once.")
        }
        try startBackup(VerifyBackupArguments(), id, project: backup.projectID, caller: caller, claims: [.shared(backup)], in: tx)
    }

    /// What the client of a restoration is told.
    public struct Restoration: Sendable {
        public let backupID, volumeID: String
        public let volumeName: String?
    }

    /// Restores a backup to a volume, or to a new one of that name.
    public func restore(_ id: String, to volumeID: String?, name: String?, downAfter seconds: Int, caller: Caller, in tx: any Transaction)
        throws -> Restoration
    {
        // Locked first, as the order wants it; asked for after the backup, as Cinder does.
        let volume = try volumeID.flatMap { try Volumes.lock($0, in: tx) }
        let backup = try Backups.lock(id, for: caller, in: tx)
        guard backup.status == .available else { throw StorageError.invalidBackup("Backup status must be available") }
        guard let volumeID else {
            try requireBackupService(of: backup.value, downAfter: seconds, in: tx)
            var new = NewVolume()
            new.name = name ?? "restore_backup_" + id
            new.description = "auto-created_from_restore_from_backup"
            new.size = backup.size
            let made = try create(new, from: backup, caller: caller, in: tx)
            return Restoration(backupID: id, volumeID: made, volumeName: new.name)
        }
        guard let volume, volume.value.isVisible(to: caller) else { throw StorageError.volumeNotFound(volumeID) }
        guard volume.status == .available else { throw StorageError.invalidVolume("Volume to be restored to must be available") }
        guard backup.size <= volume.size else {
            throw StorageError.invalidVolume(
                "volume size \(volume.size) is too small to restore backup of size \(backup.size).")
        }
        try requireFit(of: backup.value, isEncrypted: volume.encryptionKeyID != nil)
        if volume.encryptionKeyID != nil { try requireReplaceableKey(of: volumeID, in: tx) }
        try requireBackupService(of: backup.value, downAfter: seconds, in: tx)
        guard try !HostConnections.isConnected(volumeID, in: tx), try Volumes.perform(.restore, on: volume, in: tx) else {
            throw StorageError.invalidVolume(
                "The volume is being migrated or backed up, or a host is connected to it: nothing can be restored to it now.")
        }
        try Backups.restoring(backup, to: volumeID, in: tx)
        try start(
            RestoreBackupArguments(backupID: id, isNew: false), volume: volumeID, project: volume.projectID, caller: caller,
            claims: [.exclusive(volume), .exclusive(backup)], in: tx)
        return Restoration(backupID: id, volumeID: volumeID, volumeName: volume.name)
    }

    /// Throws where an encrypted volume has snapshots: they are encrypted by the key that it has now, and would be without one.
    func requireReplaceableKey(of volumeID: String, in tx: any Transaction) throws {
        guard try tx.exists(Self.snapshotsSQL, .text(volumeID)) else { return }
        throw StorageError.invalidVolume("The volume is encrypted and has snapshots, which nobody could read once it has another key.")
    }

    private static let snapshotsSQL = SQL("SELECT 1 FROM snapshots WHERE volume_id = ? LIMIT 1")

    /// A volume whose source is a backup: it must be whole, and the volume no smaller.
    func checkSource(_ backup: Backup, size: Int?) throws {
        guard backup.status == .available else {
            throw StorageError.invalidBackup("Originating backup status must be one of 'available' values")
        }
        if let size, size < backup.size {
            throw StorageError.invalidInput(
                "Volume size \(size)GB cannot be smaller than the backup size \(backup.size)GB. It must be >= backup size.")
        }
    }

    /// What is encrypted comes back to a volume that is, and nothing else does.
    func requireFit(of backup: Backup, isEncrypted: Bool) throws {
        guard (backup.encryptionKeyID != nil) != isEncrypted else { return }
        throw StorageError.invalidInput(
            backup.encryptionKeyID != nil
                ? "The backup is of an encrypted volume: it can be restored to one of an encrypted volume type only, which "
                    + "the request must name: volume_id, or backup_id of a new volume."
                : "The backup is not of an encrypted volume: it cannot be restored to one.")
    }

    private func requireBackupService(of backup: Backup, downAfter seconds: Int, in tx: any Transaction) throws {
        guard try Services.hasBackupService(zone: backup.availabilityZone, downAfter: seconds, in: tx) else {
            throw StorageError(.notFound, Self.noBackupService.message)
        }
    }

    private func startBackup(
        _ arguments: some FlowArguments, _ id: String, project: String, caller: Caller, claims: [Claim], in tx: any Transaction
    ) throws {
        _ = try Operations.create(
            arguments, resourceType: "backup", resourceID: id, projectID: project, caller: caller, claims: claims, in: tx)
    }
}

extension Services {
    /// Whether a backup service takes work: one that is up and enabled, in the zone if one is asked for.
    static func hasBackupService(zone: String?, downAfter seconds: Int, in connection: any Connection) throws -> Bool {
        try connection.rows(of: table, table.binary("cinder-backup")) { Service($0) }.contains {
            !$0.isDisabled && $0.isUp(downAfter: seconds) && ((zone ?? "").isEmpty || $0.zone == zone)
        }
    }
}
