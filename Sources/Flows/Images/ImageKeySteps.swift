import BlockStorage
import Database
import DriverHost
import JSON

// What the flows do about the keys of images that are made of encrypted volumes.

extension FlowRun {
    /// Gives the image of an encrypted volume a key of its own, which it names: a copy of the volume's, since that goes with the volume.
    func giveKey(of volume: Volume, toImage id: String, _ services: FlowServices) async throws {
        guard let key = volume.encryptionKeyID else { return }
        let copy = try await OperationKeys(services).copy(key, for: .image(id), userID: volume.userID)
        try await recordPart { tx in try ImageKeys.note(copy, ofImage: id, project: volume.projectID, in: tx) }
        try await OperationImages(operation, services).access.describe(
            id, as: [ImageKeys.property: .string(copy), ImageKeys.deletionProperty: .string(ImageKeys.onDeletion)])
    }

    /// Deletes an image that has no data, and its key.
    func takeBackImage(_ id: String, _ services: FlowServices) async throws {
        guard try await OperationImages(operation, services).access.deleteUnfinished(id) else { return }
        // The volume may be gone by now.
        let volume = try await read { try Volumes.find(volumeID, in: $0) }
        let isKnown = try await read { try ImageKeys.isKnown(ofImage: id, in: $0) }
        guard isKnown || volume?.encryptionKeyID != nil else { return }
        try await OperationKeys(services).delete(nil, for: .image(id))
        try await recordPart { try ImageKeys.forget(ofImage: id, in: $0) }
    }
}
