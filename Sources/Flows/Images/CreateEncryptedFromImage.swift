import BlockStorage
import Database
import DriverHost
import JSON
import Transfers

/// Places and makes a new volume of an encrypted type, and writes an image to it: as it is, if it is encrypted already, by a copy of the key
/// that it is encrypted by; else through the encryption.
enum CreateEncryptedFromImage: FlowDefinition {
    typealias Arguments = CreateEncryptedFromImageArguments
    typealias State = PlacedVolumeState

    static let cancellation = Cancellation.byProject

    static let steps: [Step<Self>] = [
        place(),
        .onVolume(
            "make",
            perform: { run, volume, backend in
                let encryption = try await encryption(of: volume, run)
                try backend.requireEncrypted()
                try backend.requireProvider(encryption)
                let key = try await backend.keys.make(for: volume, encryption, origin: run.arguments.imageKeyID)
                let created = try await backend.call(.createVolume, .members(["volume": run.driverArguments(new: volume)]))
                return Made(object: CreatedObject(created, on: backend), keyID: key)
            },
            record: { run, made, tx in
                guard let made else { return }
                let volume = try run.volume(in: tx)
                try run.markCreated(volume, made.object, in: tx)
                try Volumes.setEncryptionKey(made.keyID, of: volume, in: tx)
                try Volumes.setStatus(.downloading, of: volume, in: tx)
            },
            undo: { run, volume, backend in
                _ = try await backend.call(.deleteVolume, .members(["volume": run.driverArguments(volume)]), wait: 5)
                try await backend.keys.delete(volume.encryptionKeyID, for: .volume(volume.id))
            },
            recordUndo: { run, tx in
                guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return }
                try Volumes.setEncryptionKey(nil, of: volume, in: tx)
                try Volumes.setStatus(.creating, of: volume, in: tx)
            }),
        .onStore(
            "write",
            perform: { run, services in
                let volume = try await run.volume()
                guard let host = volume.host, let keyID = volume.encryptionKeyID else {
                    throw DriverFailure(.unavailable, "the volume lies nowhere, or has no key")
                }
                let backend = try OperationBackend(at: host, run.operation, services)
                var image = run.arguments.image
                var order: LUKSOrder?
                if run.arguments.imageKeyID == nil {
                    order = try await backend.luksOrder(for: encryption(of: volume, run), keyID: keyID)
                } else if backend.preparesEncrypted {
                    // Hosts of the backend look for the header: one without it is no volume there.
                    image.diskFormat = "luks"
                }
                return try await OperationImages(run.operation, services).fetch(
                    image, to: .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: host, targetIsZero: true,
                    through: order, isEncrypted: order == nil)
            },
            record: recordImage),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try giveUp(&run, failure, in: tx)
    }

    private struct Made: Sendable {
        let object: CreatedObject
        let keyID: String
    }

    private static func encryption(of volume: Volume, _ run: FlowRun<Self>) async throws -> TypeEncryption {
        guard let found = try await run.read({ try TypeEncryptions.find(ofType: volume.volumeTypeID, in: $0) }) else {
            throw DriverFailure(.invalid, "its type does not say how the volume is encrypted")
        }
        return found
    }
}
