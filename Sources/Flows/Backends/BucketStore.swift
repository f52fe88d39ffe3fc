import Settings

/// A store that is a bucket (S3, Swift) in Cinder's format: Cinder's driver names the bucket in a backup's `container`, and its objects
/// without it, and has options of its own for what others say by `backup_file_size` and `backup_sha_block_size_bytes`.
struct BucketStore: Sendable {
    let bucket: String
    /// Bytes; nil where nothing is configured.
    let objectSize, hashedSize: Int?

    private static let options: [String: (bucket: String, objectSize: String, hashedSize: String)] = [
        "cinder.backup.drivers.s3.S3BackupDriver": ("backup_s3_store_bucket", "backup_s3_object_size", "backup_s3_block_size"),
        "cinder.backup.drivers.swift.SwiftBackupDriver": (
            "backup_swift_container", "backup_swift_object_size", "backup_swift_block_size"
        ),
    ]

    /// Nil for a store that is no bucket.
    ///
    /// - Parameter service: what Cinder calls the driver.
    init?(_ service: String, options: [(name: String, value: String)]) {
        guard let names = Self.options[service] else { return nil }
        func text(_ name: String) -> String? { options.first { $0.name == name && !$0.value.isEmpty }?.value }
        bucket = text(names.bucket) ?? "volumebackups"
        objectSize = text(names.objectSize).flatMap { Int($0) }
        hashedSize = text(names.hashedSize).flatMap { Int($0) }
    }
}
