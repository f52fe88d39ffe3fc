import JSON
import Primitives

/// A repository of backups: restic's format, version 2, with chunks of a fixed size, written and read by this program. Any restic can
/// list, check, restore, dump and prune it.
///
/// Every call blocks its thread and may run beside others, also in other processes. An operation reads the index anew: it sees what was
/// complete when it began.
public final class Repository: Sendable {
    /// What a repository is made with and what its operations use.
    public struct Options: Sendable {
        /// Where temporary files without a name are made for the index of a large repository.
        public var temporaryDirectory = "/tmp"
        /// Where what the index says is kept between operations, so that the next one does not read all of it again, and what attempts of
        /// backups have read; nil for nowhere. It may be emptied at any time, and several repositories and processes may share it.
        public var cacheDirectory: String?
        /// Where damages are kept that could not be taken out of the index when they were found, since the store takes nothing; nil for
        /// nowhere. What lies there must not be lost.
        public var damageDirectory: String?
        /// Threads that hash, compress and encrypt; nil for one more than the machine has processors, at most 8.
        public var threads: Int?
        /// zstd's level.
        public var compressionLevel = 3
        /// Seconds to wait for a lock that somebody else holds.
        public var lockPatience = 600.0
        /// Bytes of a pack before it is stored.
        public var packSize = 16 << 20
        /// Seconds between two index objects of a backup.
        public var indexInterval = 60.0
        /// The share of the chunks that the storage calls unchanged which are read and compared all the same.
        public var sampling = 0.001
        /// How many chunks one file in a backup's tree has: 64 GiB of chunks of 1 MiB, whose list takes 4.4 MB.
        var segmentChunks = 1 << 16

        var clock = RepositoryClock()

        /// Seconds before each further attempt after a temporary failure of the store.
        public var retryPauses: [Double] = [0.2, 0.5, 1, 2, 4, 8, 16]

        public init() {}
    }

    let store: any ObjectStore
    let keys: SealingKeys
    let config: RepositoryConfig
    /// The key file that the password opened.
    let openedKey: Digest
    public let options: Options
    let hostname = localHostname()

    /// The repository's identity, which stays when it is moved.
    public var id: Digest { config.id }
    /// Bytes of a chunk.
    public var chunkSize: Int { config.chunkSize }

    /// How much of an image one file in a backup's tree holds.
    var segmentSize: UInt64 { UInt64(options.segmentChunks) * UInt64(chunkSize) }

    private init(_ store: RetryingStore, _ keys: SealingKeys, _ config: RepositoryConfig, _ openedKey: Digest, _ options: Options) {
        self.store = store
        self.keys = keys
        self.config = config
        self.openedKey = openedKey
        self.options = options
    }

    /// Makes a repository in a store that has none.
    ///
    /// - Parameters:
    ///   - chunkSize: bytes, a power of two from 256 KiB to 4 MiB; it never changes.
    public static func create(
        in store: any ObjectStore, password: Secret, chunkSize: Int = 1 << 20, options: Options = Options()
    ) throws -> Repository {
        if let fault = RepositoryConfig.fault(inChunkSize: chunkSize) { throw RepositoryError(.invalid, fault) }
        try checkPassword(password)
        let store = RetryingStore(store, pauses: options.retryPauses)
        guard try store.size(of: ObjectKind.config.rawValue) == nil else {
            throw RepositoryError(.exists, "the store has a repository already")
        }
        // Keys without a configuration are left by a creation that did not finish. They are kept: somebody may be at it.
        let keys = SealingKeys.random()
        let config = RepositoryConfig(
            id: Digest(randomBytes(32)), polynomial: ChunkerPolynomial.random().hex, chunkSize: chunkSize)
        let openedKey = try KeyFile.make(keys, password: password, hostname: localHostname()).save(in: store)
        try SealedObjects(store, keys).saveConfig(Array(config.json.text.utf8))
        // Two creations at the same time: the configuration that was put last counts, and it opens with one key only.
        return try open(store, password: password, options: options, hint: openedKey)
    }

    /// Opens a repository.
    public static func open(_ store: any ObjectStore, password: Secret, options: Options = Options()) throws -> Repository {
        try open(RetryingStore(store, pauses: options.retryPauses), password: password, options: options, hint: nil)
    }

    private static func open(_ store: RetryingStore, password: Secret, options: Options, hint: Digest?) throws -> Repository {
        guard try store.size(of: ObjectKind.config.rawValue) != nil else {
            throw RepositoryError(.notFound, "the store has no repository: there is no config")
        }
        var fault: (any Error)?
        let names = try KeyFile.names(in: store)
        for name in (hint.map { [$0] } ?? []) + names.filter({ $0 != hint }) {
            do {
                guard let keys = try KeyFile.load(name, from: store).open(password) else { continue }
                let config = try RepositoryConfig(parsing: SealedObjects(store, keys).loadConfig())
                return Repository(store, keys, config, name, options)
            } catch {
                // Another key may open: one damaged file does not lock its owner out.
                fault = error
            }
        }
        if let fault { throw fault }
        guard !names.isEmpty else { throw RepositoryError(.notFound, "the repository has no keys") }
        throw RepositoryError(.wrongPassword, "none of the repository's \(names.count) keys opens with this password")
    }

    /// The same repository, through another store and with other options.
    func reopened(over store: any ObjectStore, _ options: Options) -> Repository {
        Repository(RetryingStore(store, pauses: options.retryPauses), keys, config, openedKey, options)
    }

    static func checkPassword(_ password: Secret) throws {
        // restic refuses an empty password too.
        guard !password.reveal().isEmpty else { throw RepositoryError(.invalid, "the password must not be empty") }
    }

    /// How many threads work and need buffers of their own, so that all of them stay within 48 MiB.
    var workerCount: Int {
        let wanted = options.threads ?? min(8, processorCount() + 1)
        return max(1, min(wanted, (48 << 20) / (2 * chunkSize + 4 << 20)))
    }

    /// The backups in the repository, oldest first; snapshots that somebody made with restic are among them.
    ///
    /// - Parameter onDamage: is told of snapshots that cannot be read, which are left out then. Without it the first of them is an error.
    public func snapshots(onDamage: ((Digest, RepositoryError) -> Void)? = nil) throws -> [RepositorySnapshot] {
        let objects = SealedObjects(store, keys)
        var found: [RepositorySnapshot] = []
        for (name, _) in try objects.list(.snapshots) {
            do {
                found.append(try RepositorySnapshot(id: name, parsing: objects.loadJSON(.snapshots, name)))
            } catch let failure as StoreFailure where failure.kind == .notFound {
                // Deleted since the listing.
                continue
            } catch let error as RepositoryError {
                guard let onDamage else { throw error }
                onDamage(name, error)
            }
        }
        return found.sorted { ($0.time, $0.id.hex) < ($1.time, $1.id.hex) }
    }

    func snapshot(_ id: Digest) throws -> RepositorySnapshot {
        do { return try RepositorySnapshot(id: id, parsing: SealedObjects(store, keys).loadJSON(.snapshots, id)) } catch let failure
            as StoreFailure
            where failure.kind == .notFound
        {
            throw RepositoryError(.notFound, "the repository has no snapshot \(id)")
        }
    }

    /// Deletes a backup. The space it took is free after `prune`; no other backup is affected. One that is gone counts as deleted.
    public func delete(_ snapshot: Digest) throws {
        let lock = try takeReadingLock(nil)
        defer { lock?.release() }
        try store.remove([ObjectKind.snapshots.name(snapshot)])
    }

    func takeLock(_ purpose: LockRecord.Purpose, _ control: TransferControl? = nil) throws -> RepositoryLock {
        try RepositoryLock.take(
            purpose, store: store, keys: keys, hostname: hostname, patience: options.lockPatience, clock: options.clock,
            isCancelled: { control?.isCancelled ?? false })
    }

    /// A lock for work that writes nothing. A store that takes no more objects, because it is full or read-only, can still be read and
    /// backups can be deleted from it: then there is no lock.
    func takeReadingLock(_ control: TransferControl?) throws -> RepositoryLock? {
        do { return try takeLock(.work, control) } catch let failure as StoreFailure
            where failure.kind == .noSpace || failure.kind == .forbidden
        { return nil }
    }

    /// - Parameter readsHeaders: where a part of the index cannot be read, the packs that no other part names are found by their own
    ///   headers. Not for whoever writes: what is in no index does not last.
    func loadIndex(readsHeaders: Bool = true) throws -> BlobIndex {
        let index = try BlobIndex.load(SealedObjects(store, keys), temporaryDirectory: options.temporaryDirectory, cache: cache)
        guard readsHeaders, !index.unreadable.isEmpty else { return index }
        var found = IndexPartBuilder(temporaryFilesIn: options.temporaryDirectory)
        for (_, error) in try forEachUnindexedPack(index, { try found.add($0) }) {
            // A store that fails says nothing of what it holds.
            if let failure = error as? StoreFailure, failure.kind != .notFound { throw failure }
        }
        return try index.adding(found)
    }

    /// What is kept between operations on this machine; nil if nothing is.
    var cache: IndexCache? { options.cacheDirectory.flatMap { IndexCache($0, repository: config.id) } }

    func missedChangeNote(of backupID: String) -> MissedChangeNote {
        // A folder that restic does not know and does not look into.
        MissedChangeNote(store: store, name: "clinker/\(backupID).missed-change")
    }

    /// Forgets what attempts of a backup have noted for whoever would continue it.
    public func forgetAttempts(of backupID: String) throws {
        guard BackupRequest(backupID: backupID, projectID: "-", volumeID: "-").fault == nil else { return }
        try missedChangeNote(of: backupID).remove()
        if let cache { ReadJournal.remove(cache.directory, backup: backupID) }
    }
}
