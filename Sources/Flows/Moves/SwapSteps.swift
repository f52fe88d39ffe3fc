import BlockStorage
import Database
import DriverHost

/// What flows share that have the Compute service move an instance to a copy of its volume. Without a copy there is nothing to do for them.
enum SwapSteps<Flow: FlowDefinition> where Flow.Arguments: SwapArguments {
    typealias Run = FlowRun<Flow>

    private static var make: String { "make" }
    private static var ask: String { "ask" }

    /// The volume is to go to a copy of that type, in a pool of which the capacity is claimed.
    static func begin(_ run: Run, _ volume: Locked<Volume>, _ type: VolumeType, at pool: PoolState, in tx: any Transaction) throws {
        try AttachedMigration.insertCopy(
            run.arguments.copyID, of: volume, type: type, host: pool.host,
            serviceID: Services.id(ofBackend: HostName.backend(of: pool.host), in: tx), zone: pool.zone, in: tx)
        try Volumes.setMigrationStatus(.migrating, of: volume, in: tx)
    }

    /// The steps after a pool was chosen.
    static var all: [Step<Flow>] {
        [
            .onBackend(
                make, host: { run in try await run.read { try Volumes.find(run.arguments.copyID, in: $0) }?.host },
                perform: { run, backend in
                    let (volume, copy) = (try await run.volume(), try await run.volume(run.arguments.copyID))
                    // They stay behind, where the old object could not be removed with them.
                    if let host = volume.host { try await run.dropBackupSnapshots(of: volume, on: backend.other(at: host)) }
                    return CreatedObject(
                        try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: copy)])), on: backend)
                },
                record: { run, created, tx in
                    if let created, let copy = try Volumes.lock(run.arguments.copyID, in: tx) {
                        try run.markCreated(copy, created, in: tx)
                    }
                }),
            .onStore(
                ask,
                perform: { run, services in
                    let (id, copy, instance) = (run.volumeID, run.arguments.copyID, run.arguments.instanceID)
                    guard try await run.read({ try Volumes.find(copy, in: $0) }) != nil else { return }
                    // It may have heard before this process, or the one before it, knew.
                    func hasHeard() async throws -> Bool {
                        try await run.read { try AttachedMigration.hasBegun(copy, instance: instance, in: $0) }
                    }
                    guard try await !hasHeard() else { return }
                    switch try await services.requireCompute().swap(id, for: copy, ofInstance: instance) {
                    case .accepted: return
                    // What it refuses may be the repetition of a request that it took, whose answer was lost on the way.
                    case .refused(let why), .unknown(let why): guard try await hasHeard() else { throw DriverFailure(.error, why) }
                    }
                }, record: { _, _, _ in }),
        ]
    }

    /// Lets the copy go; the volume, whose last states the caller sets. nil: there is none, or the Compute service heard of the copy late and
    /// works with it: it says how that ends. Where it hears only now, it finds the copy being deleted.
    static func giveUp(_ run: Run, in tx: any Transaction) throws -> Locked<Volume>? {
        let locked = try AttachedMigration.lock(run.volumeID, copy: run.arguments.copyID, in: tx)
        if let copy = locked.copy {
            guard try !AttachedMigration.hasBegun(copy.id, instance: run.arguments.instanceID, in: tx) else { return nil }
            // Nothing is deleted that somebody writes to: it is left to an administrator.
            if try !HostConnections.isConnected(copy.id, in: tx) {
                try AttachedMigration.discard(copy, requestID: run.operation.requestID, in: tx)
            }
        }
        return locked.volume
    }

    /// Tells the user why the volume stayed as it was.
    static func addUserMessage(_ run: Run, _ failure: StepFailure, in tx: any Transaction) throws {
        switch failure.step {
        case make: try run.addUserMessage(.createVolume, .createFailed, in: tx)
        case ask: try run.addUserMessage(.migrateVolume, .instanceNotMoved, in: tx)
        default: try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        }
    }
}
