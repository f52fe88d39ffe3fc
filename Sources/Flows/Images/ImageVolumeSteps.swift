import BlockStorage
import Database
import DriverHost

/// What flows have that make a new volume with an image in it.
extension FlowDefinition where Arguments: ImageVolumeArguments, State: NewVolumeState {
    static func place() -> Step<Self> {
        .place(
            "place",
            prepare: { run, pools in
                await pools.waitForReports(run)
                return await pools.scheduler.instance(run.arguments.schedulerHints)
            },
            record: { run, pools, instance, tx in try run.placeNewVolume(as: run.arguments.placement, instance, pools, in: tx) },
            recordUndo: { run, tx in try run.takeBackPlacement(in: tx) })
    }

    static func empty(_ volume: Volume, _ backend: OperationBackend, _ run: FlowRun<Self>) async throws -> CreatedObject {
        CreatedObject(try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: volume)])), on: backend)
    }

    @Sendable static func remove(_ run: FlowRun<Self>, _ volume: Volume, _ backend: OperationBackend) async throws {
        _ = try await backend.call(.deleteVolume, .members(["volume": run.driverArguments(volume)]), wait: 5)
    }

    @Sendable static func recordRemoval(_ run: inout FlowRun<Self>, _ tx: any Transaction) throws {
        if let volume = try Volumes.lock(run.volumeID, in: tx) { try Volumes.setStatus(.creating, of: volume, in: tx) }
    }

    @Sendable static func recordImage(_ run: inout FlowRun<Self>, _ isVerified: Bool, _ tx: any Transaction) throws {
        try Volumes.becameImage(run.volume(in: tx), run.arguments.image, isVerified: isVerified, status: .available, in: tx)
    }

    static func giveUp(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if run.isWorthAnotherPlacement(after: failure) { return .retry }
        // Worth another backend unless the volume's own request is at fault; an image that could not be read is that nowhere.
        if failure.isUndone, failure.step == "make", failure.code != .invalid, run.state.attempted.count < run.settings.placementAttempts {
            return .retry
        }
        try Volumes.setStatus(.error, of: volume, in: tx)
        switch failure.step {
        case "place": try run.addUserMessage(.scheduleVolume, .noBackend, in: tx)
        case "make": try run.addUserMessage(.createVolume, OperationKeys.isAtFault(failure) ? .keyMissing : .createFailed, in: tx)
        default: try run.addUserMessage(.downloadImage, ImageFailure.detail(failure), in: tx)
        }
        return .finished
    }
}
