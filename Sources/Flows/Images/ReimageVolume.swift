import BlockStorage
import Database
import DriverHost
import JSON

/// Writes an image over a volume. Half of it is neither the old nor the new, so nobody can take it back.
enum ReimageVolume: FlowDefinition {
    typealias Arguments = ReimageVolumeArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "write",
            perform: { run, services in
                let volume = try await run.volume()
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                try await run.read { try requireUnconnected(volume, in: $0) }
                return try await OperationImages(run.operation, services).fetch(
                    run.arguments.image, to: .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: host,
                    targetIsZero: false)
            },
            record: { run, isVerified, tx in
                let volume = try run.volume(in: tx)
                try Volumes.becameImage(
                    volume, run.arguments.image, isVerified: isVerified, status: volume.previousStatus ?? .available, in: tx)
            }),
        .tellReimaged(),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if volume.status == .downloading { try Volumes.setStatus(.error, of: volume, in: tx) }
        try run.addUserMessage(.reimageVolume, ImageFailure.detail(failure), in: tx)
        return .finished
    }
}

extension Step {
    /// Instances that wait for a volume's new image are told; that one does not hear it changes nothing about the volume.
    static func tellReimaged() -> Step {
        .onStore(
            "tell",
            perform: { run, services in
                let volume = try await run.volume()
                guard volume.status == .reserved else { return true }
                let instances = try await run.read { try Attachments.ofVolume(volume.id, in: $0).compactMap(\.instanceID) }
                guard !instances.isEmpty else { return true }
                do {
                    try await services.requireCompute().tellReimaged(volume: volume.id, instances: instances)
                    return true
                } catch {
                    services.log.error(
                        "the Compute service could not be told of a volume's new image: \(error)",
                        metadata: ["volume": "\(volume.id)", "request_id": "\(run.operation.requestID)"])
                    return false
                }
            },
            record: { run, isTold, tx in
                if !isTold { try run.addUserMessage(.reimageVolume, .reimageFailed, in: tx) }
            })
    }
}
