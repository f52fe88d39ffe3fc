import BlockStorage
import Database

/// Gives a volume another type, and another place where its own does not fit the type.
enum RetypeVolume: FlowDefinition {
    typealias Arguments = RetypeVolumeArguments
    typealias State = MoveState

    static let cancellation = Cancellation.byProject
    static let steps: [Step<Self>] =
        [
            .place(
                "place", prepare: { run, pools in await pools.waitForReports(run) },
                record: { run, pools, _, tx in try choose(&run, pools, in: tx) }, recordUndo: MoveSteps.recordRelease)
        ]
        + MoveSteps.all { _, volume, tx in
            try end(volume, in: tx)
            if volume.migrationStatus == .migrating { try Volumes.setMigrationStatus(.success, of: volume, in: tx) }
        }

    /// The volume stays where it is if its pool fits the type; else it must be free to move.
    private static func choose(_ run: inout FlowRun<Self>, _ pools: PoolChooser, in tx: any Transaction) throws {
        let volume = try run.volume(in: tx)
        let type = try VolumeTypes.get(run.arguments.typeID, in: tx)
        guard let request = try RetypePlacement.request(for: volume, type, pools, mayMigrate: run.arguments.mayMigrate, in: tx) else {
            return
        }
        guard volume.status != .inUse, volume.previousStatus != .inUse else {
            throw StorageError(
                .failed,
                "The volume would have to move, which an attached one can by a compute service alone, if one instance uses it and it is not "
                    + "encrypted.")
        }
        try requireUnconnected(volume.value, in: tx)
        MoveSteps.claim(try pools.place(request, volume, in: tx), &run)
        try Volumes.setMigrationStatus(.migrating, of: volume, in: tx)
    }

    /// Of a volume that was in use, others may have let go meanwhile.
    private static func end(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        guard volume.previousStatus == .inUse else {
            return try Volumes.setStatus(volume.previousStatus ?? .available, of: volume, in: tx)
        }
        try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx)
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        let snapshots = try Snapshots.lockAll(of: volume, in: tx)
        try MoveSteps.giveUp(&run, volume, failure, in: tx)
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        try end(volume, in: tx)
        if volume.migrationStatus == .migrating { try Volumes.setMigrationStatus(.error, of: volume, in: tx) }
        try run.addUserMessage(failure, in: tx)
        if let type = try? run.newType(in: tx), type.id != volume.volumeTypeID {
            try run.giveBack(type.name, of: volume, with: snapshots, in: tx)
        }
        return .finished
    }
}

/// Where a volume may lie that gets another type.
enum RetypePlacement {
    /// What to ask the scheduler for; nil: the volume's own pool fits the type, and it stays there. Throws where it would have to move, and
    /// must not.
    static func request(
        for volume: Locked<Volume>, _ type: VolumeType, _ pools: PoolChooser, mayMigrate: Bool, in tx: any Transaction
    ) throws -> PlacementRequest? {
        var request = PlacementRequest(
            volumeID: volume.id, size: volume.size, zones: volume.availabilityZone.map { [$0] } ?? [], extraSpecs: type.extraSpecs,
            requiredBackend: nil, attempted: [])
        request.occupiedHost = volume.host
        request.qosSpecs = try QoSSpecs.of(type, in: tx)?.specs ?? [:]
        // Only a new object becomes replicated, or ceases to be.
        if let backend = volume.backend, type.isReplicated != (try VolumeTypes.get(volume.volumeTypeID, in: tx).isReplicated) {
            request.forbidden = (backend, "a volume begins or ends to be replicated on another backend only")
        }
        let staying = pools.scheduler.place(request, among: try pools.pools(in: tx).filter { $0.host == volume.host })
        guard staying.choice == nil else {
            try pools.keepVerdicts(staying, in: tx)
            return nil
        }
        guard mayMigrate else {
            throw pools.refusal(staying, "The volume would have to move, which the migration policy forbids. \(staying.refusal)")
        }
        guard try Snapshots.ofVolume(volume.id, in: tx).isEmpty else {
            throw StorageError(.failed, "The volume would have to move, and its snapshots cannot.")
        }
        guard try Volumes.isFreeToMove(volume.id, in: tx) else {
            throw StorageError(.failed, "The volume would have to move, and is replicated.")
        }
        return request
    }
}
