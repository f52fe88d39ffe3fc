import BlockStorage
import Database
import DriverHost
import JSON

/// Sends a volume's bytes to an image that the request has made.
enum UploadVolume: FlowDefinition {
    typealias Arguments = UploadVolumeArguments

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        .onStore(
            "send",
            perform: { run, services in
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                try await run.read { try requireUnconnected(volume, in: $0) }
                try await run.giveKey(of: volume, toImage: run.arguments.imageID, services)
                try await OperationImages(run.operation, services).store(
                    .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: host, to: run.arguments.imageID,
                    diskFormat: run.arguments.diskFormat, containerFormat: run.arguments.containerFormat)
            },
            record: { run, _, tx in try finish(run, in: tx) },
            undo: { run, services in try await run.takeBackImage(run.arguments.imageID, services) })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try finish(run, in: tx)
        try run.addUserMessage(.uploadVolume, .uploadFailed, in: tx)
        return .finished
    }

    /// The volume was only read: it is again what it was.
    private static func finish(_ run: FlowRun<Self>, in tx: any Transaction) throws {
        guard let volume = try Volumes.lock(run.volumeID, in: tx), volume.status == .uploading else { return }
        try Volumes.setStatus(volume.previousStatus ?? .available, of: volume, in: tx)
    }
}
