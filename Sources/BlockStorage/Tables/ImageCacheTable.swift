import Database

/// Volumes that hold images for others to be cloned from.
final class ImageCacheTable: Table, @unchecked Sendable {
    static let table = ImageCacheTable("image_volume_cache_entries", "i").declared()

    let volumeID = Column<String>("volume_id")
    /// `node@backend`
    let host = Column<String>("host")
    let imageID = Column<String>("image_id")
    /// When the image was last changed, as the Image service said it.
    let imageUpdatedAt = Column<String>("image_updated_at")
    /// GiB.
    let size = Column<Int>("size")
    let lastUsed = Column<String>("last_used")
}
