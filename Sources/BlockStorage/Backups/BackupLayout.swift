public import JSON

/// Where the objects of a backup and of those that it rests on lie: all that is needed to read it without the database.
public enum BackupLayout {
    /// - Parameter chain: the full one first, the backup last.
    public static func describe(_ chain: [Backup]) throws -> JSON {
        guard let backup = chain.last else { throw StorageError(.failed, "There is no backup.") }
        guard let store = backup.store, backup.status != .creating, backup.status != .deleting else {
            throw StorageError.invalidBackup("Backup status must be available and not \(backup.status).")
        }
        return [
            "store": .string(store), "format": JSON(backup.format),
            "chain": .array(
                chain.map { backup in
                    [
                        "id": .string(backup.id), "project_id": .string(backup.projectID), "volume_id": .string(backup.volumeID),
                        "name": JSON(backup.name), "description": JSON(backup.description), "container": JSON(backup.container),
                        "service_metadata": JSON(backup.serviceMetadata), "created_at": .string(backup.createdAt),
                        "snapshot_id": JSON(backup.snapshotID),
                    ]
                }),
        ]
    }
}
