public import BlockStorage
import Database
import DriverHost
import Glibc
import Logging
import Primitives
import Settings
import Transfers

/// Backups that are served over NBD, each by a process of its own. It ends by its time, with the backup, and with the core.
public final class BackupServing: BackupServings {
    private struct Entry {
        let backupID, projectID: String
        var task: Task<Void, Never>?
    }

    private let stores: NodeStores
    private let transfers: any TransferRunner
    private let database: any Database
    private let directory: String
    private let limit, projectLimit, mostSeconds: Int
    private let host: String
    private let log: Logger
    private let entries = Guarded<[String: Entry]>([:])

    init(
        _ hosts: BackupStoreHosts, settings: Settings, database: any Database, transfers: any TransferRunner = TransferProcesses(),
        log: Logger
    ) {
        stores = NodeStores(hosts, node: settings[Options.service.host])
        directory = hosts.servingDirectory
        limit = settings[Options.flows.serveLimit]
        projectLimit = settings[Options.flows.projectServeLimit]
        mostSeconds = settings[Options.flows.serveSeconds]
        host = settings[Options.flows.serveAddress]
        self.transfers = transfers
        self.database = database
        self.log = log
    }

    public func serve(_ backup: Backup, seconds: Int?, for caller: Caller) async throws -> (address: String, expiresAt: String) {
        // A socket is of use on the service's machine alone, and where it lies there is not for tenants.
        guard !host.isEmpty || caller.isAdmin else {
            throw StorageError(
                .forbidden,
                "Backups are served at sockets of the service's machine here, for administrators: an operator can set backup_serve_address."
            )
        }
        return try await serve(backup.id, seconds: seconds)
    }

    private func serve(_ backupID: String, seconds: Int?) async throws -> (address: String, expiresAt: String) {
        let chain = try await database.read { try Backups.chain(backupID, in: $0) }
        try Self.requireAvailable(chain.last)
        guard let backup = chain.last, let name = backup.store, let store = stores.store(named: name) else {
            throw StorageError(.unavailable, "The store of the backup is not enabled.")
        }
        let id = String(UUID.random().prefix(8))
        let refusal: String? = entries.withLock { entries in
            guard entries.count < limit else { return "\(limit) backups are served, the most at once: wait until the time of one is over." }
            guard entries.values.count(where: { $0.projectID == backup.projectID }) < projectLimit else {
                return "\(projectLimit) backups of the project are served, the most at once: end one by clinker:unserve."
            }
            entries[id] = Entry(backupID: backupID, projectID: backup.projectID)
            return nil
        }
        if let refusal { throw StorageError(.conflict, refusal) }
        let seconds = min(seconds ?? mostSeconds, mostSeconds)
        do {
            try await store.waitForOldTransfers()
            let place = try place(id, seconds: seconds)
            let address = try await start(id, BackupOrder(chain, in: store), place, store)
            // Its deletion may have begun meanwhile, and found nothing to end.
            try Self.requireAvailable(try await database.read { try Backups.find(backupID, in: $0) })
            let expiresAt = Timestamp.format(Timestamp.seconds() + Double(seconds))
            log.info("a backup is served", metadata: ["backup_id": "\(backupID)", "until": "\(expiresAt)"])
            return (address, expiresAt)
        } catch {
            await end { $0 == id || $1.backupID == backupID && error is StorageError }
            guard let failure = error as? DriverFailure else { throw error }
            log.error("a backup cannot be served: \(failure.message)", metadata: ["backup_id": "\(backupID)"])
            if BackupDamageReason.isOf(failure.message) {
                throw StorageError(.conflict, "The backup is damaged and cannot be served: clinker:verify tells what of it.")
            }
            throw StorageError(.failed, failure.code.sentence)
        }
    }

    private static func requireAvailable(_ backup: Backup?) throws {
        guard let backup, backup.status == .available || backup.status == .restoring else {
            throw StorageError.invalidBackup("Backup status must be available and not \(backup?.status.rawValue ?? "deleted").")
        }
    }

    private func place(_ id: String, seconds: Int) throws -> BackupServePlace {
        guard host.isEmpty else {
            let token = (UUID.random() + UUID.random()).filter { $0 != "-" }
            return BackupServePlace(host: host, token: token, seconds: seconds)
        }
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("cannot make \(directory)") }
        return BackupServePlace(socket: "\(directory)/\(id)", seconds: seconds)
    }

    /// The address, once clients are let in.
    private func start(_ id: String, _ order: BackupOrder, _ place: BackupServePlace, _ store: any BackupStore) async throws -> String {
        try await withCheckedThrowingContinuation { continuation in
            let waiting = Guarded<CheckedContinuation<String, any Error>?>(continuation)
            let resume: @Sendable (Result<String, any Error>) -> Void = { result in
                let first = waiting.withLock { waiting in
                    defer { waiting = nil }
                    return waiting
                }
                first?.resume(with: result)
            }
            var transfer = Transfer(.serve(order, place), from: nil, to: store.transferEnd)
            transfer.onReady = { resume(.success($0)) }
            transfer.onLine = { [log] line, level in log.log(level: level, "\(line)") }
            let ready = transfer
            let task = Task { [self] in
                let outcome = await transfers.run(ready)
                if let socket = place.socket { unlink(socket) }
                _ = entries.withLock { $0.removeValue(forKey: id) }
                let ended = DriverFailure(.error, "the serving ended before it began")
                if case .failure(let error) = outcome { resume(.failure(error)) } else { resume(.failure(ended)) }
            }
            // Ended already, or to be.
            let isMeant = entries.withLock { entries in
                entries[id]?.task = task
                return entries[id] != nil
            }
            if !isMeant { task.cancel() }
        }
    }

    public func end(backup id: String) async { await end { $1.backupID == id } }

    private func end(_ isMeant: (String, Entry) -> Bool) async {
        let meant = entries.withLock { entries in
            let found = entries.filter { isMeant($0.key, $0.value) }
            // What was not begun has no process.
            for (id, entry) in found where entry.task == nil { entries[id] = nil }
            return found.values.compactMap(\.task)
        }
        for task in meant { task.cancel() }
        for task in meant { await task.value }
    }

    /// Removes the sockets that a core left which died: the processes ended with it.
    public func removeOldSockets() {
        guard let listing = opendir(directory) else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { unlink("\(directory)/\(name)") }
        }
    }
}
