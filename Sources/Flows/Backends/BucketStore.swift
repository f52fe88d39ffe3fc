import Settings

/// A store that has one place for all backups in Cinder's format: a bucket (S3, Swift), or a pool of images (Ceph). Cinder's driver names it in
/// a backup's `container`, and what is in it without it; drivers of buckets have options of their own for what others say by
/// `backup_file_size` and `backup_sha_block_size_bytes`.
struct BucketStore: Sendable {
    let bucket: String
    /// Bytes; nil where nothing is configured.
    let objectSize, hashedSize: Int?
    /// Backups of Cinder's format lie in images, as Cinder's Ceph driver makes them.
    let keepsImages: Bool

    private struct Names: Sendable {
        let bucket: String
        let usual: String
        var objectSize, hashedSize: String?
        var keepsImages = false
    }

    private static let options: [String: Names] = [
        "cinder.backup.drivers.s3.S3BackupDriver": Names(
            bucket: "backup_s3_store_bucket", usual: "volumebackups", objectSize: "backup_s3_object_size",
            hashedSize: "backup_s3_block_size"
        ),
        "cinder.backup.drivers.swift.SwiftBackupDriver": Names(
            bucket: "backup_swift_container", usual: "volumebackups", objectSize: "backup_swift_object_size",
            hashedSize: "backup_swift_block_size"),
        "cinder.backup.drivers.ceph.CephBackupDriver": Names(bucket: "backup_ceph_pool", usual: "backups", keepsImages: true),
    ]

    /// Nil for a store that is no such place.
    ///
    /// - Parameter service: what Cinder calls the driver.
    init?(_ service: String, options: [(name: String, value: String)]) {
        guard let names = Self.options[service] else { return nil }
        func text(_ name: String?) -> String? { options.first { $0.name == name && !$0.value.isEmpty }?.value }
        bucket = text(names.bucket) ?? names.usual
        objectSize = text(names.objectSize).flatMap { Int($0) }
        hashedSize = text(names.hashedSize).flatMap { Int($0) }
        keepsImages = names.keepsImages
    }
}
