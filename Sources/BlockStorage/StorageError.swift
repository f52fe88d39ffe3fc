/// A request that the domain refuses, with the text that clients show. The texts are Cinder's.
public struct StorageError: Error, Sendable, Equatable {
    public enum Kind: Sendable { case invalid, notFound, conflict, overQuota, forbidden, unavailable, failed, timeout }
    public let kind: Kind
    public let message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public static func invalidVolume(_ message: String) -> StorageError { StorageError(.invalid, "Invalid volume: " + message) }
    public static func invalidInput(_ message: String) -> StorageError { StorageError(.invalid, "Invalid input received: " + message) }
    public static func volumeNotFound(_ id: String) -> StorageError { StorageError(.notFound, "Volume \(id) could not be found.") }
    public static func snapshotNotFound(_ id: String) -> StorageError { StorageError(.notFound, "Snapshot \(id) could not be found.") }
    public static func backupNotFound(_ id: String) -> StorageError { StorageError(.notFound, "Backup \(id) could not be found.") }
    public static func invalidBackup(_ message: String) -> StorageError { StorageError(.invalid, "Invalid backup: " + message) }
    public static func operationNotFound(_ id: String) -> StorageError { StorageError(.notFound, "Operation \(id) could not be found.") }
    public static func typeNotFound(_ id: String) -> StorageError { StorageError(.notFound, "Volume type \(id) could not be found.") }
    public static func attachmentNotFound(_ id: String) -> StorageError {
        StorageError(.notFound, "Volume attachment could not be found with filter: attachment_id = \(id).")
    }
}
