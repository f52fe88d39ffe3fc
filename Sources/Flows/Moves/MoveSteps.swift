import BlockStorage
import Database
import DriverHost

/// What flows share that give a volume another type or another place. What is copied gets a storage object of its own beside the old one,
/// which the row then points to: until that one transaction everything can be taken back, behind it nothing is.
enum MoveSteps<Flow: FlowDefinition> where Flow.Arguments: MoveArguments, Flow.State == MoveState {
    typealias Run = FlowRun<Flow>

    /// The steps after a pool was chosen, or the volume's own. `finish` sets the volume's last states.
    static func all(finish: @escaping @Sendable (Run, Locked<Volume>, any Transaction) throws -> Void) -> [Step<Flow>] {
        [make, copy, .record("switch", pointToNewObject), removeOld, rename(finish)]
    }

    // MARK: capacity

    /// Records the pool of which capacity is claimed beyond the volume's row.
    static func claim(_ pool: PoolState, _ run: inout Run) {
        run.state.host = pool.host
        run.state.zone = pool.zone
        run.state.claim = pool.host
    }

    /// Gives the claim back, if there still is one: a step that could not be taken back has left it.
    @Sendable static func recordRelease(_ run: inout Run, _ tx: any Transaction) throws {
        if run.state.claim != nil, let volume = try Volumes.lock(run.volumeID, in: tx) { try release(&run, of: volume, tx) }
    }

    /// What every move that failed leaves: no claim, and of an object that could not be removed an operation that does it.
    static func giveUp(_ run: inout Run, _ volume: Locked<Volume>, _ failure: StepFailure, in tx: any Transaction) throws {
        if !failure.isUndone, let host = run.state.host {
            try RemoveUnusedObject.begin(after: run, host: host, size: volume.size, in: tx)
        }
        try release(&run, of: volume, tx)
    }

    private static func release(_ run: inout Run, of volume: Locked<Volume>, _ tx: any Transaction) throws {
        guard let host = run.state.claim else { return }
        try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
        run.state.claim = nil
        run.state.host = nil
    }

    // MARK: the new object

    /// The backend of the new storage object; nil if the volume stays where it is.
    @Sendable private static func targetHost(_ run: Run) async throws -> String? {
        run.arguments.targetID == nil ? nil : run.state.host
    }

    /// The new storage object as its driver is told of it.
    private static func target(_ run: Run, _ volume: Volume) -> DriverValue {
        run.driverArguments(
            volume, as: run.arguments.targetID ?? "", host: run.state.host ?? "", data: run.state.data, isConnected: false)
    }

    private static var make: Step<Flow> {
        .onBackend(
            "make", host: targetHost,
            perform: { run, backend in
                let volume = try await run.volume()
                let type = try await run.read { try run.newType(in: $0) ?? VolumeTypes.get(volume.volumeTypeID, in: $0) }
                if volume.encryptionKeyID != nil { try backend.requireEncrypted(from: volume.host) }
                let object = run.driverArguments(new: target(run, volume), of: type)
                return CreatedObject(try await backend.call(.createVolume, .members(["volume": object])), on: backend)
            },
            record: { run, created, _ in
                run.state.data = created?.data
                run.state.providerID = created?.providerID
                run.state.replicationStatus = created?.replicationStatus
            },
            undo: { run, backend in
                let object = target(run, try await run.volume())
                _ = try await backend.call(.deleteVolume, .members(["volume": object]), wait: 5)
            })
    }

    private static var copy: Step<Flow> {
        .onBackend(
            "copy", host: targetHost,
            perform: { run, backend in
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                // They stay behind, where the old object could not be removed with them.
                try await run.dropBackupSnapshots(of: volume, on: backend.other(at: host))
                try await backend.copy(
                    .members(["volume": run.driverArguments(volume)]), at: host, to: .members(["volume": target(run, volume)]), for: run)
                return backend.sharesTargets
            },
            record: { run, sharesTargets, _ in
                run.state.copied = nil
                run.state.sharedTargets = sharesTargets ?? nil
            })
    }

    // MARK: the point of no return

    @Sendable private static func pointToNewObject(_ run: inout Run, _ tx: any Transaction) throws {
        let volume = try run.volume(in: tx)
        if let type = try run.newType(in: tx), type.id != volume.volumeTypeID {
            let snapshots = try Snapshots.lockAll(of: volume, in: tx)
            try Volumes.setType(type, of: volume, with: snapshots, in: tx)
            try run.giveBack(volume.typeName, of: volume, with: snapshots, in: tx)
        }
        guard let host = run.state.host, let old = volume.host else { return }
        run.state.old = MoveState.OldObject(host: old, nameID: volume.nameID ?? volume.id, data: volume.driverData)
        run.state.claim = old
        var place = Volumes.Location(host: host)
        place.serviceID = try Services.id(ofBackend: HostName.backend(of: host), in: tx)
        place.zone = run.state.zone
        place.nameID = run.arguments.targetID
        place.driverData = run.state.data
        place.providerID = run.state.providerID
        place.replicationStatus = run.state.replicationStatus
        place.sharedTargets = run.state.sharedTargets
        try Volumes.relocate(volume, to: place, in: tx)
        try Backups.forgetSnapshots(of: volume, in: tx)
    }

    // MARK: the old object

    private static var removeOld: Step<Flow> {
        .pastReturn(
            "remove the old", complaint: "the storage that a volume left could not be removed; `clinker doctor` will list it",
            host: { $0.state.old?.host },
            perform: { run, backend in
                guard let old = run.state.old else { return }
                let volume = try await run.volume()
                let object = run.driverArguments(
                    volume, as: old.nameID, host: old.host, data: old.data, isConnected: try await run.isConnected(volume))
                _ = try await backend.call(.deleteVolume, .members(["volume": object]))
            },
            record: { run, _, tx in
                guard let host = run.state.claim else { return }
                try Pools.add(host, gigabytes: -run.volume(in: tx).size, volumes: -1, in: tx)
                run.state.claim = nil
            })
    }

    /// Gives the new object the volume's own name. A driver that cannot do it leaves the name as it is. Renamed, not managed: what the
    /// object is is known, and what a guest wrote into it says nothing.
    private static func rename(_ finish: @escaping @Sendable (Run, Locked<Volume>, any Transaction) throws -> Void) -> Step<Flow> {
        .pastReturn(
            "rename", complaint: nil, host: { $0.state.host },
            perform: { run, backend in
                let volume = try await run.volume()
                guard let host = run.state.host, let id = volume.nameID else { return Renamed?.none }
                // What is still to be deleted under the name would be the volume.
                guard try await run.read({ try Volumes.named(volume.id, in: $0).isEmpty }) else { return Renamed?.none }
                let isConnected = try await run.isConnected(volume)
                func object(_ id: String) -> DriverValue {
                    run.driverArguments(volume, as: id, host: host, data: volume.driverData, isConnected: isConnected)
                }
                let output = try await backend.call(.renameVolume, .members(["volume": object(volume.id), "source": object(id)]))
                return Renamed(data: output["data"]?.string ?? volume.driverData)
            },
            record: { run, renamed, tx in
                let volume = try run.volume(in: tx)
                if let renamed = renamed ?? nil { try Volumes.objectRenamed(volume, driverData: renamed.data, in: tx) }
                try finish(run, volume, tx)
            })
    }
}

private struct Renamed { let data: String? }

extension FlowRun where Flow.Arguments: MoveArguments {
    /// The type that the volume is to have; nil: it keeps its own.
    func newType(in connection: any Connection) throws -> VolumeType? {
        try arguments.newTypeID.map { try VolumeTypes.get($0, in: connection) }
    }

    /// Tells the user why the volume stayed as it was.
    func addUserMessage(_ failure: StepFailure, in tx: any Transaction) throws {
        let isPlacement = failure.step == "place"
        try addUserMessage(isPlacement ? .scheduleVolume : .createVolume, isPlacement ? .noBackend : .createFailed, in: tx)
    }
}

extension FlowRun {
    /// Gives back what the volume and its snapshots are charged under the name of a type.
    func giveBack(_ type: String, of volume: Locked<Volume>, with snapshots: [Locked<Snapshot>], in tx: any Transaction) throws {
        let charges = volume.value.charges(with: snapshots.map(\.value), chargesGigabytes: settings.snapshotsChargeGigabytes)
        for (project, charge) in charges { try Quotas.addType(type, -charge, project: project, in: tx) }
    }
}
