import BlockStorage
import Database
import DriverHost
import JSON
import Logging
import Transfers

/// Reads all that a backup needs, and marks it and all others that use what is damaged.
enum VerifyBackup: FlowDefinition {
    typealias Arguments = VerifyBackupArguments

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .onStore(
            "verify",
            perform: { run, services in
                let chain = try await run.chain(run.operation.resourceID)
                guard let backup = chain.last else { throw StorageError.backupNotFound(run.operation.resourceID) }
                let store = try OperationStore(of: backup, run.operation, services)
                var order = try store.order(chain)
                let bucket = store.store.bucket
                // A repository knows itself who uses what.
                if !backup.standsAlone {
                    order.relatives = try await run.read { connection in
                        try Backups.relatives(of: chain, in: connection).map { BackupOrder.Item($0, in: bucket) }
                    }
                }
                let verdict = try await store.verify(order)
                // Others are locked by a transaction of their own: this operation's has its backup's lock, whatever the order of ids.
                try await verdict.markUsers(of: order.format == "repository" ? backup.projectID : nil, in: services.database)
                verdict.log(services.log, about: ["backup_id": "\(backup.id)", "request_id": "\(run.operation.requestID)"])
                return verdict
            },
            record: { run, verdict, tx in
                guard let backup = try Backups.lock(run.operation.resourceID, in: tx) else { return }
                let isMended = verdict.kept.isEmpty && backup.failReason.map(BackupDamageReason.isOf) == true
                try Backups.verified(backup, verdict.kept, endsReason: isMended, in: tx)
                try Events.append(
                    "backup.verified", resourceType: "backup", resourceID: backup.id, projectID: backup.projectID,
                    operationID: run.operation.id, requestID: run.operation.requestID,
                    data: ["damages": JSON(verdict.damages.count), "others": JSON(verdict.users.count)], in: tx)
            })
    ]

    /// What is known of the backup stays what it was.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.addBackupMessage(run.operation.resourceID, .verifyBackup, .backupNotVerified, in: tx)
        return .finished
    }
}

extension BackupVerdict {
    /// As the database keeps it.
    var kept: [BackupDamage] { damages.map { BackupDamage($0.text, range: $0.range) } }

    /// Marks the other backups that use what is damaged.
    ///
    /// - Parameter project: whose repository it is; nil: nobody's.
    func markUsers(of project: String?, in database: any Database) async throws {
        guard !damages.isEmpty, !users.isEmpty else { return }
        try await database.write { try Backups.markDamaged(users, of: project, because: kept, in: $0) }
    }

    /// Lines of one verdict that the log gets.
    private static let longestLog = 20

    func log(_ log: Logger, about metadata: Logger.Metadata) {
        for damage in damages.prefix(Self.longestLog) { log.error("a store holds damage: \(damage.text)", metadata: metadata) }
        if damages.count > Self.longestLog { log.error("and \(damages.count - Self.longestLog) damages more", metadata: metadata) }
    }
}
