import BlockStorage
import Database
import DriverHost

/// Removes a volume: the snapshots first, each recorded with the volume.
enum DeleteVolume: FlowDefinition {
    typealias Arguments = DeleteVolumeArguments

    static let steps: [Step<Self>] = [removalOfSnapshots(), removal()]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try giveUp(run, failure, in: tx)
    }

    fileprivate static func removalOfSnapshots<Flow: FlowDefinition>() -> Step<Flow> {
        .onBackend(
            "remove snapshots", waitsForBackend: true,
            host: { run in
                let volume = try await run.volume()
                let hasNone = try await run.read {
                    try Snapshots.ofVolume(volume.id, in: $0).isEmpty && !Backups.hasSnapshots(besideVolume: volume.id, in: $0)
                }
                return hasNone ? nil : volume.host
            },
            perform: { run, backend in
                let volume = try await run.volume()
                try await run.dropBackupSnapshots(of: volume, on: backend, wait: nil)
                // The newest first: older ones may be what they rest on. Each is recorded on its own: should a later one stay, no
                // row of one that went may come back.
                for snapshot in try await run.read({ try Snapshots.ofVolume(volume.id, in: $0) }).reversed() {
                    _ = try await backend.call(
                        .deleteSnapshot,
                        .members(["volume": run.driverArguments(volume), "snapshot": run.driverArguments(snapshot)]), wait: nil)
                    let (charges, operation) = (run.settings.snapshotsChargeGigabytes, run.operation)
                    try await run.recordPart { tx in
                        guard let snapshot = try Snapshots.lock(snapshot.id, in: tx) else { return }
                        try NotificationOutbox.noteRemoval(ofSnapshot: snapshot.id, by: operation, in: tx)
                        try Snapshots.remove(snapshot, chargesGigabytes: charges, in: tx)
                    }
                }
            })
    }

    /// - Parameter leavesKey: whether the volume goes where its key cannot yet: an operation of its own deletes the key.
    fileprivate static func removal<Flow: FlowDefinition>(leavesKey: Bool = false) -> Step<Flow> {
        .onVolume(
            "remove", skipsUnplaced: true, waitsForBackend: true,
            perform: { run, volume, backend in
                let arguments = DriverValue.members(["volume": try await run.driverArguments(volume)])
                // A backend that is down delays the deletion; it does not fail it.
                _ = try await backend.callIfSupported(.unexportVolume, arguments, wait: nil)
                _ = try await backend.call(.deleteVolume, arguments, wait: nil)
                // Behind the content: without its key nobody could read what is left of it.
                guard volume.isEncrypted else { return false }
                guard leavesKey else {
                    try await backend.keys.delete(volume.encryptionKeyID, for: .volume(volume.id))
                    return false
                }
                guard let why = await backend.keys.deleteNow(volume.encryptionKeyID, for: .volume(volume.id)) else { return false }
                backend.warn("the volume \(volume.id) goes before its key: \(why)", .deleteVolume)
                return true
            },
            record: { run, hasKey, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                if hasKey == true { try DeleteKey.begin(volume.encryptionKeyID, of: volume.value, for: run.operation, in: tx) }
                try Volumes.erase(volume, in: tx)
            })
    }

    fileprivate static func giveUp<Flow: FlowDefinition>(
        _ run: FlowRun<Flow>, _ failure: StepFailure, in tx: any Transaction
    ) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        let isBusy = failure.code == .busy
        for snapshot in try Snapshots.lockAll(of: volume, in: tx) where snapshot.status == .deleting {
            try Snapshots.setStatus(isBusy ? .available : .errorDeleting, of: snapshot, in: tx)
        }
        try Volumes.setStatus(isBusy ? volume.previousStatus ?? .available : .errorDeleting, of: volume, in: tx)
        try run.addUserMessage(
            .deleteVolume, isBusy ? .volumeBusy : OperationKeys.isAtFault(failure) ? .keyMissing : .volumeNotDeleted, in: tx)
        return .finished
    }
}

/// The same as an administrator forces it: the volume waits for no key manager.
enum ForceDeleteVolume: FlowDefinition {
    typealias Arguments = ForceDeleteVolumeArguments

    static let steps: [Step<Self>] = [DeleteVolume.removalOfSnapshots(), DeleteVolume.removal(leavesKey: true)]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try DeleteVolume.giveUp(run, failure, in: tx)
    }
}

/// As the releases before snapshots wrote it into the log.
enum DeleteVolumeWithoutSnapshots: FlowDefinition {
    typealias Arguments = DeleteVolumeArguments

    static let id = FlowID(DeleteVolumeArguments.flow.name, version: 1)
    static let steps: [Step<Self>] = [DeleteVolume.removal()]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try DeleteVolume.giveUp(run, failure, in: tx)
    }
}
