import Database

// Backups of Cinder's format in images of Ceph: those of a chain share one image.
extension Backups {
    private static let service = "cinder.backup.drivers.ceph.CephBackupDriver"

    /// Whether a backup lies in one image with others.
    static func sharesImage(_ backup: Backup) -> Bool { backup.format == "cinder" && backup.service == service }

    /// What keeps two operations from changing the image of one chain at the same time: making an increment and deleting a backup. Made under
    /// the lock of the volume's row. Nil for a backup that shares nothing.
    static func claimOnImage(of backup: Backup, in connection: any Connection) throws -> Claim? {
        guard sharesImage(backup) else { return nil }
        var root = backup
        // What it rests on may be gone, of what was imported.
        for _ in 0..<longestChain {
            guard let id = root.parentID, let parent = try find(id, in: connection) else { break }
            root = parent
        }
        return .exclusive(new: "image.\(root.id)")
    }
}
