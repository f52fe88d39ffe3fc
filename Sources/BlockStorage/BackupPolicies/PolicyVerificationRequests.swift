public import Database
import Primitives

/// Verifications in the name of policies: of what a run has just made, and of what was not verified for long.
extension VolumeRequests {
    static let verificationSQL = SQL(
        """
        SELECT \(Operation.columns) FROM operations WHERE resource_id = ? AND flow = ? AND created_at >= ?
        ORDER BY created_at DESC, id DESC LIMIT 1
        """)
    /// How the verification of an item's backup is; nil: it is to be begun.
    public func verification(of item: BackupPolicyItem, in connection: any Connection) throws -> CopyState? {
        guard let backup = try item.copyID.flatMap({ try Backups.find($0, in: connection) }) else {
            return .failed("made, and deleted before it was verified.")
        }
        if backup.verifiedAt != nil {
            guard backup.verifyStatus == .damaged else { return .made }
            let damage = try Backups.damages(of: backup.id, in: connection).first?.text ?? "damaged"
            return .failed("made, but its verification found: \(damage)")
        }
        let flow = VerifyBackupArguments.flow.name
        // The item is touched when a verification is begun, and when one is cancelled that is to be begun again.
        if let last = try connection.first(
            Self.verificationSQL, .text(backup.id), .text(flow), .text(item.updatedAt), map: { Operation($0) })
        {
            guard last.finishedAt != nil else { return .going }
            return .failed("made, but it could not be verified: \(last.error ?? "it was cancelled")")
        }
        // Its turn comes when the restoration has ended.
        if backup.status == .restoring { return .going }
        let going = try connection.rows(Self.unfinishedSQL, .text(flow), .text(backup.projectID)) { $0.text(0) }
        return going.contains(backup.id) || going.count >= Self.mostVerifications ? .going : nil
    }

    /// Begins the verification of an item's backup, unless the backup is being restored.
    public func beginVerification(of item: BackupPolicyItem, of run: BackupPolicyRun, in tx: any Transaction) throws {
        guard let id = item.copyID, try BackupPolicies.lock(run.policyID, in: tx) != nil,
            try BackupPolicyRuns.set(.verifying, of: item, in: tx), let backup = try Backups.lock(id, in: tx), backup.status != .restoring
        else { return }
        try verifyBackup(id, caller: serviceCaller(of: item.projectID, run.requestID), in: tx)
    }

    // MARK: restorations go first

    static let obstructingSQL = SQL(
        """
        SELECT \(Operation.columns) FROM operations WHERE finished_at IS NULL AND flow = ? AND user_id = ? AND cancelled = 0
        AND reverting = 0 AND resource_id IN (SELECT id FROM backups WHERE status = \(BackupStatus.restoring.sql))
        """)
    /// Verifications that policies began and that restorations of the same backups wait for.
    public func obstructingVerifications(in connection: any Connection) throws -> [Operation] {
        try connection.rows(Self.obstructingSQL, .text(VerifyBackupArguments.flow.name), .text(Self.serviceUser)) { Operation($0) }
    }

    static let touchSQL = SQL(
        """
        UPDATE backup_policy_items SET updated_at = ? WHERE copy_id = ? AND status = 'verifying'
        AND run_id IN (SELECT id FROM backup_policy_runs WHERE policy_id = ? AND finished_at IS NULL)
        """)
    /// Cancels a verification of a policy. Where it belongs to a run it is begun again later.
    public func cancelVerification(_ operation: Operation, in tx: any Transaction) throws {
        let policy = try Backups.find(operation.resourceID, in: tx)?.policyID.flatMap { try BackupPolicies.lock($0, in: tx) }
        let caller = serviceCaller(of: operation.projectID, operation.requestID)
        guard try Operations.cancel(operation, caller: caller, in: tx), let policy else { return }
        try tx.run(Self.touchSQL, .text(tx.now), .text(operation.resourceID), .text(policy.id))
    }

    // MARK: again and again

    static let oldVerificationsSQL = SQL(
        """
        SELECT b.id, b.project_id FROM backups b WHERE b.policy_id = ? AND b.status = \(BackupStatus.available.sql)
        AND coalesce(b.verified_at, b.created_at) < ? ORDER BY coalesce(b.verified_at, b.created_at), b.id
        """)
    static let verifyingProjectsSQL = SQL(
        "SELECT project_id, count(*) FROM operations WHERE finished_at IS NULL AND flow = ? GROUP BY project_id")
    /// Backups of a policy whose last verification is so long ago that they are to be verified again, the longest ago first: of each project no
    /// more than may be begun now, so that one with many keeps no other one waiting.
    ///
    /// - Parameter tried: these are passed over.
    public func dueVerifications(of policy: BackupPolicy, except tried: Set<String>, limit: Int, in connection: any Connection) throws
        -> [(id: String, project: String)]
    {
        let now = Int(connection.time)
        guard policy.settings.enabled, let end = policy.settings.lastVerification(dueAt: now),
            policy.settings.schedule(of: policy.id)?.isOpen(at: now) ?? true
        else { return [] }
        let going = try connection.rows(Self.verifyingProjectsSQL, .text(VerifyBackupArguments.flow.name)) { ($0.text(0), $0.int(1)) }
        var counts = Dictionary(going, uniquingKeysWith: +)
        var due: [(id: String, project: String)] = []
        let values: [Value] = [.text(policy.id), .text(Timestamp.format(seconds: end, microseconds: 0))]
        try connection.query(Self.oldVerificationsSQL, values) { row in
            let (id, project) = (row.text(0), row.text(1))
            guard counts[project, default: 0] < Self.mostVerifications, !tried.contains(id) else { return true }
            counts[project, default: 0] += 1
            due.append((id, project))
            return due.count < limit
        }
        return due
    }

    /// Verifies a backup of a policy again.
    public func verifyAgain(_ id: String, project: String, in tx: any Transaction) throws {
        try verifyBackup(id, caller: serviceCaller(of: project, "req-" + UUID.random()), in: tx)
    }
}
