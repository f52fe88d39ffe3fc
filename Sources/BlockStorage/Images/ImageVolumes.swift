public import Database

/// Volumes in which the Image service keeps images.
public enum ImageVolumes {
    /// Has the operation share the volume of an image, to clone it to its own, `volume`; false if it is none that it may be cloned from. Whoever can tell
    /// the Image service of a location names what volume he likes: it must be his project's, or one that is the image's in the internal project.
    public static func share(
        _ id: String, holding image: KeptImage, with volume: Volume, tenant: ImageCache.Tenant?, by operation: Operation,
        in tx: any Transaction
    ) throws -> Bool {
        guard let source = try Volumes.lock(id, in: tx), source.id != volume.id, source.backend == volume.backend,
            source.size <= volume.size, !source.value.isOfEncryptedType, source.encryptionKeyID == nil
        else { return false }
        let isOwn = source.projectID == volume.projectID
        let isImages = source.projectID == tenant?.projectID && source.name == "image-\(image.id)"
        guard isOwn || isImages, try isUnchanging(source.value, in: tx) else { return false }
        return try Operations.share(source, by: operation, in: tx)
    }

    /// Whether nobody writes to it. Who attaches a read-only one reads it, as the Image service does while it sends the image to somebody.
    private static func isUnchanging(_ volume: Volume, in tx: any Transaction) throws -> Bool {
        switch volume.status {
        case .available: try !HostConnections.isConnected(volume.id, in: tx)
        case .inUse: volume.adminMetadata("readonly") == "True"
        default: false
        }
    }
}
