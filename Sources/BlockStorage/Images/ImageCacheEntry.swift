public import Database

/// A volume of the internal project that holds an image, so that volumes of the image on its backend are clones of it.
public struct ImageCacheEntry: Sendable {
    public let volumeID, imageID, imageUpdatedAt: String
    /// `node@backend`
    public let host: String
    /// GiB, as the limits count it.
    public let size: Int
    public let lastUsed: String

    init(_ row: any Row) {
        let t = ImageCacheTable.table
        volumeID = row[t.volumeID]
        imageID = row[t.imageID]
        imageUpdatedAt = row[t.imageUpdatedAt]
        host = row[t.host]
        size = row[t.size]
        lastUsed = row[t.lastUsed]
    }
}

/// What the image caches of all backends hold.
public enum ImageCacheEntries {
    static let table = ImageCacheTable.table
    private static let ofBackendSQL = SQL(table.select("WHERE i.host = ? ORDER BY i.last_used, i.volume_id"))

    /// Of one backend, the longest unused first.
    public static func ofBackend(_ host: String, in connection: any Connection) throws -> [ImageCacheEntry] {
        try connection.rows(ofBackendSQL, .text(host)) { ImageCacheEntry($0) }
    }

    static func of(_ image: String, on host: String, in connection: any Connection) throws -> ImageCacheEntry? {
        try connection.first(of: table, table.imageID(image), table.host(host)) { ImageCacheEntry($0) }
    }

    static func add(_ volume: String, on host: String, _ image: String, updatedAt: String, size: Int, in tx: any Transaction) throws {
        try tx.insert(
            into: table, table.volumeID(volume), table.host(host), table.imageID(image), table.imageUpdatedAt(updatedAt), table.size(size),
            table.lastUsed(tx.now))
    }

    static func touch(_ volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.volumeID(volume.id), set: table.lastUsed(tx.now))
    }

    /// From now on the volume is one like any other.
    static func remove(_ volume: String, in tx: any Transaction) throws { try tx.delete(from: table, table.volumeID(volume)) }
}
