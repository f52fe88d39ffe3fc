import BlockStorage
import Database
import DriverHost
import JSON

/// Places a new volume and makes it: empty, as a clone, or of a snapshot.
enum CreateVolume: FlowDefinition {
    typealias Arguments = CreateVolumeArguments
    typealias State = CreateVolumeState

    static let cancellation = Cancellation.byProject
    static let steps: [Step<Self>] = [
        .place(
            "place",
            prepare: { run, pools in
                await pools.waitForReports(run)
                return await pools.scheduler.instance(run.arguments.schedulerHints)
            },
            record: { run, pools, instance, tx in try run.placeNewVolume(as: run.arguments, instance, pools, in: tx) },
            recordUndo: { run, tx in try run.takeBackPlacement(in: tx) }),
        .onVolume(
            "make",
            perform: { run, volume, backend in
                let key = try await makeKey(for: volume, backend, run)
                return Made(object: CreatedObject(try await make(volume, key, backend, run), on: backend), keyID: key?.id)
            },
            record: { run, made, tx in
                if let made {
                    let volume = try run.volume(in: tx)
                    try run.markCreated(volume, made.object, in: tx)
                    if let key = made.keyID { try Volumes.setEncryptionKey(key, of: volume, in: tx) }
                }
                run.state.copied = nil
            },
            undo: { run, volume, backend in
                _ = try await backend.call(.deleteVolume, .members(["volume": run.driverArguments(volume)]), wait: 5)
                if volume.isOfEncryptedType { try await backend.keys.delete(nil, for: .volume(volume.id)) }
            },
            recordUndo: { run, _ in run.state.copied = nil }),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        let isPlacement = failure.step == "place"
        // Worth another backend unless the volume's own request is at fault.
        if failure.isUndone, !isPlacement, failure.code != .invalid, run.state.attempted.count < run.settings.placementAttempts {
            return .retry
        }
        try Volumes.setStatus(.error, of: volume, in: tx)
        if isPlacement {
            try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        } else {
            try run.addUserMessage(.createVolume, OperationKeys.isAtFault(failure) ? .keyMissing : .createFailed, in: tx)
        }
        return .finished
    }

    private struct Made: Sendable {
        let object: CreatedObject
        let keyID: String?
    }

    private struct Key: Sendable {
        let id: String
        let encryption: TypeEncryption
    }

    /// The key of a volume that is to be encrypted, before anything of it is stored.
    private static func makeKey(for volume: Volume, _ backend: OperationBackend, _ run: FlowRun<Self>) async throws -> Key? {
        guard volume.isOfEncryptedType else { return nil }
        let (encryption, origin) = try await run.read { connection in
            let snapshot = try volume.snapshotID.flatMap { try Snapshots.find($0, in: connection) }
            let source = try (volume.sourceVolumeID ?? snapshot?.volumeID).flatMap { try Volumes.find($0, in: connection) }
            return (try TypeEncryptions.find(ofType: volume.volumeTypeID, in: connection), source)
        }
        try backend.requireEncrypted(from: origin?.host)
        guard let encryption else { throw DriverFailure(.invalid, "its type does not say how the volume is encrypted") }
        guard origin == nil || origin?.encryptionKeyID != nil else { throw DriverFailure(.invalid, "what it is made of has no key") }
        let id = try await backend.keys.make(for: volume, encryption, origin: origin?.encryptionKeyID)
        return Key(id: id, encryption: encryption)
    }

    private static func make(_ volume: Volume, _ key: Key?, _ backend: OperationBackend, _ run: FlowRun<Self>) async throws -> DriverValue {
        let object = try await run.driverArguments(new: volume)
        if let snapshotID = volume.snapshotID {
            let (snapshot, origin) = try await run.read { connection in
                let snapshot = try Snapshots.find(snapshotID, in: connection)
                return (snapshot, try snapshot.flatMap { try Volumes.find($0.volumeID, in: connection) })
            }
            guard let snapshot, let origin else { throw StorageError.snapshotNotFound(snapshotID) }
            guard volume.backend == origin.backend else { return try await copy(snapshot, of: origin, to: volume, object, backend, run) }
            return try await backend.call(
                .createVolumeFromSnapshot,
                .members(["volume": object, "snapshot": run.driverArguments(snapshot), "source": run.driverArguments(origin)]))
        }
        guard let sourceID = volume.sourceVolumeID else {
            let created = try await backend.call(.createVolume, .members(["volume": object]))
            if let key {
                let target = run.driverArguments(
                    volume, as: volume.id, host: volume.host ?? "", data: created["data"]?.string, isConnected: false)
                try await backend.prepare(target, for: key.encryption, keyID: key.id)
            }
            return created
        }
        let source = try await run.volume(sourceID)
        return try await backend.call(.cloneVolume, .members(["volume": object, "source": run.driverArguments(source)]))
    }

    /// A snapshot's content on another backend: an empty volume, and its bytes.
    private static func copy(
        _ snapshot: Snapshot, of origin: Volume, to volume: Volume, _ object: DriverValue, _ backend: OperationBackend, _ run: FlowRun<Self>
    ) async throws -> DriverValue {
        let created = try await backend.call(.createVolume, .members(["volume": object]))
        guard let host = origin.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
        let target = run.driverArguments(
            volume, as: volume.id, host: volume.host ?? "", data: created["data"]?.string, isConnected: false)
        try await backend.copy(
            .members(["volume": run.driverArguments(origin), "snapshot": run.driverArguments(snapshot)]), at: host,
            to: .members(["volume": target]), for: run)
        return created
    }
}
