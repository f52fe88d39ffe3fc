public import BlockStorage
import DriverHost
import Transfers

/// The configured stores, as flows use them.
struct NodeStores: BackupStores {
    let stores: [any BackupStore]

    init(_ hosts: BackupStoreHosts, node: String) {
        stores = hosts.services(of: node).map { NodeStore(store: $0.store, host: $0.host) }
    }
}

extension BackupStoreHosts {
    /// A backup service for each store, under the host that it is known by: the first is the node's own.
    func services(of node: String) -> [(store: Store, host: String)] {
        stores.enumerated().map { (store: $0.element, host: $0.offset == 0 ? node : "\(node)@\($0.element.name)") }
    }

    /// The format of new backups that ask for an availability zone, or none; nil: no store takes them.
    public func format(ofZone zone: String?) -> String? { stores.first { (zone ?? "").isEmpty || $0.zone == zone }?.format }

    /// Where the objects lie that a driver of Cinder, by its name, has written; nil: in no store of this node.
    public func place(ofService service: String, node: String) -> Backups.Place? {
        guard let found = services(of: node).first(where: { $0.store.service == service }) else { return nil }
        var place = Backups.Place(store: found.store.name, format: "cinder", service: service, host: found.host)
        place.zone = found.store.zone
        place.container = found.store.bucket?.bucket
        return place
    }
}

private struct NodeStore: BackupStore {
    let store: BackupStoreHosts.Store
    let host: String

    var name: String { store.name }
    var service: String { store.service }
    var format: String { store.format }
    var bucket: String? { store.bucket?.bucket }
    var zone: String { store.zone }
    var formatOptions: DriverValue {
        guard case .object(let members) = store.formatOptions, let state = store.configuration.options["state_dir"]?.string else {
            return store.formatOptions
        }
        // Passwords of repositories are no objects: they are not the plugin's. Neither is what is kept of a repository's index.
        return .object(members + [.init("keys", .string(state + ".keys")), .init("cache", .string(state + ".cache"))])
    }
    var transferEnd: Transfer.End { Transfer.End(store: store.configuration) }

    func keepsImages(format: String) -> Bool { format == "cinder" && store.bucket?.keepsImages == true }

    func objectNames(of backup: Backup, after parent: Backup?, format: String, container asked: String?) throws
        -> (container: String, prefix: String)
    {
        if let bucket, keepsImages(format: format) {
            guard (asked ?? "").isEmpty || asked == bucket else {
                throw DriverFailure(.invalid, "container must be \(bucket), the pool of the store \(name), or be left out")
            }
            return (bucket, BackupNames.inImages(id: backup.id, volumeID: backup.volumeID, parent: parent.map { $0.serviceMetadata ?? "" }))
        }
        let folder = [asked ?? "", store.container].first { !$0.isEmpty }
        if let bucket {
            return (
                folder ?? bucket,
                BackupNames.inBucket(id: backup.id, volumeID: backup.volumeID, createdAt: backup.createdAt, zone: zone)
            )
        }
        return BackupNames.inCinder(id: backup.id, volumeID: backup.volumeID, createdAt: backup.createdAt, folder: folder)
    }

    func waitForOldTransfers() async throws { try await store.host.waitForOldTransfers() }
}
