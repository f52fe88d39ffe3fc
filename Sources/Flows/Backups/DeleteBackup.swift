import BlockStorage
import Database
import DriverHost

/// Removes a backup from its store.
enum DeleteBackup: FlowDefinition {
    typealias Arguments = DeleteBackupArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "remove",
            perform: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                // One that found no store has nothing in any.
                guard backup.store != nil else { return }
                let store = try OperationStore(of: backup, run.operation, services)
                // What it rests on may be gone already, for what was imported.
                try await store.remove(store.order([backup]))
            },
            record: { run, _, tx in
                if let backup = try Backups.lock(run.operation.resourceID, in: tx) { try Backups.remove(backup, in: tx) }
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        if let backup = try Backups.lock(run.operation.resourceID, in: tx) {
            try Backups.setStatus(.errorDeleting, of: backup, failReason: failure.message, in: tx)
        }
        try run.addBackupMessage(run.operation.resourceID, .deleteBackup, .backupNotDeleted, in: tx)
        return .finished
    }
}
