import BlockStorage
import Database
import DriverHost
import JSON

/// Lets the new owner of an encrypted volume read its key, and the old one no more. Nobody can attach the volume before.
enum OpenVolumeKey: FlowDefinition {
    typealias Arguments = OpenVolumeKeyArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "open",
            perform: { run, services in
                let volume = try await run.volume()
                if let key = volume.encryptionKeyID { try await OperationKeys(services).open(key, to: volume.userID) }
            },
            record: { _, _, _ in })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.addUserMessage(.updateAttachment, .keyNotOpened, in: tx)
        return .finished
    }
}

/// Deletes a key that an operation had made and could not delete when it was taken back.
enum DiscardKey: FlowDefinition {
    typealias Arguments = DiscardKeyArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "discard",
            perform: { run, services in
                try await OperationKeys(services).discard(.restored(run.arguments.volumeID, operation: run.arguments.operationID))
            },
            record: { _, _, _ in })
    ]

    /// The log says which key it is.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
