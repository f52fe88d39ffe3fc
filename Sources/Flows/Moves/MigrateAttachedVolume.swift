import BlockStorage
import Database
import DriverHost

/// Gives a volume that an instance uses another place: a copy is made there, to which the Compute service moves the instance. What it then
/// says of it is `FinishMigration`'s; between the two no operation holds the volume, for the Compute service attaches and detaches.
enum MigrateAttachedVolume: FlowDefinition {
    typealias Arguments = MigrateAttachedVolumeArguments
    typealias State = MigrateAttachedVolumeState

    static let steps: [Step<Self>] =
        [
            .place(
                "place",
                prepare: { run, pools in await pools.waitForReports(run) },
                record: { run, pools, _, tx in
                    let volume = try run.volume(in: tx)
                    let type = try VolumeTypes.get(volume.volumeTypeID, in: tx)
                    var request = PlacementRequest(
                        volumeID: volume.id, size: volume.size, zones: [], extraSpecs: type.extraSpecs,
                        requiredBackend: run.arguments.host, attempted: [])
                    request.qosSpecs = try QoSSpecs.of(type, in: tx)?.specs ?? [:]
                    try SwapSteps.begin(run, volume, type, at: try pools.place(request, volume, in: tx), in: tx)
                }, recordUndo: { _, _ in })
        ] + SwapSteps.all

    /// The volume stays where it is, and in use.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try SwapSteps.giveUp(run, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        try Volumes.setMigrationStatus(.error, of: volume, in: tx)
        try SwapSteps.addUserMessage(run, failure, in: tx)
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
                    run.volumeID, copy: arguments.copyID, hasFailed: arguments.hasFailed,
                    chargesGigabytes: run.settings.snapshotsChargeGigabytes, requestID: run.operation.requestID, in: tx)
                if arguments.hasFailed { try run.addUserMessage(.migrateVolume, .instanceNotMoved, in: tx) }
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
