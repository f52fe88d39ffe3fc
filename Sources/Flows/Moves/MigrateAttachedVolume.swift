import BlockStorage
import Database
import DriverHost

/// Gives a volume that an instance uses another place: a copy is made there, to which the Compute service moves the instance. What it then
/// says of it is `FinishMigration`'s; between the two no operation holds the volume, for the Compute service attaches and detaches.
enum MigrateAttachedVolume: FlowDefinition {
    typealias Arguments = MigrateAttachedVolumeArguments
    typealias State = MigrateAttachedVolumeState

    private static let ask = "ask"

    static let steps: [Step<Self>] = [
        .place(
            "place",
            prepare: { run, pools in await pools.waitForReports(run) },
            record: { run, pools, _, tx in
                let volume = try run.volume(in: tx)
                let type = try VolumeTypes.get(volume.volumeTypeID, in: tx)
                var request = PlacementRequest(
                    volumeID: volume.id, size: volume.size, zones: [], extraSpecs: type.extraSpecs, requiredBackend: run.arguments.host,
                    attempted: [])
                request.qosSpecs = try QoSSpecs.of(type, in: tx)?.specs ?? [:]
                let pool = try pools.place(request, volume, in: tx)
                try AttachedMigration.insertCopy(
                    run.arguments.copyID, of: volume, host: pool.host,
                    serviceID: Services.id(ofBackend: HostName.backend(of: pool.host), in: tx), zone: pool.zone, in: tx)
                try Volumes.setMigrationStatus(.migrating, of: volume, in: tx)
            }, recordUndo: { _, _ in }),
        .onBackend(
            "make", host: { try await $0.volume($0.arguments.copyID).host },
            perform: { run, backend in
                let (volume, copy) = (try await run.volume(), try await run.volume(run.arguments.copyID))
                // They stay behind, where the old object could not be removed with them.
                if let host = volume.host { try await run.dropBackupSnapshots(of: volume, on: backend.other(at: host)) }
                return CreatedObject(
                    try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: copy)])), on: backend)
            },
            record: { run, created, tx in
                if let created, let copy = try Volumes.lock(run.arguments.copyID, in: tx) { try run.markCreated(copy, created, in: tx) }
            }),
        .onStore(
            ask,
            perform: { run, services in
                let (id, copy) = (run.volumeID, run.arguments.copyID)
                // The Compute service attaches the copy before it answers: it heard before this process, or the one before it, knew.
                func hasHeard() async throws -> Bool { try await run.read { try !Attachments.ofVolume(copy, in: $0).isEmpty } }
                guard try await !hasHeard() else { return }
                switch try await services.requireCompute().swap(id, for: copy, ofInstance: run.arguments.instanceID) {
                case .accepted: return
                // What it refuses may be the repetition of a request that it took, whose answer was lost on the way.
                case .refused(let why), .unknown(let why): guard try await hasHeard() else { throw DriverFailure(.error, why) }
                }
            }, record: { _, _, _ in }),
    ]

    /// The volume stays where it is, and in use. Where the Compute service hears of the copy only now, it finds it being deleted.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        let locked = try AttachedMigration.lock(run.volumeID, copy: run.arguments.copyID, in: tx)
        if let copy = locked.copy {
            // The Compute service heard of it late, and works with it: it says how that ends.
            guard try Attachments.ofVolume(copy.id, in: tx).isEmpty else { return .finished }
            try AttachedMigration.discard(copy, requestID: run.operation.requestID, in: tx)
        }
        guard let volume = locked.volume else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        try Volumes.setMigrationStatus(.error, of: volume, in: tx)
        switch failure.step {
        case "place": try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        case ask: try run.addUserMessage(.migrateVolume, .instanceNotMoved, in: tx)
        default: try run.addUserMessage(.createVolume, .createFailed, in: tx)
        }
        return .finished
    }
}

/// Ends the migration of a volume that an instance uses, as the Compute service says. What the volume left, or was not moved to, goes by
/// an operation of its own.
enum FinishMigration: FlowDefinition {
    typealias Arguments = FinishMigrationArguments

    static let isAwaited = true
    static let steps: [Step<Self>] = [
        .onStore(
            "exchange", perform: { _, _ in },
            record: { run, _, tx in
                let arguments = run.arguments
                try AttachedMigration.finish(
                    run.volumeID, copy: arguments.copyID, hasFailed: arguments.hasFailed, requestID: run.operation.requestID, in: tx)
                if arguments.hasFailed { try run.addUserMessage(.migrateVolume, .instanceNotMoved, in: tx) }
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
