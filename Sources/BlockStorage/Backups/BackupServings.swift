/// Backups that are served over NBD, as the API has them begun and ended.
public protocol BackupServings: Sendable {
    /// Serves a backup; answers when it is, where, and until when. `seconds`: as long as is permitted, if nil.
    func serve(_ backup: Backup, seconds: Int?, for caller: Caller) async throws -> (address: String, expiresAt: String)
    /// Ends all servings of a backup: when this returns nothing reads it any more.
    func end(backup id: String) async
}

/// Of a service without stores.
public struct NoBackupServings: BackupServings {
    public init() {}

    public func serve(_ backup: Backup, seconds: Int?, for caller: Caller) async throws -> (address: String, expiresAt: String) {
        throw StorageError(.unavailable, "Service cinder-backup could not be found.")
    }

    public func end(backup id: String) async {}
}
