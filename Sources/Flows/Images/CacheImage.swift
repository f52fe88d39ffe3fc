import BlockStorage
import Database
import DriverHost
import JSON

/// Makes a volume of the image cache, and writes an image to it. When it fails nothing of it stays.
enum CacheImage: FlowDefinition {
    typealias Arguments = CacheImageArguments
    typealias State = CacheImageState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .place(
            "place",
            prepare: { run, pools in await pools.waitForReports(run) },
            record: { run, pools, _, tx in
                let volume = try run.volume(in: tx)
                // Beside the volume that asked for it, whose type was looked at.
                let request = PlacementRequest(
                    volumeID: volume.id, size: volume.size, zones: [], extraSpecs: [:], requiredBackend: nil, attempted: [],
                    currentHost: run.arguments.host)
                let pool = try pools.place(request, volume, in: tx)
                try Volumes.place(volume, host: pool.host, serviceID: Services.id(ofBackend: pool.backend, in: tx), zone: pool.zone, in: tx)
                run.state.host = pool.host
            },
            recordUndo: { run, tx in
                guard let host = run.state.host, let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try Pools.add(host, gigabytes: -volume.size, volumes: -1, in: tx)
                try Volumes.place(volume, host: nil, serviceID: nil, zone: volume.availabilityZone, in: tx)
                run.state.host = nil
            }),
        .onVolume(
            "make",
            perform: { run, volume, backend in
                CreatedObject(try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: volume)])), on: backend)
            },
            record: { run, created, tx in
                guard let created else { return }
                let volume = try run.volume(in: tx)
                try run.markCreated(volume, created, in: tx)
                try Volumes.setStatus(.downloading, of: volume, in: tx)
            },
            undo: { run, volume, backend in
                _ = try await backend.call(.deleteVolume, .members(["volume": run.driverArguments(volume)]), wait: 5)
            }),
        .onStore(
            "write",
            perform: { run, services in try await OperationImages(run.operation, services).fetch(run.arguments.image, to: run) },
            record: { run, isVerified, tx in
                try Volumes.becameImage(run.volume(in: tx), run.arguments.image, isVerified: isVerified, status: .available, in: tx)
            }),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        guard !failure.isUndone else {
            try Volumes.erase(volume, in: tx)
            return .finished
        }
        // The backend may still have it: it goes as long as that takes.
        try Volumes.setStatus(.deleting, of: volume, in: tx)
        _ = try Operations.create(
            DeleteVolumeArguments(), resourceType: "volume", resourceID: volume.id, projectID: volume.projectID,
            caller: run.operation.caller, claims: [.exclusive(volume)], in: tx)
        return .finished
    }
}
