import BlockStorage
import Database
import DriverHost
import JSON

/// Makes a backup of a volume, by a snapshot that is read in its place, or of a snapshot.
enum CreateBackup: FlowDefinition {
    typealias Arguments = CreateBackupArguments
    typealias State = CreateBackupState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        // Where its objects lie is known before there are any.
        .onStore(
            "choose",
            perform: { run, services in
                let chain = try await run.chain(run.operation.resourceID)
                guard let backup = chain.last else { throw StorageError.backupNotFound(run.operation.resourceID) }
                let store = try services.stores.store(for: backup, parent: chain.dropLast().last, zone: run.arguments.zone)
                let names = store.objectNames(of: backup, container: run.arguments.container)
                // Increments are in the format of what they rest on.
                var place = Backups.Place(
                    store: store.name, format: chain.first?.format ?? store.format, service: store.service, host: store.host)
                place.zone = store.zone
                place.container = names.container
                place.serviceMetadata = names.prefix
                return place
            },
            record: { run, place, tx in
                if let backup = try Backups.lock(run.operation.resourceID, in: tx) { try Backups.place(backup, at: place, in: tx) }
            }),
        .onStore(
            "snapshot",
            perform: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                guard let id = backup.temporarySnapshotID else { return Source.existing }
                let volume = try await run.volume(backup.volumeID)
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                do {
                    let output = try await OperationBackend(at: host, run.operation, services).call(
                        .createSnapshot, run.driverArguments(temporarySnapshot: id, of: volume, data: nil))
                    return .snapshot(data: output["data"]?.string)
                } catch let failure as DriverFailure where failure.code == .unsupported {
                    // Read in place, while nobody may write to it.
                    try await run.read { try requireUnconnected(volume, in: $0) }
                    guard volume.status != .inUse else { throw failure }
                    return .volume
                }
            },
            record: { run, source, tx in
                guard let found = try Backups.find(run.operation.resourceID, in: tx) else { return }
                let volume = try Volumes.lock(found.volumeID, in: tx)
                guard let backup = try Backups.lock(found.id, in: tx) else { return }
                switch source {
                case .volume: try Backups.setTemporarySnapshot(nil, of: backup, in: tx)
                case .existing: if let volume { try Operations.release(volume.id, of: run.operation, in: tx) }
                case .snapshot(let data):
                    run.state.hasSnapshot = true
                    run.state.snapshotData = data
                    // Whatever the volume is used for now, it is not read any more.
                    if let volume { try Operations.release(volume.id, of: run.operation, in: tx) }
                }
            }),
        .onStore(
            "write",
            perform: { run, services in
                let chain = try await run.chain(run.operation.resourceID)
                guard let backup = chain.last else { throw StorageError.backupNotFound(run.operation.resourceID) }
                let volume = try await run.volume(backup.volumeID)
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                let store = try OperationStore(of: backup, run.operation, services)
                var order = try store.order(chain)
                order.volumeMetadata = try await run.read { try BackedUpVolume.describe(volume, in: $0) }
                return try await store.run(order, isRestore: false, with: source(of: backup, volume, run), at: host)
            },
            record: { run, output, tx in
                try finish(run, in: tx) {
                    try Backups.made($0, objectCount: output["objects"]?.integer.flatMap { Int(exactly: $0) } ?? 0, in: tx)
                }
            },
            undo: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                let store = try OperationStore(of: backup, run.operation, services)
                try await store.remove(store.order(run.chain(backup.id)))
            }),
    ]

    /// What is read.
    private enum Source: Sendable {
        /// The snapshot that the user named.
        case existing
        case snapshot(data: String?)
        case volume
    }

    private static func source(of backup: Backup, _ volume: Volume, _ run: FlowRun<Self>) async throws -> DriverValue {
        if let id = backup.snapshotID {
            guard let snapshot = try await run.read({ try Snapshots.find(id, in: $0) }) else { throw StorageError.snapshotNotFound(id) }
            return .members(["volume": try await run.driverArguments(volume), "snapshot": run.driverArguments(snapshot)])
        }
        guard run.state.hasSnapshot, let id = backup.temporarySnapshotID else {
            return .members(["volume": try await run.driverArguments(volume)])
        }
        return try await run.driverArguments(temporarySnapshot: id, of: volume, data: run.state.snapshotData)
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        // A driver without snapshots has made none.
        let hasNone = failure.step == "snapshot" && failure.code == .unsupported
        try finish(run, removesSnapshot: !hasNone, in: tx) { backup in
            // Somebody may have set it to be deleted meanwhile.
            guard backup.status == .creating else { return }
            try Backups.setStatus(.error, of: backup, failReason: failure.message, in: tx)
        }
        let detail: Message.Detail =
            switch failure.step {
            case "choose": .backupNotScheduled
            case "snapshot": .backupSourceFailed
            default: .backupFailed
            }
        try run.addBackupMessage(run.operation.resourceID, .createBackup, detail, in: tx)
        return .finished
    }

    /// Sets the backup's last state; what was read for it is as it was before, and the snapshot that was made for it goes.
    private static func finish(
        _ run: FlowRun<Self>, removesSnapshot: Bool = true, in tx: any Transaction, _ end: (Locked<Backup>) throws -> Void
    ) throws {
        guard let found = try Backups.find(run.operation.resourceID, in: tx) else { return }
        let volume = try Volumes.lock(found.volumeID, in: tx)
        if let id = found.snapshotID, let snapshot = try Snapshots.lock(id, in: tx), snapshot.status == .backingUp {
            try Snapshots.setStatus(.available, of: snapshot, in: tx)
        }
        guard let backup = try Backups.lock(found.id, in: tx) else { return }
        try end(backup)
        guard let id = backup.temporarySnapshotID else { return }
        guard let volume, removesSnapshot else { return try Backups.setTemporarySnapshot(nil, of: backup, in: tx) }
        _ = try Operations.create(
            RemoveBackupSnapshotArguments(volumeID: volume.id, snapshotID: id, data: run.state.snapshotData), resourceType: "backup",
            resourceID: backup.id, projectID: backup.projectID, caller: run.operation.caller,
            claims: [.exclusive(new: id), .shared(volume)], in: tx)
    }
}
