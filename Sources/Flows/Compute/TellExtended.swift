import BlockStorage
import Database

/// Tells the Compute service that a volume of instances is larger, so that their guests see it. An operation of its own, which holds no
/// claim: the volume is of use meanwhile, however long the Compute service takes.
enum TellExtended: FlowDefinition {
    typealias Arguments = TellExtendedArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "tell",
            perform: { run, services in
                let volume = run.volumeID
                let instances = try await run.read { try Attachments.ofVolume(volume, in: $0).compactMap(\.instanceID) }
                guard !instances.isEmpty else { return true }
                do {
                    try await services.requireCompute().tellExtended(volume: volume, instances: instances)
                    return true
                } catch {
                    services.log.error(
                        "the Compute service could not be told that a volume is larger: \(error)",
                        metadata: ["volume": "\(volume)", "request_id": "\(run.operation.requestID)"])
                    return false
                }
            },
            record: { run, isTold, tx in
                if !isTold { try run.addUserMessage(.extendVolume, .computeNotTold, in: tx) }
            })
    ]

    /// Nothing about the volume depends on it.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.addUserMessage(.extendVolume, .computeNotTold, in: tx)
        return .finished
    }

    /// Writes the operation into the log, for an extension that ends, where instances use the volume.
    static func begin(after run: FlowRun<ExtendVolume>, in tx: any Transaction) throws {
        guard run.settings.hasCompute, try Attachments.ofVolume(run.volumeID, in: tx).contains(where: { $0.instanceID != nil })
        else { return }
        _ = try Operations.create(
            TellExtendedArguments(), resourceType: "volume", resourceID: run.volumeID, projectID: run.operation.projectID,
            caller: .service(requestID: run.operation.requestID), claims: [], in: tx)
    }
}
