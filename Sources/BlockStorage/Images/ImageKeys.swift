public import Database

/// Keys of images that were made of encrypted volumes here. An image's owner can give it whatever properties he likes: only a key that was
/// made for the image, and for the project that asks, opens what is made of it.
public enum ImageKeys {
    /// An image's key, as it was noted.
    public struct Noted: Sendable {
        public let imageID, keyID: String
    }

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

    /// Keys of images, in the order of the images' ids; those behind `imageID`.
    public static func noted(after imageID: String, limit: Int, in connection: any Connection) throws -> [Noted] {
        try connection.rows(notedSQL, .text(imageID), .int(limit)) { Noted(imageID: $0.text(0), keyID: $0.text(1)) }
    }

    /// The key of one image.
    public static func noted(ofImage id: String, in connection: any Connection) throws -> Noted? {
        try connection.first(of: table, table.imageID(id)) { Noted(imageID: id, keyID: $0[table.keyID]) }
    }

    static let notedSQL = SQL("SELECT image_id, key_id FROM image_keys WHERE image_id > ? ORDER BY image_id LIMIT ?")
    static let countSQL = SQL("SELECT count(*) FROM (SELECT 1 FROM image_keys LIMIT ?) k")
    static let countOfProjectSQL = SQL("SELECT count(*) FROM (SELECT 1 FROM image_keys WHERE project_id = ? LIMIT ?) k")

    /// How many there are; `limit` where there are more.
    public static func count(upTo limit: Int, in connection: any Connection) throws -> Int {
        try connection.first(countSQL, .int(limit)) { $0.int(0) } ?? 0
    }

    /// Throws if a project has as many keys of images as it may.
    static func requireRoom(ofProject project: String, limit: Int, in connection: any Connection) throws {
        let count = try connection.first(countOfProjectSQL, .text(project), .int(limit)) { $0.int(0) } ?? 0
        guard count < limit else {
            throw StorageError(
                .overQuota,
                "The project has \(count) images of encrypted volumes, each with a key, and may have \(limit) (image_keys_per_project): delete "
                    + "images that are not needed any more; their keys go within hours, where Clinker can see that (clinker doctor says).")
        }
    }

    public static func forget(ofImage id: String, in tx: any Transaction) throws { try tx.delete(from: table, table.imageID(id)) }

    /// Forgets a key that is deleted, unless the image has got another one.
    public static func forget(_ key: Noted, in tx: any Transaction) throws {
        try tx.delete(from: table, table.imageID(key.imageID), table.keyID(key.keyID))
    }

    /// Throws for an image that says it has a key: in a volume that is not encrypted nobody could read it.
    static func requirePlain(_ image: SourceImage) throws(StorageError) {
        guard image.properties[property]?.string == nil else {
            throw .invalidInput("Image \(image.id) is encrypted (\(property)): its volume must be of an encrypted type.")
        }
    }

    /// The key of an image that says it has one; nil for a plain image.
    static func key(of image: SourceImage, project: String, in connection: any Connection) throws -> String? {
        guard let named = image.properties[property]?.string else { return nil }
        let known = try connection.first(of: table, table.imageID(image.id)) { (key: $0[table.keyID], project: $0[table.projectID]) }
        guard let known, known.key == named, known.project == project else {
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
