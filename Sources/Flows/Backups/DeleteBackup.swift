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
                let isSnapshotLeft = try await !dropSnapshot(of: backup, run, services)
                // One that found no store has nothing in any.
                if backup.store != nil {
                    let store = try OperationStore(of: backup, run.operation, services)
                    // What it rests on may be gone already, for what was imported.
                    try await store.remove(store.order([backup]))
                }
                try await deleteKey(of: backup, run, services)
                return isSnapshotLeft
            },
            record: { run, isSnapshotLeft, tx in
                guard let found = try Backups.find(run.operation.resourceID, in: tx) else { return }
                let volume = try Volumes.lock(found.volumeID, in: tx)
                guard let backup = try Backups.lock(found.id, in: tx) else { return }
                // The operation waits for the backend, and knows all that it needs.
                if isSnapshotLeft, let volume { try Backups.removeSnapshot(of: backup, volume, caller: run.operation.caller, in: tx) }
                try Backups.remove(backup, in: tx)
            })
    ]

    /// Deletes the key of what was encrypted, and one that was made for the backup and could not be taken back.
    private static func deleteKey(of backup: Backup, _ run: FlowRun<Self>, _ services: FlowServices) async throws {
        let volume = try await run.read { try Volumes.find(backup.volumeID, in: $0) }
        guard backup.encryptionKeyID != nil || volume?.encryptionKeyID != nil || backup.failReason != nil else { return }
        try await OperationKeys(services).delete(backup.encryptionKeyID, for: .backup(backup.id))
    }

    /// Removes the snapshot that was kept for the next increment. False: its backend cannot be reached. The backup does not stay for that.
    private static func dropSnapshot(of backup: Backup, _ run: FlowRun<Self>, _ services: FlowServices) async throws -> Bool {
        guard backup.temporarySnapshotID != nil, let volume = try await run.read({ try Volumes.find(backup.volumeID, in: $0) }),
            let host = volume.host
        else { return true }
        do {
            let backend = try OperationBackend(at: host, run.operation, services)
            try await run.dropSnapshot(of: backup, volume, on: backend, wait: 5)
            return true
        } catch let failure as DriverFailure where failure.code == .unavailable { return false }
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        if let backup = try Backups.lock(run.operation.resourceID, in: tx) {
            try Backups.setStatus(.errorDeleting, of: backup, failReason: failure.message, in: tx)
        }
        try run.addBackupMessage(run.operation.resourceID, .deleteBackup, .backupNotDeleted, in: tx)
        return .finished
    }
}
