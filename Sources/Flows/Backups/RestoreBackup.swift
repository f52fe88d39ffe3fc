import BlockStorage
import Database
import DriverHost
import JSON
import Transfers

/// Writes a backup over a volume, which is placed and made first if it is new.
enum RestoreBackup: FlowDefinition {
    typealias Arguments = RestoreBackupArguments
    typealias State = PlacedVolumeState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .place(
            "place",
            prepare: { run, pools in
                guard run.arguments.isNew else { return InstancePlace?.none }
                await pools.waitForReports(run)
                return await pools.scheduler.instance(run.arguments.schedulerHints)
            },
            record: { run, pools, instance, tx in
                if run.arguments.isNew { try run.placeNewVolume(as: run.arguments.placement, instance, pools, in: tx) }
            },
            recordUndo: { run, tx in try run.takeBackPlacement(in: tx) }),
        .onBackend(
            "make", host: { run in run.state.host },
            perform: { run, backend in
                let volume = try await run.volume()
                if volume.isOfEncryptedType { try backend.requireEncrypted() }
                return CreatedObject(
                    try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: volume)])), on: backend)
            },
            record: { run, created, tx in
                guard let created else { return }
                let volume = try run.volume(in: tx)
                try run.markCreated(volume, created, in: tx)
                try Volumes.setStatus(.restoringBackup, of: volume, in: tx)
            },
            undo: { run, backend in
                _ = try await backend.call(.deleteVolume, .members(["volume": run.driverArguments(run.volume())]), wait: 5)
            },
            recordUndo: { run, tx in
                guard run.arguments.isNew, let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try Volumes.setStatus(.creating, of: volume, in: tx)
            }),
        .onStore(
            "write",
            perform: { run, services in
                let chain = try await run.chain(run.arguments.backupID)
                guard let backup = chain.last else { throw StorageError.backupNotFound(run.arguments.backupID) }
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                try await run.read { try requireUnconnected(volume, in: $0) }
                let store = try OperationStore(of: backup, run.operation, services)
                var order = try store.order(chain)
                order.targetIsZero = run.arguments.isNew
                let object = DriverValue.members(["volume": try await run.driverArguments(volume)])
                let key = try await copyKey(of: backup, for: volume, run, services)
                let output = try await store.run(order, isRestore: true, with: object, at: host)
                // Nothing is encrypted by it any more.
                if let old = volume.encryptionKeyID, old != key {
                    try await OperationKeys(services).delete(old, for: .volume(volume.id))
                }
                return Written(output: output, keyID: key)
            },
            record: { run, written, tx in
                let (volume, output) = (try run.volume(in: tx), written.output)
                if let key = written.keyID { try Volumes.setEncryptionKey(key, of: volume, in: tx) }
                guard let backup = try Backups.lock(run.arguments.backupID, in: tx) else { return }
                try BackedUpVolume.restore(output["volume_metadata"]?.string ?? "", of: backup.value, to: volume, in: tx)
                try Volumes.setStatus(.available, of: volume, in: tx)
                if backup.status == .restoring { try Backups.setStatus(.available, of: backup, in: tx) }
            },
            undo: { run, services in
                guard try await run.backup(run.arguments.backupID).encryptionKeyID != nil else { return }
                try await OperationKeys(services).delete(nil, for: .restored(run.volumeID, operation: run.operation.id))
            }),
    ]

    private struct Written: Sendable {
        let output: DriverValue
        let keyID: String?
    }

    /// A copy of the backup's key, which the volume's content will be encrypted by; nil where nothing is encrypted.
    private static func copyKey(of backup: Backup, for volume: Volume, _ run: FlowRun<Self>, _ services: FlowServices) async throws
        -> String?
    {
        guard let key = backup.encryptionKeyID else { return nil }
        return try await OperationKeys(services).copy(
            key, for: .restored(volume.id, operation: run.operation.id), userID: volume.userID)
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        let volume = try Volumes.lock(run.volumeID, in: tx)
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        if failure.step == "make", failure.isUndone, failure.code != .invalid, run.state.attempted.count < run.settings.placementAttempts {
            return .retry
        }
        let isPlacement = failure.step == "place"
        if let volume {
            // What was written in part is neither the old nor the new: nobody may take it for whole.
            // One that is encrypted may have lost its key, too, and after a death nobody knows how far it came.
            let mayBeUntouched = failure.step != "write" || failure.code == .unsupported || failure.code == .busy
            let isUntouched = mayBeUntouched && volume.encryptionKeyID == nil
            try Volumes.setStatus(
                run.arguments.isNew ? .error : isUntouched ? volume.previousStatus ?? .available : .errorRestoring, of: volume, in: tx)
        }
        if !failure.isUndone, let found = try Backups.find(run.arguments.backupID, in: tx), found.encryptionKeyID != nil {
            // The key may be what could not be taken back.
            _ = try Operations.create(
                DiscardKeyArguments(volumeID: run.volumeID, operationID: run.operation.id), resourceType: "key",
                resourceID: run.operation.id, projectID: run.operation.projectID, caller: run.operation.caller,
                claims: [.exclusive(new: run.operation.id)], in: tx)
        }
        if let backup = try Backups.lock(run.arguments.backupID, in: tx), backup.status == .restoring {
            try Backups.setStatus(.available, of: backup, failReason: failure.message, in: tx)
        }
        if BackupDamageReason.isOf(failure.message), let backup = try Backups.lock(run.arguments.backupID, in: tx) {
            try Backups.markDamaged([backup.id], because: [BackupDamage(failure.message)], in: tx)
            // What else is damaged, and who else uses it, is found out behind the restoration.
            _ = try Operations.create(
                VerifyBackupArguments(), resourceType: "backup", resourceID: backup.id, projectID: backup.projectID,
                caller: run.operation.caller, claims: [.shared(backup)], in: tx)
        }
        if isPlacement {
            try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        } else {
            try run.addBackupMessage(run.arguments.backupID, .restoreBackup, .restoreFailed, in: tx)
        }
        return .finished
    }
}
