import BlockStorage
import Database

/// Gives a volume another place.
enum MigrateVolume: FlowDefinition {
    typealias Arguments = MigrateVolumeArguments
    typealias State = MoveState

    // An administrator moves a volume, for a backend that is drained perhaps: the volume's project may not stop it.
    static let cancellation = Cancellation.byAdministrators
    static let steps: [Step<Self>] =
        [
            .place(
                "place",
                prepare: { run, pools in await pools.waitForReports(run) },
                record: { run, pools, _, tx in
                    let volume = try run.volume(in: tx)
                    let type = try VolumeTypes.get(volume.volumeTypeID, in: tx)
                    try requireUnconnected(volume.value, in: tx)
                    var request = PlacementRequest(
                        volumeID: volume.id, size: volume.size, zones: [], extraSpecs: type.extraSpecs,
                        requiredBackend: run.arguments.host, attempted: [])
                    request.qosSpecs = try QoSSpecs.of(type, in: tx)?.specs ?? [:]
                    MoveSteps.claim(try pools.place(request, volume, in: tx), &run)
                    try Volumes.setMigrationStatus(.migrating, of: volume, in: tx)
                }, recordUndo: MoveSteps.recordRelease)
        ]
        + MoveSteps.all { _, volume, tx in
            try unlock(volume, in: tx)
            try Volumes.setMigrationStatus(.success, of: volume, in: tx)
        }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        try MoveSteps.giveUp(&run, volume, failure, in: tx)
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        try unlock(volume, in: tx)
        try Volumes.setMigrationStatus(.error, of: volume, in: tx)
        try run.addUserMessage(failure, in: tx)
        return .finished
    }

    /// Lets others use a volume that was locked for its migration.
    private static func unlock(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        if volume.status == .maintenance { try Volumes.setStatus(volume.previousStatus ?? .available, of: volume, in: tx) }
    }
}
