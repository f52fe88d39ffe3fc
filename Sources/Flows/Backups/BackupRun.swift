import BlockStorage
import Database
import DriverHost
import JSON
import Transfers

// What the flows of backups share.

/// One store, as far as the steps of one operation may use it: they transfer to it and from it.
struct OperationStore: Sendable {
    let store: any BackupStore
    private let operation: BlockStorage.Operation
    private let services: FlowServices

    init(_ store: any BackupStore, _ operation: BlockStorage.Operation, _ services: FlowServices) {
        self.store = store
        self.operation = operation
        self.services = services
    }

    /// The store that a backup's objects lie in; throws where it is not enabled.
    init(of backup: Backup, _ operation: BlockStorage.Operation, _ services: FlowServices) throws {
        guard let name = backup.store, let store = services.stores.store(named: name) else {
            throw DriverFailure(.badConfiguration, "the store \(backup.store ?? "without a name") of the backup is not enabled")
        }
        self.init(store, operation, services)
    }

    /// A job with the bytes of a volume or a snapshot, `object`, which lie at `host`. `bytesPerSecond`: a limit beside that of the backend.
    /// `onMissedChange` is called when it is found that the driver did not tell of all changes, before anything else is done.
    func run(
        _ order: BackupOrder, isRestore: Bool, with object: DriverValue, at host: String, bytesPerSecond: Int? = nil,
        onMissedChange: (@Sendable () -> Task<Void, Never>)? = nil
    ) async throws -> DriverValue {
        let volume = try await OperationBackend(at: host, operation, services).transferEnd(object)
        try await store.waitForOldTransfers()
        return try await OperationTransfer(operation: operation, services: services).run(missedChange: onMissedChange) {
            var transfer =
                isRestore
                ? Transfer(.restore(order), from: store.transferEnd, to: volume.end)
                : Transfer(.backup(order), from: volume.end, to: store.transferEnd)
            transfer.bytesPerSecond = [volume.limit, bytesPerSecond ?? 0].filter { $0 > 0 }.min() ?? 0
            return transfer
        }
    }

    /// Removes all that a backup has in the store.
    func remove(_ order: BackupOrder) async throws {
        await services.serving?.end(backup: order.backup.id)
        try await store.waitForOldTransfers()
        _ = try await OperationTransfer(operation: operation, services: services).run {
            Transfer(.remove(order), from: nil, to: store.transferEnd)
        }
    }

    /// Reads all that a backup needs.
    func verify(_ order: BackupOrder) async throws -> BackupVerdict {
        try await store.waitForOldTransfers()
        return BackupVerdict(
            try await OperationTransfer(operation: operation, services: services).run {
                Transfer(.verify(order), from: nil, to: store.transferEnd)
            })
    }

    /// What the transfer process is told of a backup.
    func order(_ chain: [Backup]) throws -> BackupOrder {
        try BackupOrder(chain, in: store)
    }
}

extension BackupOrder {
    /// About the last backup of a chain.
    init(_ chain: [Backup], in store: any BackupStore) throws {
        guard let backup = chain.last else { throw StorageError(.failed, "There is no backup.") }
        self.init(format: backup.format ?? store.format, backup: Item(backup, in: store.bucket))
        // Of those that stand alone the last is all that is compared with.
        parents = chain.dropLast().suffix(backup.standsAlone ? 1 : chain.count).map { Item($0, in: store.bucket) }
        options = store.formatOptions
    }
}

extension BackupOrder.Item {
    /// - Parameter bucket: the container that is not in the objects' names; nil: there is none.
    init(_ backup: Backup, in bucket: String?) {
        self.init()
        id = backup.id
        projectID = backup.projectID
        volumeID = backup.volumeID
        name = backup.name
        description = backup.description
        container = backup.container.flatMap { $0 == bucket ? nil : $0 } ?? ""
        serviceMetadata = backup.serviceMetadata ?? ""
        createdAt = backup.createdAt
        parentID = backup.parentID
        isOfSnapshot = backup.snapshotID != nil
        objectCount = backup.objectCount
    }
}

extension FlowRun {
    func backup(_ id: String) async throws -> Backup {
        guard let backup = try await read({ try Backups.find(id, in: $0) }) else { throw StorageError.backupNotFound(id) }
        return backup
    }

    /// The backup with all that it rests on, the full one first.
    func chain(_ id: String) async throws -> [Backup] { try await read { try Backups.chain(id, in: $0) } }

    /// Tells the user why the operation on a backup failed.
    func addBackupMessage(_ id: String, _ action: Message.Action, _ detail: Message.Detail, in tx: any Transaction) throws {
        try Messages.add(
            action, detail, volumeID: volumeID, backupID: id, projectID: operation.projectID, requestID: operation.requestID,
            keptFor: settings.messageLifetime, in: tx)
    }
}

extension Step {
    /// A step that works with a store of backups. `perform` says itself which.
    static func onStore<Found: Sendable>(
        _ name: String, perform: @escaping @Sendable (Run, FlowServices) async throws -> Found,
        record: @escaping @Sendable (inout Run, Found, any Transaction) throws -> Void,
        undo: (@Sendable (Run, FlowServices) async throws -> Void)? = nil, recordUndo: Record? = nil
    ) -> Step {
        var step = Step(name: name, undo: undo, recordUndo: recordUndo)
        step.perform = { run, services in
            let found = try await perform(run, services)
            return { try record(&$0, found, $1) }
        }
        return step
    }
}
