import BlockStorage
import Database
import DriverHost

/// Removes a backup from its store.
enum DeleteBackup: FlowDefinition {
    typealias Arguments = DeleteBackupArguments

    static let steps = [Step<Self>.removeBackup]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.failedToRemoveBackup(failure, in: tx)
        return .finished
    }
}

/// The same of one that could not be removed before, as an administrator forces it: where trying again does not help, its row goes, and what
/// the store may still hold of it stays there.
enum ForgetBackup: FlowDefinition {
    typealias Arguments = ForgetBackupArguments

    static let steps = [Step<Self>.removeBackup]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        let passes: [DriverFailure.Code] = [.retry, .unavailable, .hostDied, .cancelled, .noSpace]
        // Of a failure before a death the code is not known.
        guard let code = failure.code, !passes.contains(code), let found = try Backups.find(run.operation.resourceID, in: tx) else {
            try run.failedToRemoveBackup(failure, in: tx)
            return .finished
        }
        let volume = try Volumes.lock(found.volumeID, in: tx)
        guard let backup = try Backups.lock(found.id, in: tx) else { return .finished }
        if let volume { try Backups.removeSnapshot(of: backup, volume, caller: run.operation.caller, in: tx) }
        try Backups.forget(backup, because: failure.message, of: run.operation, in: tx)
        return .finished
    }
}

extension Step {
    /// Removes a backup from its store, and its row.
    static var removeBackup: Step {
        .onStore(
            "remove",
            perform: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                let isSnapshotLeft = try await !run.dropSnapshot(beside: backup, services)
                // One that found no store has nothing in any.
                if backup.store != nil {
                    let store = try OperationStore(of: backup, run.operation, services)
                    // What it rests on may be gone already, for what was imported.
                    var order = try store.order([backup])
                    order.neighbours = try await run.read { try Backups.neighbours(of: backup, in: $0) }
                    try await store.remove(order)
                }
                try await run.deleteKey(of: backup, services)
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
    }
}

extension FlowRun {
    /// Deletes the key of what was encrypted, and one that was made for the backup and could not be taken back.
    fileprivate func deleteKey(of backup: Backup, _ services: FlowServices) async throws {
        let volume = try await read { try Volumes.find(backup.volumeID, in: $0) }
        let keys = OperationKeys(services)
        if backup.encryptionKeyID != nil || volume?.encryptionKeyID != nil {
            try await keys.delete(backup.encryptionKeyID, for: .backup(backup.id))
        } else if backup.failReason != nil {
            // Of a volume that is gone nobody knows whether it was encrypted. Most were not: a key manager that is down is no obstacle.
            try? await keys.delete(nil, for: .backup(backup.id))
        }
    }

    /// Removes the snapshot that was kept for the next increment. False: its backend cannot be reached. The backup does not stay for that.
    fileprivate func dropSnapshot(beside backup: Backup, _ services: FlowServices) async throws -> Bool {
        guard backup.temporarySnapshotID != nil, let volume = try await read({ try Volumes.find(backup.volumeID, in: $0) }),
            let host = volume.host
        else { return true }
        do {
            let backend = try OperationBackend(at: host, operation, services)
            try await dropSnapshot(of: backup, volume, on: backend, wait: 5)
            return true
        } catch let failure as DriverFailure where failure.code == .unavailable { return false }
    }

    fileprivate func failedToRemoveBackup(_ failure: StepFailure, in tx: any Transaction) throws {
        if let backup = try Backups.lock(operation.resourceID, in: tx) {
            try Backups.setStatus(.errorDeleting, of: backup, failReason: failure.message, in: tx)
        }
        try addBackupMessage(operation.resourceID, .deleteBackup, .backupNotDeleted, in: tx)
    }
}
