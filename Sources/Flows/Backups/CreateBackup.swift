import BlockStorage
import Database
import DriverHost
import JSON
import Logging
import Transfers

/// Makes a backup of a volume, by a snapshot that is read in its place, or of a snapshot. An increment asks the volume's driver what
/// changed since the snapshot of its parent, and reads that alone.
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
                let parent = chain.dropLast().last
                let store = try services.stores.store(for: backup, parent: parent, zone: run.arguments.zone)
                // Increments are in the format of what they rest on.
                let format = chain.first?.format ?? store.format
                let names = try store.objectNames(of: backup, after: parent, format: format, container: run.arguments.container)
                var place = Backups.Place(store: store.name, format: format, service: store.service, host: store.host)
                if store.keepsImages(format: format), try await run.isVolumeInCeph(backup, services) {
                    place.snapshotName = BackupNames.snapshotOfImage(id: backup.id, createdAt: backup.createdAt)
                }
                place.zone = store.zone
                place.container = names.container
                place.serviceMetadata = names.prefix
                return Chosen(place: place, keyID: try await copyKey(for: backup, run, services))
            },
            record: { run, chosen, tx in
                guard let backup = try Backups.lock(run.operation.resourceID, in: tx) else { return }
                try Backups.place(backup, at: chosen.place, in: tx)
                if let key = chosen.keyID { try Backups.setEncryptionKey(key, of: backup, in: tx) }
            },
            undo: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                // The volume may be gone by now.
                let volume = try await run.read { try Volumes.find(backup.volumeID, in: $0) }
                guard backup.encryptionKeyID != nil || volume?.encryptionKeyID != nil else { return }
                try await OperationKeys(services).delete(backup.encryptionKeyID, for: .backup(backup.id))
            },
            recordUndo: { run, tx in
                guard let backup = try Backups.lock(run.operation.resourceID, in: tx), backup.encryptionKeyID != nil else { return }
                try Backups.setEncryptionKey(nil, of: backup, in: tx)
            }),
        .onStore(
            "snapshot",
            perform: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                guard let snapshot = run.driverArguments(snapshotOf: backup) else { return Source.existing }
                let volume = try await run.volume(backup.volumeID)
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                do {
                    let output = try await OperationBackend(at: host, run.operation, services).call(
                        .createSnapshot, .members(["volume": run.driverArguments(volume), "snapshot": snapshot]))
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
                case .volume: try Backups.forgetSnapshot(of: backup, in: tx)
                case .existing: if let volume { try Operations.release(volume.id, of: run.operation, in: tx) }
                case .snapshot(let data):
                    run.state.hasSnapshot = true
                    run.state.snapshotData = data
                    try Backups.snapshotMade(backup, data: data, in: tx)
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
                order.backup.record = try KeptBackup.record(backup).text
                // What cannot be read from them is stored anew.
                order.damagedParts = try await run.read { try Backups.lostParts(of: chain.dropLast(), in: $0) }
                if store.store.keepsImages(format: order.format) {
                    order.newer = try await run.read { try Backups.newerRelatives(of: chain, in: $0).map(\.id) }
                }
                order.neighbours = try await run.read { try Backups.neighbours(of: backup, in: $0) }
                order.volumeMetadata = try await run.read { try BackedUpVolume.describe(volume, keyID: backup.encryptionKeyID, in: $0) }
                if try OperationBackend(at: host, run.operation, services).keepsBackupSnapshots {
                    order.keepsSnapshot = run.state.hasSnapshot
                    if let parent = chain.dropLast().last, run.isDriverTrusted(since: parent) {
                        switch try await run.base(of: backup, after: parent) {
                        case .snapshot(let base): order.base = base
                        case .namedInStore: order.asksBySnapshotName = true
                        case nil: break
                        }
                    }
                }
                let limit = try await run.read { try BackupPolicies.bytesPerSecond(of: backup, in: $0) }
                let parent = backup.parentID
                let output = try await store.run(
                    order, isRestore: false, with: source(of: backup, volume, run), at: host, bytesPerSecond: limit,
                    onMissedChange: { Task { await run.distrustChanges(since: parent) } })
                try await BackupVerdict(lostSnapshots: output).markUsers(of: backup.projectID, in: services.database)
                services.log.info(
                    "backed up",
                    metadata: [
                        "backup": "\(backup.id)", "bytes_read": "\(output["read"]?.integer ?? 0)",
                        "bytes_stored": "\(output["stored"]?.integer ?? 0)", "seconds": "\(output["seconds"]?.real ?? 0)",
                        "operation_id": "\(run.operation.id)", "request_id": "\(run.operation.requestID)",
                    ])
                // What the driver was asked for, and told.
                let inherits = (order.base != nil || order.asksBySnapshotName) && output["read_all"]?.boolean != true
                return output.adding("inherits", .boolean(inherits))
            },
            record: { run, output, tx in try recordWritten(run, output, in: tx) },
            undo: { run, services in
                let backup = try await run.backup(run.operation.resourceID)
                let store = try OperationStore(of: backup, run.operation, services)
                try await store.remove(store.order(run.chain(backup.id)))
            }),
    ]

    private struct Chosen: Sendable {
        let place: Backups.Place
        let keyID: String?
    }

    /// A copy of the volume's key, which outlives the volume as the backup does; nil where nothing is encrypted.
    private static func copyKey(for backup: Backup, _ run: FlowRun<Self>, _ services: FlowServices) async throws -> String? {
        let volume = try await run.volume(backup.volumeID)
        guard let key = volume.encryptionKeyID else { return nil }
        return try await OperationKeys(services).copy(key, for: .backup(backup.id), userID: backup.userID)
    }

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
        guard run.state.hasSnapshot, let snapshot = run.driverArguments(snapshotOf: backup) else {
            return .members(["volume": try await run.driverArguments(volume)])
        }
        return .members(["volume": try await run.driverArguments(volume), "snapshot": snapshot])
    }

    private static func recordWritten(_ run: FlowRun<Self>, _ output: DriverValue, in tx: any Transaction) throws {
        // What a driver that omitted a change would say next is not asked for.
        let isTrusted = output["missed_change"] == nil
        let isKept = output["tells_changes"]?.boolean == true && isTrusted
        let count = output["objects"]?.integer.flatMap { Int(exactly: $0) } ?? 0
        let inherits = output["inherits"]?.boolean == true && isTrusted
        try finish(run, isKept ? .kept : .removed, isTrusted: isTrusted, in: tx) {
            try Backups.made($0, objectCount: count, inherits: inherits, in: tx)
        }
        let data: JSONObject = [
            "bytes_read": .integer(output["read"]?.integer ?? 0), "bytes_stored": .integer(output["stored"]?.integer ?? 0),
        ]
        try Events.append(
            "backup.written", resourceType: "backup", resourceID: run.operation.resourceID, projectID: run.operation.projectID,
            operationID: run.operation.id, requestID: run.operation.requestID, data: data, in: tx)
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        // A driver without snapshots has made none.
        let hasNone = failure.step == "snapshot" && failure.code == .unsupported
        try finish(run, hasNone ? .none : .removed, in: tx) { backup in
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

    /// What becomes of the snapshot that was made to be read.
    private enum SnapshotEnd {
        case kept, removed
        /// There never was one.
        case none
    }

    /// Sets the backup's last state; what was read for it is as it was before. The snapshot that was made for it is kept for the next
    /// increment, or goes; so do those that no increment needs any more.
    ///
    /// - Parameter isTrusted: the driver told of all changes, as far as is known.
    private static func finish(
        _ run: FlowRun<Self>, _ snapshotEnd: SnapshotEnd, isTrusted: Bool = true, in tx: any Transaction,
        _ end: (Locked<Backup>) throws -> Void
    ) throws {
        guard let found = try Backups.find(run.operation.resourceID, in: tx) else { return }
        let volume = try Volumes.lock(found.volumeID, in: tx)
        if let id = found.snapshotID, let snapshot = try Snapshots.lock(id, in: tx), snapshot.status == .backingUp {
            try Snapshots.setStatus(.available, of: snapshot, in: tx)
        }
        let others = try Backups.withSnapshots(ofVolume: found.volumeID, in: tx).map(\.id)
        let locked = try Set(others + [found.id] + (isTrusted ? [] : [found.parentID].compactMap { $0 })).sorted().compactMap {
            try Backups.lock($0, in: tx)
        }
        guard let backup = locked.first(where: { $0.id == found.id }) else { return }
        try end(backup)
        if !isTrusted {
            for backup in locked where backup.id == found.id || backup.id == found.parentID {
                try Backups.distrustChanges(since: backup, in: tx)
            }
        }
        guard let volume, snapshotEnd != .none else { return try Backups.forgetSnapshot(of: backup, in: tx) }
        var ended = Set(try Backups.withUnneededSnapshots(ofVolume: volume.id, besides: run.operation, in: tx).map(\.id))
        if try snapshotEnd != .kept || !Backups.isBase(backup.value, in: tx) { ended.insert(backup.id) }
        for backup in locked where ended.contains(backup.id) {
            try Backups.removeSnapshot(of: backup, volume, caller: run.operation.caller, in: tx)
        }
    }
}
