import BlockStorage
import DriverHost
import Transfers

/// A store of backups as flows use it.
protocol BackupStore: Sendable {
    /// Its section in the configuration.
    var name: String { get }
    /// The driver's name in Cinder, which exported records have.
    var service: String { get }
    /// By what new backups are written: `cinder` or `repository`.
    var format: String { get }
    /// Of the backup service that it belongs to.
    var host: String { get }
    var zone: String { get }
    /// The format's options, by name.
    var formatOptions: DriverValue { get }
    /// What Cinder calls the bucket that the whole store is: of a backup in this container the objects are named without it.
    var bucket: String? { get }

    /// Whether backups of a format lie in images, each with those that it rests on.
    func keepsImages(format: String) -> Bool
    /// What the objects of a new backup have in their names.
    ///
    /// - Parameters:
    ///   - container: as the user asked for it.
    ///   - parent: the one that it is made on top of.
    func objectNames(of backup: Backup, after parent: Backup?, format: String, container: String?) throws
        -> (container: String, prefix: String)
    func waitForOldTransfers() async throws
    /// The end of a transfer.
    var transferEnd: Transfer.End { get }
}

extension BackupStore {
    var bucket: String? { nil }
    func keepsImages(format: String) -> Bool { false }
}

/// The stores of this node.
protocol BackupStores: Sendable {
    /// The first is the one of backups that ask for no other.
    var stores: [any BackupStore] { get }
}

extension BackupStores {
    /// The store of that name; nil: it is not configured any more.
    func store(named name: String) -> (any BackupStore)? { stores.first { $0.name == name } }

    /// The store for a new backup: that of what it is made on top of, else the first of the zone that is asked for.
    func store(for backup: Backup, parent: Backup?, zone: String?) throws -> any BackupStore {
        if let parent {
            guard let name = parent.store, let store = store(named: name) else {
                throw StorageError(.failed, "The store of the backup that it is made on top of is not enabled.")
            }
            return store
        }
        guard let store = stores.first(where: { (zone ?? "").isEmpty || $0.zone == zone }) else {
            throw StorageError(.failed, "Service not found for creating backup.")
        }
        return store
    }
}

/// Of a node without any.
struct NoBackupStores: BackupStores { let stores: [any BackupStore] = [] }
