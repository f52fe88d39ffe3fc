import BlockStorage
import Database
import DriverHost
import JSON

/// Flows that give a volume another type or another place. What is copied gets a storage object of its own beside the old
/// one, which the row then points to: until that one transaction everything can be taken back, behind it nothing is.
enum MoveFlows {
    static let all = [retype, migrate]

    // MARK: where

    static let migrate = Flow(
        name: FlowName.migrateVolume, version: 1, isCancellable: true,
        steps: [
            Step(
                name: "place", perform: FlowContext.awaitReports,
                record: { context, progress, _, tx in
                    let volume = try context.volume(in: tx)
                    let type = try VolumeTypes.get(volume.volumeTypeID, in: tx)
                    try context.requireUnconnected(volume, in: tx)
                    let request = PlacementRequest(
                        volumeID: volume.id, size: volume.size, zones: [], extraSpecs: type.extraSpecs,
                        requiredBackend: context.operation.arguments["host"]?.string, attempted: [])
                    try claim(try context.place(request, volume, in: tx), &progress)
                    try Volumes.setMigrationStatus("migrating", of: volume.id, in: tx)
                }, recordUndo: release)
        ]
            + moving { context, volume, tx in
                if volume.status == "maintenance" { try Volumes.setStatus(volume.previousStatus ?? "available", of: volume.id, in: tx) }
                try Volumes.setMigrationStatus("success", of: volume.id, in: tx)
            },
        failed: { context, progress, failure, tx in
            try release(context, &progress, tx)
            guard let volume = try Volumes.find(context.volumeID, in: tx) else { return .over }
            if context.isWorthAnother(after: failure, &progress) { return .again }
            if volume.status == "maintenance" { try Volumes.setStatus(volume.previousStatus ?? "available", of: volume.id, in: tx) }
            try Volumes.setMigrationStatus("error", of: volume.id, in: tx)
            try context.tell(failure, in: tx)
            return .over
        })

    static let retype = Flow(
        name: FlowName.retypeVolume, version: 1, isCancellable: true,
        steps: [
            Step(
                name: "place", perform: FlowContext.awaitReports,
                record: { context, progress, _, tx in
                    let volume = try context.volume(in: tx)
                    let type = try context.newType(in: tx)
                    var request = PlacementRequest(
                        volumeID: volume.id, size: volume.size, zones: volume.availabilityZone.map { [$0] } ?? [],
                        extraSpecs: type.extraSpecs, requiredBackend: nil, attempted: [])
                    request.occupiedHost = volume.host
                    // Only a new object becomes replicated, or ceases to be.
                    if let backend = volume.backend, type.isReplicated != (try VolumeTypes.get(volume.volumeTypeID, in: tx).isReplicated) {
                        request.forbidden = (backend, "a volume begins or ends to be replicated on another backend only")
                    }
                    let pools = try context.services.backends.pools(in: tx).filter { $0.host == volume.host }
                    let staying = context.services.scheduler.place(request, among: pools)
                    guard staying.choice == nil else {
                        return try Operations.setVerdicts(staying.verdicts.abridged.json, of: context.operation.id, in: tx)
                    }
                    guard context.operation.arguments["may_migrate"]?.bool == true else {
                        throw PlacementRefusal(
                            placement: staying,
                            message: "The volume would have to move, which the migration policy forbids. \(staying.refusal)")
                    }
                    guard try Snapshots.ofVolume(volume.id, in: tx).isEmpty else {
                        throw StorageError(.failed, "The volume would have to move, and its snapshots cannot.")
                    }
                    guard try Volumes.isFreeToMove(volume.id, in: tx) else {
                        throw StorageError(.failed, "The volume would have to move, and is replicated.")
                    }
                    guard volume.status != "in-use", volume.previousStatus != "in-use" else {
                        throw StorageError(
                            .failed, "The volume would have to move, which an attached one cannot without a compute service.")
                    }
                    try context.requireUnconnected(volume, in: tx)
                    try claim(try context.place(request, volume, in: tx), &progress)
                    try Volumes.setMigrationStatus("migrating", of: volume.id, in: tx)
                }, recordUndo: release)
        ]
            + moving { context, volume, tx in
                try Volumes.setStatus(volume.previousStatus ?? "available", of: volume.id, in: tx)
                if volume.migrationStatus == "migrating" { try Volumes.setMigrationStatus("success", of: volume.id, in: tx) }
            },
        failed: { context, progress, failure, tx in
            try release(context, &progress, tx)
            guard let volume = try Volumes.find(context.volumeID, in: tx) else { return .over }
            if context.isWorthAnother(after: failure, &progress) { return .again }
            if let type = try? context.newType(in: tx), type.id != volume.volumeTypeID {
                try Quotas.addType(type.name, -context.typeCharge(of: volume, in: tx), project: volume.projectID, in: tx)
            }
            try Volumes.setStatus(volume.previousStatus ?? "available", of: volume.id, in: tx)
            if volume.migrationStatus == "migrating" { try Volumes.setMigrationStatus("error", of: volume.id, in: tx) }
            try context.tell(failure, in: tx)
            return .over
        })

    /// `claim` names the pool of which capacity is claimed beyond the volume's row.
    private static func claim(_ pool: PoolState, _ progress: inout JSONObject) throws {
        progress["host"] = .string(pool.host)
        progress["zone"] = .string(pool.zone)
        progress["claim"] = .string(pool.host)
    }

    /// Gives the claim back, if there still is one: a step that could not be taken back has left it.
    @Sendable private static func release(_ context: FlowContext, _ progress: inout JSONObject, _ tx: any Transaction) throws {
        guard let host = progress["claim"]?.string, let volume = try Volumes.find(context.volumeID, in: tx) else { return }
        try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
        progress["claim"] = nil
        progress["host"] = nil
    }

    // MARK: how

    /// The new storage object as its driver is told of it, and the backend; nil if the volume stays where it is.
    private static func target(_ context: FlowContext, _ volume: Volume, _ progress: JSONObject) throws -> (
        entry: BackendEntry, object: DriverValue
    )? {
        guard let host = progress["host"]?.string, let id = context.operation.arguments["target_id"]?.string else { return nil }
        return try (
            context.backend(of: host),
            .members(["volume": context.describe(volume, as: id, host: host, data: progress["data"]?.string, isConnected: false)])
        )
    }

    private static func moving(_ finish: @escaping @Sendable (FlowContext, Volume, any Transaction) throws -> Void) -> [Step] {
        [
            Step(
                name: "make",
                perform: { context, progress in
                    let volume = try await context.volume()
                    guard let target = try target(context, volume, progress) else { return .object([]) }
                    let type = try await context.services.database.read {
                        try context.newTypeIfAny(in: $0) ?? VolumeTypes.get(volume.volumeTypeID, in: $0)
                    }
                    return try await context.call(
                        target.entry, .createVolume,
                        .members(["volume": context.describeNew(target.object["volume"] ?? .object([]), of: type)]))
                },
                record: { _, progress, output, _ in
                    progress["data"] = output["data"]?.string.map { .string($0) }
                    progress["provider_id"] = output["provider_id"]?.string.map { .string($0) }
                    progress["replication_status"] = output["replication_status"]?.string.map { .string($0) }
                },
                undo: { context, progress in
                    guard let target = try await target(context, context.volume(), progress) else { return }
                    _ = try await context.call(target.entry, .deleteVolume, target.object, patience: 5)
                }),
            Step(
                name: "copy",
                perform: { context, progress in
                    let volume = try await context.volume()
                    guard let target = try target(context, volume, progress) else { return .object([]) }
                    let source = try context.backend(of: volume)
                    try await context.copy(
                        from: (source, .members(["volume": try await context.describe(volume)])), to: target, progress: progress)
                    return .object([])
                }, record: { _, progress, _, _ in progress[FlowContext.copied] = nil }),
            Step(
                name: "switch",
                record: { context, progress, _, tx in
                    let volume = try context.volume(in: tx)
                    if let type = try context.newTypeIfAny(in: tx), type.id != volume.volumeTypeID {
                        try Quotas.addType(
                            volume.typeName, -context.typeCharge(of: volume, in: tx), project: volume.projectID, in: tx)
                        try Volumes.setType(type, of: volume.id, in: tx)
                    }
                    guard let host = progress["host"]?.string, let old = volume.host else { return }
                    progress["old"] = .object([
                        "host": .string(old), "name_id": .string(volume.nameID ?? volume.id), "data": JSON(volume.driverData),
                    ])
                    progress["claim"] = .string(old)
                    var place = Volumes.Location(host: host)
                    let capabilities = try context.backend(of: host).backend.description?.capabilities
                    place.serviceID = try Services.find(binary: "cinder-volume", host: HostName.backend(of: host), in: tx)?.id
                    place.zone = progress["zone"]?.string
                    place.nameID = context.operation.arguments["target_id"]?.string
                    place.driverData = progress["data"]?.string
                    place.providerID = progress["provider_id"]?.string
                    place.replicationStatus = progress["replication_status"]?.string
                    place.sharedTargets = FlowContext.sharedTargets(capabilities)
                    try Volumes.relocate(volume.id, to: place, in: tx)
                }),
            Step(
                name: "remove the old", isPastReturn: true,
                perform: { context, progress in
                    guard let old = progress["old"], let host = old["host"]?.string, let id = old["name_id"]?.string else {
                        return .object([])
                    }
                    let volume = try await context.volume()
                    do {
                        _ = try await context.call(
                            context.backend(of: host), .deleteVolume,
                            .members([
                                "volume": context.describe(
                                    volume, as: id, host: host, data: old["data"]?.string, isConnected: context.isConnected(volume))
                            ]))
                    } catch {
                        context.services.log.error(
                            "the storage that a volume left could not be removed; `clinker doctor` will list it: \(error)",
                            metadata: [
                                "volume": "\(volume.id)", "host": "\(host)", "operation_id": "\(context.operation.id)",
                                "request_id": "\(context.operation.requestID)",
                            ])
                    }
                    return .object([])
                },
                record: { context, progress, _, tx in
                    guard let host = progress["claim"]?.string else { return }
                    try Pools.add(host, gigabytes: -context.volume(in: tx).size, volumes: -1, in: tx)
                    progress["claim"] = nil
                }),
            Step(
                name: "rename", isPastReturn: true,
                perform: { context, progress in
                    let volume = try await context.volume()
                    guard let host = progress["host"]?.string, let id = volume.nameID else { return .object([]) }
                    do {
                        // A driver that cannot do it leaves the name as it is. Renamed, not managed: what the object is is
                        // known, and what a guest wrote into it says nothing.
                        let output = try await context.call(
                            context.backend(of: host), .renameVolume,
                            .members([
                                "volume": context.describe(
                                    volume, as: volume.id, host: host, data: volume.driverData, isConnected: context.isConnected(volume)),
                                "source": context.describe(
                                    volume, as: id, host: host, data: volume.driverData, isConnected: context.isConnected(volume)),
                            ]))
                        return .members([
                            "renamed": .boolean(true), "data": .optional(output["data"]?.string ?? volume.driverData),
                        ])
                    } catch { return .object([]) }
                },
                record: { context, _, output, tx in
                    if output["renamed"]?.boolean == true {
                        try Volumes.objectRenamed(context.volumeID, driverData: output["data"]?.string, in: tx)
                    }
                    try finish(context, context.volume(in: tx), tx)
                }),
        ]
    }
}

extension FlowContext {
    /// The type that the volume is to have.
    fileprivate func newType(in connection: any Connection) throws -> VolumeType {
        try VolumeTypes.get(operation.arguments["type_id"]?.string ?? "", in: connection)
    }
    fileprivate func newTypeIfAny(in connection: any Connection) throws -> VolumeType? {
        operation.arguments["type_id"] == nil ? nil : try newType(in: connection)
    }

    fileprivate func typeCharge(of volume: Volume, in connection: any Connection) throws -> Charge {
        try volume.chargeWithSnapshots(chargesGigabytes: services.snapshotsChargeGigabytes, in: connection)
    }

    /// Tells the user why the volume stayed as it was.
    fileprivate func tell(_ failure: FlowFailure, in tx: any Transaction) throws {
        let isPlacement = failure.step == "place"
        try tell(isPlacement ? .scheduleVolume : .createVolume, isPlacement ? .noBackend : .createFailed, in: tx)
    }
}
