public import Database
import JSON
import Primitives

/// What a run asks for: ordinary requests, with the checks and charges of all others, in the name of the project that has the volume.
extension VolumeRequests {
    /// Begins the copy of an item, if nobody has done so. The copy and the note of it are one change: no death makes two copies, or none.
    public func start(
        _ item: BackupPolicyItem, of run: BackupPolicyRun, downAfter seconds: Int, in tx: any Transaction
    ) throws {
        guard let policy = try BackupPolicies.lock(run.policyID, in: tx) else { return }
        // Noted first: where it is not pending any more nothing is asked for.
        guard try BackupPolicyRuns.set(.started, of: item, in: tx) else { return }
        guard let volume = try Volumes.lock(item.volumeID, in: tx), volume.projectID == item.projectID else {
            throw StorageError.volumeNotFound(item.volumeID)
        }
        let settings = policy.settings
        let caller = caller(volume.value, run)
        let time = (run.occurrenceAt ?? run.createdAt).prefix(19)
        // No name is longer than what a user may give.
        let name = String(settings.name.unicodeScalars.prefix(255 - 1 - time.unicodeScalars.count)) + " " + String(time)
        let copy: String
        switch settings.action {
        case .backup:
            let copies = try BackupPolicies.copies(
                ofVolume: volume.id, project: volume.projectID, of: policy.value, triedSince: nil, in: tx)
            var new = NewBackup()
            new.name = name
            new.container = settings.container
            new.zone = settings.availabilityZone
            new.metadata = settings.metadata
            new.force = true
            new.policyID = policy.id
            new.protectedUntil = settings.protection(from: Int(tx.time), most: mostProtectDays).map {
                Timestamp.format(seconds: $0, microseconds: 0)
            }
            let wantsFull = settings.retention.wantsFull(
                settings.incremental ?? .auto, fullEvery: settings.fullEvery, after: copies, in: settings.zone)
            new.isIncremental = try !wantsFull && !isBaseLost(of: volume.value, in: tx)
            copy = try createBackup(of: volume.id, new, downAfter: seconds, caller: caller, in: tx)
        case .snapshot:
            var new = NewSnapshot()
            new.name = name
            new.metadata = settings.metadata
            new.policyID = policy.id
            copy = try createSnapshot(of: volume.id, new, allowsInUse: true, caller: caller, in: tx)
        }
        let t = BackupPolicyRuns.items
        try tx.update(t, t.runID(item.runID), t.volumeID(item.volumeID), set: t.copyID(copy))
    }

    /// Whether no increment can be made on the volume's newest backup, since nobody could restore it.
    private func isBaseLost(of volume: Volume, in tx: any Transaction) throws -> Bool {
        guard let base = try Backups.parent(ofVolume: volume.id, project: volume.projectID, before: nil, in: tx), !base.standsAlone
        else { return false }
        do {
            _ = try Backups.lostParts(of: Backups.chain(base.id, in: tx), in: tx)
            return false
        } catch is StorageError { return true }
    }

    private func caller(_ volume: Volume, _ run: BackupPolicyRun) -> Caller {
        Caller(userID: volume.userID, projectID: volume.projectID, isAdmin: false, requestID: run.requestID)
    }

    /// The copies of an item's volume that the policy keeps no longer, those first that rest on others, and whether something still rests on one.
    public func expired(after item: BackupPolicyItem, of run: BackupPolicyRun, in connection: any Connection) throws
        -> [(id: String, mayGo: Bool)]
    {
        guard let policy = try BackupPolicies.find(run.policyID, in: connection) else { return [] }
        return try expired(after: item, of: run, policy, in: connection).map { id in
            (id, policy.settings.action == .snapshot ? true : try Backups.find(id, in: connection)?.hasDependents == false)
        }
    }

    private func expired(after item: BackupPolicyItem, of run: BackupPolicyRun, _ policy: BackupPolicy, in connection: any Connection)
        throws
        -> [String]
    {
        let copies = try BackupPolicies.copies(
            ofVolume: item.volumeID, project: item.projectID, of: policy, triedSince: run.createdAt, in: connection)
        return policy.settings.retention.expired(copies, in: policy.settings.zone, at: Int(connection.time))
    }

    /// Deletes a copy that the policy has made and keeps no longer, as its project would. What it keeps is looked at again under its lock: it
    /// may have been changed, or copies restored, marked or deleted, since the copy was found.
    public func delete(_ copyID: String, after item: BackupPolicyItem, of run: BackupPolicyRun, in tx: any Transaction) throws {
        guard let policy = try BackupPolicies.lock(run.policyID, in: tx),
            try expired(after: item, of: run, policy.value, in: tx).contains(copyID)
        else { return }
        let caller = serviceCaller(of: item.projectID, run.requestID)
        switch policy.settings.action {
        case .backup: try deleteBackup(copyID, force: false, caller: caller, in: tx)
        case .snapshot: try deleteSnapshot(copyID, force: false, caller: caller, in: tx)
        }
        // A run waits for what others rested on since it last got on.
        try BackupPolicyRuns.set(.retaining, of: item, in: tx)
    }

    /// How a copy that was begun is.
    public enum CopyState: Sendable, Equatable { case going, made, failed(String) }

    public func state(of item: BackupPolicyItem, in connection: any Connection) throws -> CopyState {
        guard let id = item.copyID else { return .failed("the copy was never begun.") }
        if let backup = try Backups.find(id, in: connection) {
            switch backup.status {
            case .creating: return .going
            case .available, .restoring: return .made
            default: return .failed(backup.failReason ?? "the backup's status is \(backup.status).")
            }
        }
        guard let snapshot = try Snapshots.find(id, in: connection) else { return .failed("it was deleted, or taken back.") }
        switch snapshot.status {
        case .creating: return .going
        case .available, .backingUp, .restoring: return .made
        default: return .failed("the snapshot's status is \(snapshot.status).")
        }
    }

    /// In whose name policies act in a project.
    static let serviceUser = "clinker"

    func serviceCaller(of project: String, _ requestID: String) -> Caller {
        Caller(userID: Self.serviceUser, projectID: project, isAdmin: false, requestID: requestID)
    }
}
