public import BlockStorage
import Database
import DriverHost
public import JSON
import Logging
public import Primitives
import Settings
import Transfers

/// Work on the repositories of this node's stores, each time by a process of its own.
public final class StoreRepositories: BackupRepositories {
    private let hosts: BackupStoreHosts
    private let stores: NodeStores
    private let transfers: any TransferRunner
    private let database: any Database
    private let node: String
    private let log: Logger

    init(_ hosts: BackupStoreHosts, node: String, database: any Database, transfers: any TransferRunner, log: Logger) {
        self.hosts = hosts
        stores = NodeStores(hosts, node: node)
        self.node = node
        self.database = database
        self.transfers = transfers
        self.log = log
    }

    private func store(_ name: String?) throws -> any BackupStore {
        if let name {
            guard let store = stores.store(named: name) else { throw StorageError(.notFound, "Store \(name) could not be found.") }
            return store
        }
        guard stores.stores.count == 1, let only = stores.stores.first else {
            let names = stores.stores.map(\.name).joined(separator: ", ")
            throw StorageError.invalidInput("There are several stores, of which one must be named: \(names).")
        }
        return only
    }

    /// The items that a job found.
    private func run(_ order: RepositoryOrder, on store: any BackupStore) async throws -> [DriverValue] {
        try await store.waitForOldTransfers()
        let items = Guarded<[DriverValue]>([])
        var transfer = Transfer(.maintain(order), from: nil, to: store.transferEnd)
        transfer.onItem = { item in items.withLock { $0.append(item) } }
        transfer.onLine = { [log] line, level in log.log(level: level, "\(line)", metadata: ["store": "\(store.name)"]) }
        do {
            _ = try await transfers.run(transfer).get()
        } catch is OperationPostponed {
            throw StorageError(.unavailable, "The service is stopping.")
        } catch let failure as DriverFailure {
            switch failure.code {
            case .invalid: throw StorageError.invalidInput(failure.message + ".")
            case .notFound: throw StorageError(.notFound, failure.message + ".")
            default: throw StorageError(.failed, "The store \(store.name) could not do it: \(failure.message)")
            }
        }
        return items.withLock { $0 }
    }

    private func order(_ work: RepositoryOrder.Work, _ store: any BackupStore, _ project: String?) -> RepositoryOrder {
        var order = RepositoryOrder(work, keys: store.formatOptions["keys"]?.string ?? "")
        order.cache = store.formatOptions["cache"]?.string
        order.project = project
        return order
    }

    // MARK: keys

    public func keys(of project: String, store name: String?) async throws -> JSON {
        let store = try store(name)
        return .array(try await run(order(.keys, store, project), on: store).map(\.json))
    }

    public func addKey(_ passphrase: Secret, to project: String, store name: String?) async throws -> String {
        let store = try store(name)
        var order = order(.addKey, store, project)
        order.passphrase = passphrase
        let id = try await run(order, on: store).first?["id"]?.string ?? ""
        log.info("a repository has a new key", metadata: ["store": "\(store.name)", "project": "\(project)", "key": "\(id)"])
        return id
    }

    public func removeKey(_ id: String, of project: String, store name: String?) async throws {
        let store = try store(name)
        var order = order(.removeKey, store, project)
        order.keyID = id
        _ = try await run(order, on: store)
        log.info("a repository lost a key", metadata: ["store": "\(store.name)", "project": "\(project)", "key": "\(id)"])
    }

    // MARK: space

    public func prune(_ project: String?, store name: String?) async throws -> JSON {
        let store = try store(name)
        let found = try await run(order(.prune, store, project), on: store)
        for item in found {
            guard let problem = item["problem"]?.string else { continue }
            log.error(
                "nothing was removed from a repository: \(problem)",
                metadata: ["store": "\(store.name)", "project_id": "\(item["project_id"]?.string ?? "")"])
        }
        return .array(found.map(\.json))
    }

    // MARK: lost rows

    public func importBackups(of project: String?, store name: String?, caller: Caller) async throws -> JSON {
        let store = try store(name)
        let found = try await run(order(.survey, store, project), on: store)
        var place = Backups.Place(store: store.name, format: "repository", service: store.service, host: store.host)
        place.zone = store.zone
        var imported: [String] = []
        var existing = 0
        var skipped: [JSON] = []
        func skip(_ item: DriverValue, _ reason: String) {
            skipped.append([
                "project_id": JSON(item["project_id"]?.string), "snapshot": JSON(item["snapshot"]?.string),
                "backup_id": JSON(item["backup_id"]?.string), "reason": .string(reason),
            ])
        }
        // Oldest first, so that what a backup was made on top of is there.
        for item in found {
            if let problem = item["problem"]?.string {
                skip(item, problem)
                continue
            }
            let kept = KeptBackup(
                id: item["backup_id"]?.string ?? "", projectID: item["of_project"]?.string ?? "",
                volumeID: item["volume_id"]?.string ?? "", bytes: UInt64(clamping: item["bytes"]?.integer ?? 0),
                details: (try? JSON(parsing: item["details"]?.string ?? "")) ?? .null)
            guard kept.projectID == item["project_id"]?.string else {
                skip(item, "it is of project \(kept.projectID), and lies in the repository of another")
                continue
            }
            do {
                if try await database.write({ [place] in try Backups.adopt(kept, at: place, in: $0) }) {
                    imported.append(kept.id)
                } else {
                    existing += 1
                }
            } catch let error as StorageError { skip(item, error.message) }
        }
        log.info("backups were brought back from a store", metadata: ["store": "\(store.name)", "count": "\(imported.count)"])
        return ["imported": .array(imported.map { .string($0) }), "existing": JSON(existing), "skipped": .array(skipped)]
    }

    // MARK: what is there

    /// What a store holds of backups.
    struct Contents: Sendable {
        /// Backups in repositories, each with its project.
        var snapshots: [(project: String, backup: String)] = []
        /// The beginnings of the names of chunked backups' objects.
        var prefixes: Set<String> = []
        /// Backups in images, each with its image.
        var images: [(image: String, backup: String)] = []
        /// Objects that no backup's metadata names, and how the names of their backups' objects begin.
        var unnamed: [(name: String, prefix: String)] = []
        /// Snapshots and parts of the index that are not what was written, each with its repository's project.
        var damages: [(project: String, text: String)] = []
    }

    func contents(of name: String) async throws -> Contents {
        let store = try store(name)
        var contents = Contents()
        for item in try await run(order(.objects, store, nil), on: store) {
            if let backup = item["backup_id"]?.string { contents.snapshots.append((item["project_id"]?.string ?? "", backup)) }
            if let image = item["image"]?.string { contents.images.append((image, item["image_backup_id"]?.string ?? "")) }
            if let prefix = item["prefix"]?.string { contents.prefixes.insert(prefix) }
            if let damage = item["damage"]?.string { contents.damages.append((item["project_id"]?.string ?? "", damage)) }
            if let name = item["unnamed"]?.string { contents.unnamed.append((name, item["of"]?.string ?? "")) }
        }
        return contents
    }

    var storeNames: [String] { stores.stores.map(\.name) }

    /// Of stores that are buckets, what these are called.
    var buckets: [String: String] {
        Dictionary(stores.stores.compactMap { store in store.bucket.map { (store.name, $0) } }, uniquingKeysWith: { first, _ in first })
    }

    /// Whether a store keeps backups of Cinder's format in images.
    func keepsImages(_ name: String) -> Bool { stores.store(named: name)?.keepsImages(format: "cinder") ?? false }

    // MARK: scrub

    /// Reads a part of the packs of all repositories in a store.
    /// - Returns: what was found of each, or why one could not be read.
    func scrub(_ name: String, part: Int, of parts: Int) async throws -> [(project: String, verdict: BackupVerdict, problem: String?)] {
        let store = try store(name)
        var order = order(.scrub, store, nil)
        order.part = part
        order.parts = parts
        return try await run(order, on: store).map {
            ($0["project_id"]?.string ?? "", BackupVerdict($0["verdict"] ?? .null), $0["problem"]?.string)
        }
    }
}
