import BlockStorage
import Database
import DriverHost
import JSON

/// Takes over what lies in a backend as a volume.
enum ManageVolume: FlowDefinition {
    typealias Arguments = ManageVolumeArguments
    typealias State = ManageVolumeState

    static let steps: [Step<Self>] = [
        .place(
            "measure",
            prepare: { run, pools in
                let backend = try pools.backend(at: run.arguments.host)
                await pools.waitForReport(of: run.arguments.host)
                return try await measure(run.arguments, backend)
            },
            record: { run, pools, size, tx in
                let volume = try run.volume(in: tx)
                let asked = run.arguments.host
                guard let pool = try pools.pools(in: tx).first(where: { $0.host == asked || $0.backend == asked }) else {
                    throw StorageError(.failed, "\(asked) has reported no such pool.")
                }
                try Pools.add(pool.host, gigabytes: size, volumes: 1, in: tx)
                let serviceID = try Services.id(ofBackend: pool.backend, in: tx)
                try Volumes.place(volume, host: pool.host, serviceID: serviceID, zone: pool.zone, in: tx)
                try Volumes.resize(volume, to: size, status: .managing, in: tx)
                run.state.host = pool.host
                if size > 0 {
                    try Quotas.charge(
                        Charge(gigabytes: size), type: volume.typeName, totalSize: size, project: volume.projectID,
                        defaults: run.settings.quotas, in: tx)
                }
            },
            recordUndo: { run, tx in
                guard let host = run.state.host, let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
                try Volumes.place(volume, host: nil, serviceID: nil, zone: volume.availabilityZone, in: tx)
                try Volumes.resize(volume, to: 0, status: .managing, in: tx)
                try Quotas.add(Charge(gigabytes: -volume.size), type: volume.typeName, project: volume.projectID, in: tx)
                run.state.host = nil
            }),
        .onVolume(
            "take over",
            perform: { run, volume, backend in
                let output = try await backend.call(
                    .manageVolume,
                    .members([
                        "volume": run.driverArguments(new: volume), "reference": DriverValue(.object(run.arguments.reference)),
                    ]))
                return CreatedObject(output, on: backend)
            },
            record: { run, taken, tx in
                guard let taken else { return }
                let volume = try run.volume(in: tx)
                let size = taken.size ?? volume.size
                if size != volume.size, let host = volume.host {
                    try Pools.add(host, gigabytes: size - volume.size, volumes: 0, in: tx)
                    try Volumes.resize(volume, to: size, status: .managing, in: tx)
                    try Quotas.add(Charge(gigabytes: size - volume.size), type: volume.typeName, project: volume.projectID, in: tx)
                }
                try run.markCreated(volume, taken, in: tx)
            }),
    ]

    /// The size of the object in GiB, from the driver's list; 0 where it has none, or the reference names nothing.
    private static func measure(_ arguments: Arguments, _ backend: OperationBackend) async throws -> Int {
        let listing: DriverValue
        do { listing = try await backend.call(.listVolumes, .object([])) } catch let failure as DriverFailure
            where failure.code == .unsupported
        { return 0 }
        guard let name = ManagedVolume.name(of: arguments.reference) else { return 0 }
        let found = (listing["volumes"]?.list ?? []).filter { $0["name"]?.string == name || $0["reference"]?.string == name }
        guard let object = found.first else {
            let problems = listing["problems"]?.list?.compactMap(\.string) ?? []
            throw DriverFailure(.notFound, "\(arguments.host) holds no \(name)" + problems.map { "; \($0)" }.joined())
        }
        guard found.count == 1 else {
            let references = found.compactMap { $0["reference"]?.string }.joined(separator: ", ")
            throw DriverFailure(.invalid, "\(arguments.host) holds \(found.count) objects called \(name): \(references)")
        }
        return object["size"]?.integer.flatMap { Int(exactly: $0) } ?? 0
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        if let volume = try Volumes.lock(run.volumeID, in: tx) { try Volumes.setStatus(.errorManaging, of: volume, in: tx) }
        try run.addUserMessage(.createVolume, .createFailed, in: tx)
        return .finished
    }
}

/// Forgets a volume; its storage stays.
enum UnmanageVolume: FlowDefinition {
    typealias Arguments = UnmanageVolumeArguments

    static let steps: [Step<Self>] = [
        .onVolume(
            "leave", skipsUnplaced: true,
            perform: { run, volume, backend in
                let arguments = DriverValue.members(["volume": try await run.driverArguments(volume)])
                // What stays is the volume as its user knows it.
                try await run.dropBackupSnapshots(of: volume, on: backend)
                _ = try await backend.callIfSupported(.unexportVolume, arguments)
                _ = try await backend.callIfSupported(.unmanageVolume, arguments)
            },
            record: { run, _, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try run.recordUnmanaged(volume.nameID ?? volume.id, "volume", in: tx)
                try Volumes.erase(volume, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        if let volume = try Volumes.lock(run.volumeID, in: tx) {
            // Nothing was changed then.
            let isBusy = failure.code == .busy
            try Volumes.setStatus(isBusy ? volume.previousStatus ?? .available : .errorUnmanaging, of: volume, in: tx)
        }
        try run.addUserMessage(.unmanageVolume, .unknown, in: tx)
        return .finished
    }
}
