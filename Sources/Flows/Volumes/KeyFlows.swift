import BlockStorage
import Database
import DriverHost
import JSON
import Primitives

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

    /// It is tried again, for ever, by `LeftKeySweep`.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        let arguments = run.arguments
        try LeftKeys.note(
            nil, ofVolume: arguments.volumeID, madeBy: arguments.operationID, by: run.operation, message: failure.message, in: tx)
        return .finished
    }
}

/// Deletes the key of a volume that is gone, or that has another key now.
enum DeleteKey: FlowDefinition {
    typealias Arguments = DeleteKeyArguments

    static let steps: [Step<Self>] = [
        .onStore(
            "delete",
            perform: { run, services in
                try await OperationKeys(services).deletePatiently(run.arguments.keyID, for: .volume(run.arguments.volumeID))
            },
            record: { _, _, _ in })
    ]

    /// - Parameters:
    ///   - keyID: nil: one that was made for the volume and was never recorded.
    ///   - operation: on whose behalf.
    static func begin(_ keyID: String?, of volume: Volume, for operation: BlockStorage.Operation, in tx: any Transaction) throws {
        _ = try Operations.create(
            DeleteKeyArguments(keyID: keyID, volumeID: volume.id), resourceType: "key", resourceID: keyID ?? volume.id,
            projectID: volume.projectID, caller: operation.caller, claims: [.exclusive(new: UUID.random())], in: tx)
    }

    /// It is tried again, for ever, by `LeftKeySweep`.
    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try LeftKeys.note(
            run.arguments.keyID, ofVolume: run.arguments.volumeID, by: run.operation, message: failure.message, in: tx)
        return .finished
    }
}
