import BlockStorage
import Database
import DriverHost
import JSON

/// Sends the bytes of a volume that may be in use to an image that the request has made: those that a snapshot holds, which nobody changes
/// while they are sent. Of a driver without snapshots the volume itself is read, whoever writes to it, as Cinder does.
///
/// The snapshot is noted before it is made (`BackupSnapshotRemovals`), so that it goes whatever becomes of the operation.
enum UploadAttachedVolume: FlowDefinition {
    typealias Arguments = UploadAttachedVolumeArguments

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .onStore(
            "send",
            perform: { run, services in
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                var source = DriverValue.members(["volume": try await run.driverArguments(volume)])
                // The claim keeps everybody away who would connect to it now.
                if let snapshot = try await makeSnapshot(of: volume, at: host, run, services) {
                    source = source.adding("snapshot", snapshot)
                }
                try await run.giveKey(of: volume, toImage: run.arguments.imageID, services)
                try await OperationImages(run.operation, services).store(
                    source, gibibytes: volume.size, at: host, to: run.arguments.imageID, diskFormat: run.arguments.diskFormat,
                    containerFormat: run.arguments.containerFormat)
            },
            record: { run, _, tx in try finish(run, in: tx) },
            undo: { run, services in try await run.takeBackImage(run.arguments.imageID, services) })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try finish(run, in: tx)
        try run.addUserMessage(.uploadVolume, .uploadFailed, in: tx)
        return .finished
    }

    /// What the driver is told of the snapshot that is read in the volume's place; nil where it makes none, or nobody is connected.
    private static func makeSnapshot(of volume: Volume, at host: String, _ run: FlowRun<Self>, _ services: FlowServices) async throws
        -> DriverValue?
    {
        let (id, operation) = (run.arguments.snapshotID, run.operation)
        let known = try await run.read { try BackupSnapshotRemovals.find(id, in: $0) }
        // Once it was begun the volume may be anybody's.
        let isConnected = try await run.isConnected(volume)
        guard known != nil || isConnected else { return nil }
        let imageID = run.arguments.imageID
        func note(_ data: String?, letsVolumeGo: Bool) async throws {
            try await run.recordPart { tx in
                guard let volume = try Volumes.lock(volume.id, in: tx) else { throw StorageError.volumeNotFound(volume.id) }
                try BackupSnapshotRemovals.note(id, of: volume, readFor: imageID, data: data, in: tx)
                // Who lets go of the volume need not wait for the end.
                if letsVolumeGo { try Operations.release(volume.id, of: operation, in: tx) }
            }
        }
        if known == nil { try await note(nil, letsVolumeGo: false) }
        do {
            let made = try await OperationBackend(at: host, operation, services).call(
                .createSnapshot,
                .members([
                    "volume": run.driverArguments(volume),
                    "snapshot": run.driverArguments(snapshot: id, size: volume.size, data: known?.data),
                ]))
            let data = made["data"]?.string
            try await note(data, letsVolumeGo: true)
            return run.driverArguments(snapshot: id, size: volume.size, data: data)
        } catch let failure as DriverFailure where failure.code == .unsupported {
            try await run.recordPart { tx in
                _ = try Volumes.lock(volume.id, in: tx)
                try BackupSnapshotRemovals.finished(id, in: tx)
            }
            return nil
        }
    }

    /// The volume was only read: its state is that of its attachments, some of which may have ended meanwhile.
    private static func finish(_ run: FlowRun<Self>, in tx: any Transaction) throws {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
        if volume.status == .uploading { try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx) }
        try BackupSnapshotRemovals.begin(run.arguments.snapshotID, of: volume, caller: run.operation.caller, in: tx)
    }
}
