public import Database
public import JSON
import Primitives

/// An image that is to be made of a volume.
public struct NewImage: Sendable {
    public var id: String
    public var name: String
    public var diskFormat, containerFormat: String
    /// nil: what the Image service gives those that say nothing.
    public var visibility: String?
    public var isProtected: Bool?

    public init(id: String, name: String, diskFormat: String, containerFormat: String) {
        self.id = id
        self.name = name
        self.diskFormat = diskFormat
        self.containerFormat = containerFormat
    }
}

extension VolumeRequests {
    /// An encrypted volume's bytes are sent as they lie.
    private func checkFormat(of image: NewImage, for volume: Volume) throws {
        guard volume.isEncrypted else { return }
        guard image.diskFormat == "raw", image.containerFormat == "bare" else {
            throw StorageError(
                .invalid,
                "An encrypted volume uploaded as an image must use 'raw' disk_format and 'bare' container_format, which are the defaults "
                    + "for these options.")
        }
        guard volume.encryptionKeyID != nil else {
            throw StorageError.invalidVolume("Volume \(volume.id) is to be encrypted and has no key.")
        }
    }

    /// Throws unless the volume may be made an image of. `isForced`: though it is in use.
    public func checkUpload(of id: String, to image: NewImage, isForced: Bool, caller: Caller, in connection: any Connection) throws {
        let volume = try Volumes.get(id, for: caller, in: connection)
        try checkFormat(of: image, for: volume)
        if volume.encryptionKeyID != nil {
            try ImageKeys.requireRoom(ofProject: volume.projectID, limit: imageKeyLimit, in: connection)
        }
        let transition = uploading(isForced)
        guard transition.rule.from?.contains(volume.status) == true else { throw Self.notUploadable(id, transition) }
    }

    /// Without `enable_force_upload` nobody forces it.
    private func uploading(_ isForced: Bool) -> VolumeTransition { isForced && forcesUpload ? .uploadAttached : .upload }

    private static func notUploadable(_ id: String, _ transition: VolumeTransition) -> StorageError {
        let states = (transition.rule.from ?? []).map(\.rawValue).joined(separator: " or ")
        return StorageError.invalidVolume("Volume \(id) status must be \(states)")
    }

    /// The image as the Image service is told of it: the volume's image metadata become its properties, as far as an image may have them.
    public func description(of image: NewImage, from volume: String, in connection: any Connection) throws -> JSONObject {
        var members: JSONObject = [
            "id": .string(image.id), "name": .string(image.name), "disk_format": .string(image.diskFormat),
            "container_format": .string(image.containerFormat),
        ]
        if let visibility = image.visibility { members["visibility"] = .string(visibility) }
        if let isProtected = image.isProtected { members["protected"] = .bool(isProtected) }
        for (name, value) in try Volumes.map(.image, of: volume, in: connection).members {
            // Of another image, and by its user's word: Glance would delete that key with this one.
            guard ![ImageKeys.property, ImageKeys.deletionProperty].contains(name), members[name] == nil,
                !imageCoreProperties.contains(name), !SourceImage.isBase(name),
                !imageReservedNamespaces.contains(where: { name.utf8.starts(with: $0.utf8) })
            else { continue }
            members[name] = value
        }
        return members
    }

    /// Sends a volume's bytes to an image that was made for it. `isForced`: those of a snapshot, if the volume is in use.
    public func upload(_ id: String, to image: NewImage, isForced: Bool, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        try checkFormat(of: image, for: volume.value)
        let transition = uploading(isForced)
        guard try Volumes.perform(transition, on: volume, in: tx) else { throw Self.notUploadable(id, transition) }
        if transition == .uploadAttached {
            let snapshotID = UUID.random()
            try start(
                UploadAttachedVolumeArguments(image, snapshotID: snapshotID), volume: id, project: volume.projectID, caller: caller,
                claims: [.exclusive(volume), .exclusive(new: snapshotID)], in: tx)
            return
        }
        try start(
            UploadVolumeArguments(imageID: image.id, diskFormat: image.diskFormat, containerFormat: image.containerFormat), volume: id,
            project: volume.projectID, caller: caller, claims: [.exclusive(volume)], in: tx)
    }

    /// The key of an encrypted image that an encrypted volume will have in the place of its own; nil: the volume keeps its key.
    private func keyForReimage(_ volume: Volume, _ image: SourceImage, in tx: any Transaction) throws -> String? {
        guard volume.isEncrypted else {
            try ImageKeys.requirePlain(image)
            return nil
        }
        guard volume.encryptionKeyID != nil else {
            throw StorageError.invalidVolume("Volume \(volume.id) is to be encrypted and has no key.")
        }
        guard let key = try ImageKeys.key(of: image, project: volume.projectID, in: tx) else {
            // Known before anything of the volume is touched.
            try TypeEncryptions.check(image, inVolumeOf: volume.volumeTypeID, size: volume.size, in: tx)
            return nil
        }
        try requireReplaceableKey(of: volume.id, in: tx)
        return key
    }

    /// Writes an image over a volume. `allowsReserved`: one that is reserved for an instance, too.
    public func reimage(_ id: String, from image: SourceImage, allowsReserved: Bool, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        let imageKey = try keyForReimage(volume.value, image, in: tx)
        guard try Attachments.ofVolume(id, in: tx).count <= 1 else {
            throw StorageError(.conflict, "Cannot re-image a volume which is attached to more than one server.")
        }
        let transition = allowsReserved ? VolumeTransition.reimageReserved : .reimage
        let states = (transition.rule.from ?? []).map(\.rawValue)
        guard volume.host != nil, try Volumes.perform(transition, on: volume, in: tx) else {
            throw StorageError.invalidVolume(
                "Volume \(id) status must be \(states.joined(separator: " or ")), but current status is \(volume.status).")
        }
        guard image.snapshotID == nil else {
            throw StorageError.invalidInput("Image \(image.id) stands for a snapshot and has no data to be written to a volume.")
        }
        try image.check(volumeSize: volume.size)
        try image.requireRoom()
        if volume.encryptionKeyID != nil {
            try start(
                ReimageEncryptedVolumeArguments(of: image, keyID: imageKey), volume: id, project: volume.projectID, caller: caller,
                claims: [.exclusive(volume)], in: tx)
            return
        }
        try start(
            ReimageVolumeArguments(of: image), volume: id, project: volume.projectID, caller: caller, claims: [.exclusive(volume)], in: tx)
    }
}

extension Volumes {
    /// From now on the volume holds an image, whose metadata it has instead of what it had. `isVerified`: the image's signature was seen to
    /// be right.
    public static func becameImage(
        _ volume: Locked<Volume>, _ image: KeptImage, isVerified: Bool, status: VolumeStatus, in tx: any Transaction
    ) throws {
        try updateMap(.image, of: volume, in: tx) { $0 = image.volumeMetadata(isVerified: isVerified) }
        try tx.update(
            table, table.id(volume.id), set: table.status(status), table.bootable(true), table.updatedAt(tx.now), table.launchedAt(tx.now))
    }
}
