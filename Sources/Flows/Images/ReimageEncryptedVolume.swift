import BlockStorage
import Database
import DriverHost
import JSON
import Transfers

/// Writes an image over an encrypted volume: a plain one through the encryption, by the volume's key, and one that is encrypted as it is, by a
/// copy of its key, which the volume has from then on. Until the first byte is written the volume is what it was.
enum ReimageEncryptedVolume: FlowDefinition {
    typealias Arguments = ReimageEncryptedVolumeArguments
    typealias State = ReimageEncryptedVolumeState

    static let steps: [Step<Self>] = [
        .onStore(
            "prepare",
            perform: { run, services in
                let (volume, backend) = try await place(run, services)
                _ = try await order(for: volume, on: backend, run)
                _ = try await copyKey(for: volume, run, services)
            },
            record: { _, _, _ in }, undo: discardCopy),
        .onStore(
            "write",
            perform: { run, services in
                let (volume, backend) = try await place(run, services)
                // After a death they are made again: nothing secret is kept with the operation.
                let order = try await order(for: volume, on: backend, run)
                let key = try await copyKey(for: volume, run, services)
                var image = run.arguments.image
                // Hosts of the backend look for the header: one without it is no volume there.
                if key != nil, backend.preparesEncrypted { image.diskFormat = "luks" }
                let isVerified = try await OperationImages(run.operation, services).fetch(
                    image, to: .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: volume.host ?? "",
                    targetIsZero: false, through: order, isEncrypted: order == nil)
                return (key: key, isVerified: isVerified)
            },
            record: { run, written, tx in
                let volume = try run.volume(in: tx)
                if let key = written.key {
                    // Nothing is encrypted by the old one any more.
                    if let old = volume.encryptionKeyID, old != key {
                        try DeleteKey.begin(old, of: volume.value, for: run.operation, in: tx)
                    }
                    try Volumes.setEncryptionKey(key, of: volume, in: tx)
                }
                try Volumes.becameImage(
                    volume, run.arguments.image, isVerified: written.isVerified, status: volume.previousStatus ?? .available, in: tx)
                run.state.isWritten = true
            }),
        .tellReimaged(),
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        guard let volume = try Volumes.lock(run.volumeID, in: tx) else { return .finished }
        if volume.status == .downloading, !run.state.isWritten {
            // What was written in part is neither the old nor the new.
            try Volumes.setStatus(failure.step == "prepare" ? volume.previousStatus ?? .available : .error, of: volume, in: tx)
        }
        if !failure.isUndone, run.arguments.imageKeyID != nil, !run.state.isWritten {
            // The copy may be what could not be taken back.
            _ = try Operations.create(
                DiscardKeyArguments(volumeID: run.volumeID, operationID: run.operation.id), resourceType: "key",
                resourceID: run.operation.id, projectID: run.operation.projectID, caller: run.operation.caller,
                claims: [.exclusive(new: run.operation.id)], in: tx)
        }
        try run.addUserMessage(.reimageVolume, ImageFailure.detail(failure), in: tx)
        return .finished
    }

    /// The volume, which nobody is connected to, and where it lies.
    private static func place(_ run: FlowRun<Self>, _ services: FlowServices) async throws -> (Volume, OperationBackend) {
        let volume = try await run.volume()
        guard let host = volume.host, volume.encryptionKeyID != nil else {
            throw DriverFailure(.unavailable, "the volume lies nowhere, or has no key")
        }
        try await run.read { try requireUnconnected(volume, in: $0) }
        let backend = try OperationBackend(at: host, run.operation, services)
        try backend.requireEncrypted()
        return (volume, backend)
    }

    /// How a plain image is encrypted; nil for one that is.
    private static func order(for volume: Volume, on backend: OperationBackend, _ run: FlowRun<Self>) async throws -> LUKSOrder? {
        guard run.arguments.imageKeyID == nil, let keyID = volume.encryptionKeyID else { return nil }
        guard let encryption = try await run.read({ try TypeEncryptions.find(ofType: volume.volumeTypeID, in: $0) }) else {
            throw DriverFailure(.invalid, "its type does not say how the volume is encrypted")
        }
        return try await backend.luksOrder(for: encryption, keyID: keyID)
    }

    /// A copy of an encrypted image's key, under a name of the operation's; nil for a plain image.
    private static func copyKey(for volume: Volume, _ run: FlowRun<Self>, _ services: FlowServices) async throws -> String? {
        guard let key = run.arguments.imageKeyID else { return nil }
        return try await OperationKeys(services).copy(key, for: .restored(volume.id, operation: run.operation.id), userID: volume.userID)
    }

    @Sendable private static func discardCopy(_ run: FlowRun<Self>, _ services: FlowServices) async throws {
        // Once it is written the copy is the volume's key.
        guard run.arguments.imageKeyID != nil, !run.state.isWritten else { return }
        try await OperationKeys(services).delete(nil, for: .restored(run.volumeID, operation: run.operation.id))
    }
}
