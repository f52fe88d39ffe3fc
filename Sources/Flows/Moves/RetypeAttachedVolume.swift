import BlockStorage
import Database

/// Gives a volume that one instance uses another type: at once where its pool fits that, else a copy of the type is made elsewhere, to which
/// the Compute service moves the instance. The volume has the new type when that is done: `FinishMigration` gives it.
enum RetypeAttachedVolume: FlowDefinition {
    typealias Arguments = RetypeAttachedVolumeArguments
    typealias State = MigrateAttachedVolumeState

    static let steps: [Step<Self>] =
        [
            .place(
                "place", prepare: { run, pools in await pools.waitForReports(run) },
                record: { run, pools, _, tx in try choose(run, pools, in: tx) }, recordUndo: { _, _ in })
        ] + SwapSteps.all + [.record("switch", setType)]

    private static func choose(_ run: FlowRun<Self>, _ pools: PoolChooser, in tx: any Transaction) throws {
        let volume = try run.volume(in: tx)
        let type = try VolumeTypes.get(run.arguments.typeID, in: tx)
        guard let request = try RetypePlacement.request(for: volume, type, pools, mayMigrate: true, in: tx) else { return }
        guard try AttachedMigration.isUsed(volume.value, byInstanceAlone: run.arguments.instanceID, in: tx) else {
            throw StorageError(.failed, "The volume would have to move, and its instance is not the only one to use it any more.")
        }
        try SwapSteps.begin(run, volume, type, at: try pools.place(request, volume, in: tx), in: tx)
    }

    /// Of what stays where it is the type changes here; what moves keeps its own, and is `retyping`, until it has moved.
    @Sendable private static func setType(_ run: inout FlowRun<Self>, _ tx: any Transaction) throws {
        let (volume, copy) = try AttachedMigration.lock(run.volumeID, copy: run.arguments.copyID, in: tx)
        guard let volume, copy == nil else { return }
        let type = try VolumeTypes.get(run.arguments.typeID, in: tx)
        let snapshots = try Snapshots.lockAll(of: volume, in: tx)
        try Volumes.setType(type, of: volume, with: snapshots, in: tx)
        try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx)
        try run.giveBack(volume.typeName, of: volume, with: snapshots, in: tx)
    }

    /// The volume stays where and what it is, and in use.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try SwapSteps.giveUp(run, in: tx) else { return .finished }
        let snapshots = try Snapshots.lockAll(of: volume, in: tx)
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx)
        if volume.migrationStatus == .migrating { try Volumes.setMigrationStatus(.error, of: volume, in: tx) }
        try SwapSteps.addUserMessage(run, failure, in: tx)
        if let type = try? VolumeTypes.get(run.arguments.typeID, in: tx) {
            try run.giveBack(type.name, of: volume, with: snapshots, in: tx)
        }
        return .finished
    }
}
