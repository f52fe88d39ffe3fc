import Database

/// Keys of images that were made of encrypted volumes.
final class ImageKeyTable: Table, @unchecked Sendable {
    static let table = ImageKeyTable("image_keys", "ik").declared()

    let imageID = Column<String>("image_id"), keyID = Column<String>("key_id")
    /// Of the volume.
    let projectID = Column<String>("project_id")
    let createdAt = Column<String>("created_at")
}
