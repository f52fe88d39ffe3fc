import BlockStorage
import Database
import DriverHost

/// Makes a volume larger.
enum ExtendVolume: FlowDefinition {
    typealias Arguments = ExtendVolumeArguments
    typealias State = ExtendVolumeState

    private static let claim = "claim capacity"

    static let steps: [Step<Self>] = [
        .place(
            claim,
            prepare: { run, pools in await pools.waitForReports(run) },
            record: { run, pools, _, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx), let host = volume.host else {
                    throw StorageError.volumeNotFound(run.volumeID)
                }
                let growth = run.arguments.newSize - volume.size
                var request = PlacementRequest(
                    volumeID: volume.id, size: growth, zones: [], extraSpecs: [:], requiredBackend: nil, attempted: [], currentHost: host)
                request.growsAttached = run.arguments.isAttached
                let placement = pools.scheduler.place(request, among: try pools.pools(in: tx))
                _ = try pools.claim(placement, gigabytes: growth, volumes: 0, in: tx)
                run.state.claimed = growth
            },
            recordUndo: { run, tx in
                guard let claimed = run.state.claimed, let host = try Volumes.lock(run.volumeID, in: tx)?.value.host else { return }
                try Pools.add(host, gigabytes: -claimed, volumes: 0, in: tx)
                run.state.claimed = nil
            }),
        .onVolume(
            "grow",
            perform: { run, volume, backend in
                var isAttached = run.arguments.isAttached
                if !isAttached { isAttached = try await run.isConnected(volume) }
                let arguments = DriverValue.members([
                    "volume": try await run.driverArguments(volume), "new_size": .integer(Int64(run.arguments.newSize)),
                    "attached": .boolean(isAttached),
                ])
                do { return try await backend.call(.extendVolume, arguments) } catch let failure as DriverFailure
                    where failure.code == .busy || failure.code == .unsupported
                {
                    // Some drivers do not grow a volume with snapshots; of those of backups its user knows nothing.
                    guard try await run.read({ try Backups.hasSnapshots(besideVolume: volume.id, in: $0) }) else { throw failure }
                    try await run.dropBackupSnapshots(of: volume, on: backend)
                    return try await backend.call(.extendVolume, arguments)
                }
            },
            record: { run, output, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try Volumes.resize(volume, to: run.arguments.newSize, status: volume.previousStatus ?? .available, in: tx)
                try TellExtended.begin(after: run, in: tx)
                if let data = output?["data"]?.string { try Volumes.setDriverData(data, of: volume, in: tx) }
            }),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        let isPlacement = failure.step == claim
        try run.addUserMessage(.extendVolume, isPlacement ? .noBackend : .extendFailed, in: tx)
        let isUntouched = isPlacement || failure.code == .unsupported || failure.code == .busy
        try Volumes.setStatus(isUntouched ? volume.previousStatus ?? .available : .errorExtending, of: volume, in: tx)
        if volume.consumesQuota {
            try Quotas.add(
                Charge(gigabytes: volume.size - run.arguments.newSize), type: volume.typeName, project: volume.projectID, in: tx)
        }
        return .finished
    }
}
