import BlockStorage
import Database
import DriverHost

/// Removes the snapshot that a backup was read from, at once or when it is kept no longer. An operation of its own: the backup is whole
/// without it, and the volume may be in use by others until its turn comes.
enum RemoveBackupSnapshot: FlowDefinition {
    typealias Arguments = RemoveBackupSnapshotArguments

    static let steps: [Step<Self>] = [
        .onBackend(
            "remove", waitsForBackend: true,
            host: { run in try await run.read { try Volumes.find(run.arguments.volumeID, in: $0)?.host } },
            perform: { run, backend in
                let volume = try await run.volume(run.arguments.volumeID)
                let id = run.arguments.snapshotID
                let arguments = DriverValue.members([
                    "volume": try await run.driverArguments(volume),
                    "snapshot": run.driverArguments(snapshot: id, size: volume.size, data: run.arguments.data),
                ])
                _ = try await backend.call(.deleteSnapshot, arguments, wait: nil)
            },
            record: { run, _, tx in
                try BackupSnapshotRemovals.finished(run.arguments.snapshotID, in: tx)
                guard let backup = try Backups.lock(run.operation.resourceID, in: tx),
                    backup.temporarySnapshotID == run.arguments.snapshotID
                else { return }
                try Backups.forgetSnapshot(of: backup, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        // Another operation tries again: this one would keep the volume from everybody else meanwhile.
        _ = try Volumes.lock(run.arguments.volumeID, in: tx)
        let attempts = try BackupSnapshotRemovals.failed(
            run.arguments, backupID: run.operation.resourceID, projectID: run.operation.projectID, message: failure.message, in: tx)
        // Once is enough: the user can do nothing about it. Of what an image was made of he never knew.
        if attempts == 1, run.operation.resourceType == "backup" {
            try run.addBackupMessage(run.operation.resourceID, .createBackup, .backupCleanupFailed, in: tx)
        }
        return .finished
    }
}
