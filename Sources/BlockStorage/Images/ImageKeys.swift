public import Database

/// Keys of images that were made of encrypted volumes here. An image's owner can give it whatever properties he likes: only a key that was
/// made for the image, and for the project that asks, opens what is made of it.
public enum ImageKeys {
    /// The property of an image that names its key, and the one that says when the key goes.
    public static let property = "cinder_encryption_key_id"
    public static let deletionProperty = "cinder_encryption_key_deletion_policy"
    public static let onDeletion = "on_image_deletion"

    private static let table = ImageKeyTable.table

    /// Notes the key of an image, before the image names it.
    public static func note(_ keyID: String, ofImage id: String, project: String, in tx: any Transaction) throws {
        guard try tx.update(table, table.imageID(id), set: table.keyID(keyID)) == 0 else { return }
        try tx.insert(into: table, table.imageID(id), table.keyID(keyID), table.projectID(project), table.createdAt(tx.now))
    }

    /// Whether there is one.
    public static func isKnown(ofImage id: String, in connection: any Connection) throws -> Bool {
        try connection.first(of: table, table.imageID(id)) { _ in true } ?? false
    }

    public static func forget(ofImage id: String, in tx: any Transaction) throws { try tx.delete(from: table, table.imageID(id)) }

    /// The key of an image that says it has one; nil for a plain image.
    static func key(of image: SourceImage, caller: Caller, in connection: any Connection) throws -> String? {
        guard let named = image.properties[property]?.string else { return nil }
        let known = try connection.first(of: table, table.imageID(image.id)) { (key: $0[table.keyID], project: $0[table.projectID]) }
        guard let known, known.key == named, known.project == caller.projectID else {
            throw StorageError.invalidInput(
                "Image \(image.id) is encrypted by a key that was not made for it by this service, or not for this project.")
        }
        guard ["raw", "luks"].contains(image.diskFormat), image.containerFormat == "bare" else {
            throw StorageError.invalidInput(
                "Image \(image.id) is encrypted: it must have disk_format raw or luks and container_format bare.")
        }
        return known.key
    }
}
