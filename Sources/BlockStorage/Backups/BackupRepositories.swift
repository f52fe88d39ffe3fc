public import JSON
public import Primitives

/// The repositories of the stores, as the API lets administrators look after them. `store`: nil for the only one there is; `project`: nil
/// for all.
public protocol BackupRepositories: Sendable {
    func keys(of project: String, store: String?) async throws -> JSON
    /// Answers the new key's id.
    func addKey(_ passphrase: Secret, to project: String, store: String?) async throws -> String
    func removeKey(_ id: String, of project: String, store: String?) async throws
    /// Answers what was freed in each repository.
    func prune(_ project: String?, store: String?) async throws -> JSON
    /// Brings lost rows back from what the repositories hold.
    func importBackups(of project: String?, store: String?, caller: Caller) async throws -> JSON
}

/// Of a service without stores.
public struct NoBackupRepositories: BackupRepositories {
    public init() {}
    private var none: StorageError { StorageError(.unavailable, "No store of backups is enabled.") }
    public func keys(of project: String, store: String?) async throws -> JSON { throw none }
    public func addKey(_ passphrase: Secret, to project: String, store: String?) async throws -> String { throw none }
    public func removeKey(_ id: String, of project: String, store: String?) async throws { throw none }
    public func prune(_ project: String?, store: String?) async throws -> JSON { throw none }
    public func importBackups(of project: String?, store: String?, caller: Caller) async throws -> JSON { throw none }
}
