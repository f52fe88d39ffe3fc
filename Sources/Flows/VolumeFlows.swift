import BlockStorage
import Database
import DriverHost
import JSON
import Primitives

/// The flows of volumes.
enum VolumeFlows {
    static let all = [create, delete, deleteWithSnapshots, extend, connect, disconnect, connectAttachment, deleteAttachment]

    // MARK: create

    static let create = Flow(
        name: FlowName.createVolume, version: 1, isCancellable: true,
        steps: [
            Step(
                name: "place",
                perform: { context, progress in
                    _ = try await FlowContext.awaitReports(context, progress)
                    return DriverValue(await context.services.scheduler.instance(context.operation.arguments))
                },
                record: { context, progress, output, tx in
                    let volume = try context.volume(in: tx)
                    let placement = try context.services.scheduler.place(
                        new: volume, arguments: context.operation.arguments, instance: InstancePlace(output),
                        attempted: progress["attempted"]?.array?.compactMap(\.string) ?? [],
                        snapshotSameHost: context.services.snapshotSameHost, among: context.services.backends.usablePools(in: tx), in: tx)
                    let pool = try context.claim(placement, volume, in: tx)
                    let service = try Services.find(binary: "cinder-volume", host: pool.backend, in: tx)
                    try Volumes.place(volume.id, host: pool.host, serviceID: service?.id, zone: pool.zone, in: tx)
                    progress["host"] = .string(pool.host)
                },
                recordUndo: { context, progress, tx in
                    guard let host = progress["host"]?.string, let volume = try Volumes.find(context.volumeID, in: tx) else { return }
                    try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
                    try Volumes.place(volume.id, host: nil, serviceID: nil, zone: volume.availabilityZone, in: tx)
                    progress["host"] = nil
                    let attempted = progress["attempted"]?.array ?? []
                    progress["attempted"] = .array(attempted + [.string(HostName.backend(of: host))])
                }),
            Step(
                name: "make",
                perform: { context, progress in
                    let volume = try await context.volume()
                    let entry = try context.backend(of: volume)
                    if let snapshotID = volume.snapshotID {
                        let (snapshot, origin) = try await context.services.database.read { connection in
                            let snapshot = try Snapshots.find(snapshotID, in: connection)
                            return (snapshot, try snapshot.flatMap { try Volumes.find($0.volumeID, in: connection) })
                        }
                        guard let snapshot, let origin else { throw StorageError.snapshotNotFound(snapshotID) }
                        guard volume.backend == origin.backend else {
                            return try await copy(snapshot, of: origin, to: volume, context, progress)
                        }
                        return try await context.call(
                            entry, .createVolumeFromSnapshot,
                            .members([
                                "volume": context.describeNew(volume), "snapshot": context.describe(snapshot),
                                "source": try await context.describe(origin),
                            ]))
                    }
                    guard let sourceID = volume.sourceVolumeID else {
                        return try await context.call(entry, .createVolume, .members(["volume": context.describeNew(volume)]))
                    }
                    let source = try await context.volume(sourceID)
                    return try await context.call(
                        entry, .cloneVolume,
                        .members(["volume": context.describeNew(volume), "source": try await context.describe(source)]))
                },
                record: { context, progress, output, tx in
                    let volume = try context.volume(in: tx)
                    try context.made(volume, output, in: tx)
                    progress["made"] = true
                    progress[FlowContext.copied] = nil
                },
                undo: { context, _ in
                    let volume = try await context.volume()
                    guard volume.host != nil else { return }
                    _ = try await context.call(
                        context.backend(of: volume), .deleteVolume, .members(["volume": try await context.describe(volume)]), patience: 5)
                }, recordUndo: { _, progress, _ in progress[FlowContext.copied] = nil }),
        ],
        failed: { context, progress, failure, tx in
            guard let volume = try Volumes.find(context.volumeID, in: tx) else { return .over }
            if context.isWorthAnother(after: failure, &progress) { return .again }
            let isPlacement = failure.step == "place"
            let attempts = progress["attempted"]?.array?.count ?? 0
            // Worth another backend unless the volume's own request is at fault.
            if failure.undone, !isPlacement, failure.code != .invalid, attempts < context.services.maxAttempts,
                context.services.backends.entries.count > attempts
            {
                return .again
            }
            try Volumes.setStatus("error", of: volume.id, in: tx)
            try context.tell(isPlacement ? .scheduleVolume : .createVolume, isPlacement ? .noBackend : .createFailed, in: tx)
            return .over
        })

    /// A snapshot's content on another backend: an empty volume, and its bytes.
    private static func copy(
        _ snapshot: Snapshot, of origin: Volume, to volume: Volume, _ context: FlowContext, _ progress: JSONObject
    ) async throws -> DriverValue {
        let entry = try context.backend(of: volume)
        let made = try await context.call(entry, .createVolume, .members(["volume": context.describeNew(volume)]))
        let data = made["data"]?.string
        let target = context.describe(volume, as: volume.id, host: volume.host ?? "", data: data, isConnected: false)
        try await context.copy(
            from: (
                context.backend(of: origin),
                .members(["volume": try await context.describe(origin), "snapshot": context.describe(snapshot)])
            ), to: (entry, .members(["volume": target])), progress: progress)
        return made
    }

    // MARK: delete

    /// As the releases before snapshots wrote it into the log.
    static let delete = deletion(version: 1, steps: [])

    /// The snapshots first, each recorded with the volume.
    static let deleteWithSnapshots = deletion(
        version: 2,
        steps: [
            Step(
                name: "remove snapshots",
                perform: { context, _ in
                    let volume = try await context.volume()
                    let snapshots = try await context.services.database.read { try Snapshots.ofVolume(volume.id, in: $0) }
                    guard volume.host != nil, !snapshots.isEmpty else { return .object([]) }
                    let entry = try context.backendForRemoval(of: volume)
                    // The newest first: older ones may be what they rest on. Each is recorded on its own: should a later one stay, no
                    // row of one that went may come back.
                    for snapshot in snapshots.reversed() {
                        _ = try await context.call(
                            entry, .deleteSnapshot,
                            .members(["volume": try await context.describe(volume), "snapshot": context.describe(snapshot)]),
                            patience: nil)
                        try await context.services.database.write { tx in
                            guard let snapshot = try Snapshots.find(snapshot.id, in: tx) else { return }
                            try Snapshots.remove(snapshot, chargesGigabytes: context.services.snapshotsChargeGigabytes, in: tx)
                        }
                    }
                    return .object([])
                })
        ])

    private static func deletion(version: Int, steps: [Step]) -> Flow {
        Flow(
            name: FlowName.deleteVolume, version: version,
            steps: steps + [
                Step(
                    name: "remove",
                    perform: { context, _ in
                        let volume = try await context.volume()
                        guard volume.host != nil else { return .object([]) }
                        let entry = try context.backendForRemoval(of: volume)
                        let arguments = DriverValue.members(["volume": try await context.describe(volume)])
                        _ = try await context.callIfServed(entry, .unexportVolume, arguments, patience: nil)
                        // A backend that is down delays the deletion; it does not fail it.
                        return try await context.call(entry, .deleteVolume, arguments, patience: nil)
                    },
                    record: { context, _, _, tx in
                        if let volume = try Volumes.find(context.volumeID, in: tx) { try Volumes.erase(volume, in: tx) }
                    })
            ],
            failed: { context, _, failure, tx in
                let volume = try Volumes.find(context.volumeID, in: tx)
                let isBusy = failure.code == .busy
                for snapshot in try Snapshots.ofVolume(context.volumeID, in: tx) where snapshot.status == "deleting" {
                    try Snapshots.setStatus(isBusy ? "available" : "error_deleting", of: snapshot.id, in: tx)
                }
                try Volumes.setStatus(isBusy ? volume?.previousStatus ?? "available" : "error_deleting", of: context.volumeID, in: tx)
                if volume != nil { try context.tell(.deleteVolume, isBusy ? .volumeBusy : .volumeNotDeleted, in: tx) }
                return .over
            })
    }

    // MARK: extend

    static let extend = Flow(
        name: FlowName.extendVolume, version: 1,
        steps: [
            Step(
                name: "claim capacity", perform: FlowContext.awaitReports,
                record: { context, progress, _, tx in
                    guard let volume = try Volumes.find(context.volumeID, in: tx), let host = volume.host else {
                        throw StorageError.volumeNotFound(context.volumeID)
                    }
                    let delta = Int(context.operation.arguments["new_size"]?.integer ?? 0) - volume.size
                    var request = PlacementRequest(
                        volumeID: volume.id, size: delta, zones: [], extraSpecs: [:], requiredBackend: nil, attempted: [], currentHost: host
                    )
                    request.growsAttached = context.operation.arguments["attached"]?.bool ?? false
                    let placement = context.services.scheduler.place(request, among: try context.services.backends.pools(in: tx))
                    _ = try context.claim(placement, gigabytes: delta, volumes: 0, in: tx)
                    progress["claimed"] = JSON(delta)
                },
                recordUndo: { context, progress, tx in
                    guard let claimed = progress["claimed"]?.integer, let host = try Volumes.find(context.volumeID, in: tx)?.host else {
                        return
                    }
                    try Pools.add(host, gigabytes: -Int(claimed), volumes: 0, in: tx)
                    progress["claimed"] = nil
                }),
            Step(
                name: "grow",
                perform: { context, _ in
                    let volume = try await context.volume()
                    let arguments = context.operation.arguments
                    let isConnected = try await context.isConnected(volume)
                    let isAttached = arguments["attached"]?.bool ?? false || isConnected
                    return try await context.call(
                        context.backend(of: volume), .extendVolume,
                        .members([
                            "volume": try await context.describe(volume), "new_size": .integer(arguments["new_size"]?.integer ?? 0),
                            "attached": .boolean(isAttached),
                        ]))
                },
                record: { context, _, output, tx in
                    guard let volume = try Volumes.find(context.volumeID, in: tx) else { return }
                    let size = Int(context.operation.arguments["new_size"]?.integer ?? Int64(volume.size))
                    try Volumes.resize(volume.id, to: size, status: volume.previousStatus ?? "available", in: tx)
                    if let data = output["data"]?.string { try Volumes.setDriverData(data, of: volume.id, in: tx) }
                }),
        ],
        failed: { context, progress, failure, tx in
            guard let volume = try Volumes.find(context.volumeID, in: tx) else { return .over }
            if context.isWorthAnother(after: failure, &progress) { return .again }
            let size = Int(context.operation.arguments["new_size"]?.integer ?? Int64(volume.size))
            if volume.consumesQuota {
                try Quotas.add(Charge(gigabytes: volume.size - size), type: volume.typeName, project: volume.projectID, in: tx)
            }
            try context.tell(.extendVolume, failure.step == "claim capacity" ? .noBackend : .extendFailed, in: tx)
            let untouched = failure.step == "claim capacity" || failure.code == .unsupported || failure.code == .busy
            try Volumes.setStatus(untouched ? volume.previousStatus ?? "available" : "error_extending", of: volume.id, in: tx)
            return .over
        })

    // MARK: connections

    /// What os-brick needs, from what the driver gave: Cinder's additions to `data`.
    static func completed(_ connection: DriverValue, mode: String) -> JSONObject {
        var info = connection.json.object ?? [:]
        info["data"] = .object(enriched(info["data"]?.object ?? [:], mode: mode))
        info["enforce_multipath"] = info["enforce_multipath"] ?? false
        return info
    }

    private static func enriched(_ data: JSONObject, mode: String) -> JSONObject {
        var data = data
        data["qos_specs"] = data["qos_specs"] ?? .null
        data["access_mode"] = data["access_mode"] ?? .string(mode)
        data["encrypted"] = data["encrypted"] ?? false
        data["cacheable"] = data["cacheable"] ?? false
        data["enforce_multipath"] = data["enforce_multipath"] ?? false
        return data
    }

    /// Export and connect: the driver's part of every attachment.
    private static func connectStep(
        _ arguments: @escaping @Sendable (FlowContext, Volume) async throws -> (connector: JSON, mode: String),
        record: (@Sendable (FlowContext, inout JSONObject, DriverValue, any Transaction) throws -> Void)? = nil
    ) -> [Step] {
        [
            Step(
                name: "export",
                perform: { context, _ in
                    let volume = try await context.volume()
                    return try await context.callIfServed(
                        context.backend(of: volume), .exportVolume, .members(["volume": try await context.describe(volume)]))
                },
                record: { context, _, output, tx in
                    if let data = output["data"]?.string { try Volumes.setDriverData(data, of: context.volumeID, in: tx) }
                },
                undo: { context, _ in
                    let volume = try await context.volume()
                    guard try await !context.isConnected(volume) else { return }
                    _ = try await context.callIfServed(
                        context.backend(of: volume), .unexportVolume, .members(["volume": try await context.describe(volume)]))
                }),
            Step(
                name: "connect",
                perform: { context, _ in
                    let volume = try await context.volume()
                    let (connector, mode) = try await arguments(context, volume)
                    let connection = try await context.call(
                        context.backend(of: volume), .connectVolume,
                        .members(["volume": try await context.describe(volume), "connector": DriverValue(connector), "mode": .string(mode)])
                    )
                    return DriverValue(.object(completed(connection, mode: mode)))
                }, record: record,
                undo: { context, _ in
                    let volume = try await context.volume()
                    let (connector, _) = try await arguments(context, volume)
                    try await disconnect(
                        context, volume, connector: connector, except: context.operation.arguments["attachment_id"]?.string)
                }),
        ]
    }

    /// Ends a connection; what other attachments and hosts still need stays. `endsHost`: what the connector's host was told without an
    /// attachment ends, too; of every host, where it names none.
    private static func disconnect(
        _ context: FlowContext, _ volume: Volume, connector: JSON?, except attachmentID: String?, endsHost: Bool = false
    ) async throws {
        let (attachments, hosts) = try await context.services.database.read {
            (try Attachments.ofVolume(volume.id, in: $0), try HostConnections.ofVolume(volume.id, in: $0))
        }
        let remaining = attachments.filter { $0.id != attachmentID }
        let ended = HostConnections.host(of: connector)
        let told = hosts.filter { !endsHost || !(ended.isEmpty || $0.host == ended) }
        let connectors = (remaining.compactMap(\.connector) + told.map(\.connector)).compactMap { try? JSON(parsing: $0.reveal()) }
        var arguments: [DriverValue.Member] = [
            .init("volume", try await context.describe(volume)),
            .init("attachments", .list(connectors.map { .members(["connector": DriverValue($0)]) })),
        ]
        if let connector, connector != .null { arguments.append(.init("connector", DriverValue(connector))) }
        let entry = try context.backend(of: volume)
        _ = try await context.callIfServed(entry, .disconnectVolume, .object(arguments))
        if remaining.isEmpty, told.isEmpty {
            _ = try await context.callIfServed(entry, .unexportVolume, .members(["volume": try await context.describe(volume)]))
        }
    }

    /// os-initialize_connection
    static let connect = Flow(
        name: FlowName.connectVolume, version: 1, whenInterrupted: .revert, isAwaited: true,
        steps: connectStep(
            { context, volume in
                let readOnly = (try? JSON(parsing: volume.adminMetadata))?["readonly"]?.string == "True"
                return (context.operation.arguments["connector"] ?? .object([:]), readOnly ? "ro" : "rw")
            },
            record: { context, _, _, tx in
                try HostConnections.begin(context.volumeID, connector: context.operation.arguments["connector"] ?? .object([:]), in: tx)
            }),
        failed: { _, _, _, _ in .over })

    /// os-terminate_connection, os-force_detach
    static let disconnect = Flow(
        name: FlowName.disconnectVolume, version: 1, isAwaited: true,
        steps: [
            Step(
                name: "disconnect",
                perform: { context, _ in
                    let volume = try await context.volume()
                    guard volume.host != nil else { return .object([]) }
                    try await disconnect(
                        context, volume, connector: context.operation.arguments["connector"],
                        except: context.operation.arguments["attachment_id"]?.string, endsHost: true)
                    return .object([])
                },
                record: { context, _, _, tx in
                    let arguments = context.operation.arguments
                    try HostConnections.end(context.volumeID, connector: arguments["connector"], in: tx)
                    if arguments["detach"]?.bool == true {
                        if let id = arguments["attachment_id"]?.string { try Attachments.remove(id, in: tx) }
                        try Volumes.refreshAttachState(of: context.volumeID, in: tx)
                    } else {
                        try Volumes.unreserve(context.volumeID, caller: context.operation.caller, in: tx)
                    }
                })
        ],
        failed: { _, _, _, _ in .over })

    /// PUT /attachments/{id}, POST /attachments with a connector
    static let connectAttachment = Flow(
        name: FlowName.connectAttachment, version: 1, whenInterrupted: .revert, isAwaited: true,
        steps: connectStep { context, _ in
            guard let id = context.operation.arguments["attachment_id"]?.string,
                let attachment = try await context.services.database.read({ try Attachments.find(id, in: $0) }),
                let connector = attachment.connector
            else { throw StorageError.attachmentNotFound(context.operation.arguments["attachment_id"]?.string ?? "") }
            return (try JSON(parsing: connector.reveal()), attachment.mode ?? "rw")
        } + [
            Step(
                name: "keep",
                record: { context, _, output, tx in
                    guard let id = context.operation.arguments["attachment_id"]?.string else { return }
                    var info = output.json.object ?? [:]
                    var flat = info["data"]?.object ?? [:]
                    info["data"] = nil
                    for member in info.members { flat[member.name] = member.value }
                    flat["attachment_id"] = .string(id)
                    try Attachments.connected(id, connectionInfo: Secret(JSON.object(flat).text), in: tx)
                })
        ],
        failed: { context, _, failure, tx in
            guard let id = context.operation.arguments["attachment_id"]?.string else { return .over }
            try context.tell(.updateAttachment, .attachFailed, in: tx)
            if context.operation.arguments["new"]?.bool == true, failure.undone {
                try Attachments.remove(id, in: tx)
            } else {
                try Attachments.setStatus("error_attaching", of: id, in: tx)
            }
            if try Volumes.find(context.volumeID, in: tx)?.status == "attaching" {
                try Volumes.refreshAttachState(of: context.volumeID, in: tx)
            }
            return .over
        })

    /// DELETE /attachments/{id}
    static let deleteAttachment = Flow(
        name: FlowName.deleteAttachment, version: 1, isAwaited: true,
        steps: [
            Step(
                name: "disconnect",
                perform: { context, _ in
                    let volume = try await context.volume()
                    guard let id = context.operation.arguments["attachment_id"]?.string, volume.host != nil,
                        let attachment = try await context.services.database.read({ try Attachments.find(id, in: $0) })
                    else { return .object([]) }
                    let connector = try attachment.connector.map { try JSON(parsing: $0.reveal()) }
                    try await disconnect(context, volume, connector: connector, except: id)
                    return .object([])
                },
                record: { context, _, _, tx in
                    if let id = context.operation.arguments["attachment_id"]?.string { try Attachments.remove(id, in: tx) }
                    try Volumes.refreshAttachState(of: context.volumeID, in: tx)
                })
        ],
        failed: { context, _, _, tx in
            if let id = context.operation.arguments["attachment_id"]?.string {
                try Attachments.setStatus("error_detaching", of: id, in: tx)
            }
            return .over
        })
}
