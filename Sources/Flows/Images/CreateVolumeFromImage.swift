import BlockStorage
import Database
import DriverHost
import JSON

/// Places a new volume, makes it, and writes an image to it.
enum CreateVolumeFromImage: FlowDefinition {
    typealias Arguments = CreateVolumeFromImageArguments
    typealias State = CreateVolumeFromImageState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .place(
            "place",
            prepare: { run, pools in
                await pools.waitForReports(run)
                return await pools.scheduler.instance(run.arguments.schedulerHints)
            },
            record: { run, pools, instance, tx in try run.placeNewVolume(as: run.arguments.placement, instance, pools, in: tx) },
            recordUndo: { run, tx in try run.takeBackPlacement(in: tx) }),
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
            },
            recordUndo: { run, tx in
                if let volume = try Volumes.lock(run.volumeID, in: tx) { try Volumes.setStatus(.creating, of: volume, in: tx) }
            }),
        .onStore(
            "write",
            perform: { run, services in
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                try await OperationImages(run.operation, services).fetch(
                    run.arguments.image, to: .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: host,
                    targetIsZero: true)
            },
            record: { run, _, tx in
                try Volumes.becameImage(run.volume(in: tx), metadata: run.arguments.image.metadata, status: .available, in: tx)
            }),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        // Worth another backend unless the volume's own request is at fault; an image that could not be read is that nowhere.
        if failure.isUndone, failure.step == "make", failure.code != .invalid, run.state.attempted.count < run.settings.placementAttempts {
            return .retry
        }
        try Volumes.setStatus(.error, of: volume, in: tx)
        switch failure.step {
        case "place": try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        case "make": try run.addUserMessage(.createVolume, .createFailed, in: tx)
        default: try run.addUserMessage(.downloadImage, ImageFailure.detail(failure), in: tx)
        }
        return .finished
    }
}
