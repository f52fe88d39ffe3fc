import Backups

/// What the objects of backups are called.
public enum BackupNames {
    /// As Cinder's drivers over folders call them. `createdAt`: as `2026-11-29T17:00:00.000000`; `folder`: nil for one of its own.
    public static func inCinder(id: String, volumeID: String, createdAt: String, folder: String?) -> (container: String, prefix: String) {
        let moment = String(createdAt.prefix { $0 != "." }.filter(\.isNumber))
        return (folder ?? ChunkedBackup.folder(of: id), ChunkedBackup.folderPrefix(id: id, volumeID: volumeID, timestamp: moment))
    }

    /// As Cinder's driver for Ceph calls the image. `parent`: what the backup that it is made on top of has.
    public static func inImages(id: String, volumeID: String, parent: String?) -> String {
        guard let parent else { return ImageBackup.serviceMetadata(volumeID: volumeID, fullBackup: id) }
        // Cinder's older ones name none.
        return parent.isEmpty ? ImageBackup.serviceMetadata(volumeID: volumeID, fullBackup: "base") : parent
    }

    /// What a snapshot is called in a volume of Ceph that a backup in an image was made of.
    public static func snapshotOfImage(id: String, createdAt: String) -> String { ImageBackup.snapshotName(id, createdAt: createdAt) }

    /// As Cinder's drivers over buckets call them, without the bucket.
    public static func inBucket(id: String, volumeID: String, createdAt: String, zone: String) -> String {
        let moment = String(createdAt.prefix { $0 != "." }.filter(\.isNumber))
        return ChunkedBackup.bucketPrefix(id: id, volumeID: volumeID, timestamp: moment, availabilityZone: zone)
    }
}
