import Primitives

/// What `prune` did.
public struct PruneResult: Sendable, Equatable {
    /// Packs that nobody needs and that were marked: the first prune after a day removes them.
    public var markedPacks = 0
    /// Packs whose needed blobs were copied into new packs; they count as marked too.
    public var repackedPacks = 0
    /// Packs that were removed from the store, with their bytes where they are known.
    public var removedPacks = 0
    public var removedBytes: UInt64 = 0
    /// Packs that were marked but turned out to be needed: they are in use again.
    public var recoveredPacks = 0
    /// Packs that wait for their time, or for somebody who began before they were marked.
    public var waitingPacks = 0
    /// Needed chunks that are in no index: damage that only a verification names in full.
    public var missingChunks = 0
    /// Packs that should have been repacked but have damaged blobs; they stay.
    public var damagedPacks: [Digest] = []

    public init() {}
}

extension Repository {
    /// Frees the space of what no backup needs, beside running backups, in two phases.
    ///
    /// A pack is first marked: from then on no backup refers to it. A later prune looks again and removes it when the grace is over and
    /// everybody who began before the mark has ended.
    ///
    /// - Parameters:
    ///   - grace: seconds between mark and removal.
    ///   - deadShare: a pack with a greater share of bytes that nobody needs is repacked.
    /// - Throws: `.damaged` where it is not known what is needed, since a snapshot, a tree or a part of the index cannot be read: then
    ///   nothing is removed. A damaged part of the index is made anew first, if all packs can be read that it may have named.
    public func prune(grace: Double = 86_400, deadShare: Double = 0.3, control: TransferControl = TransferControl()) throws -> PruneResult {
        let lock = try takeLock(.prune, control)
        defer { lock.release() }
        do { return try Pruning(self, grace: grace, deadShare: deadShare, control, lock).run() } catch let error as UnreadableIndex {
            try replaceIndex(error.names)
        }
        do { return try Pruning(self, grace: grace, deadShare: deadShare, control, lock).run() } catch let error as UnreadableIndex {
            throw RepositoryError.damaged("index/\(error.names.first?.hex ?? "") cannot be read")
        }
    }

    /// Puts what damaged parts of the index may have named into new ones, as the packs themselves say, and removes the damaged.
    func replaceIndex(_ names: [Digest]) throws {
        let objects = SealedObjects(store, keys)
        // Not by the cache: what it still knows of them is to be in the store.
        let index = try BlobIndex.load(objects, temporaryDirectory: options.temporaryDirectory)
        let lost = try adoptUnindexedPacks(index)
        // Read once more: what is removed cannot be read indeed.
        let names = index.unreadable.filter { names.contains($0.name) }
        guard let first = names.first else { return }
        if let (pack, error) = lost.first {
            throw RepositoryError.damaged(
                "\(first.error.description), and it may have named \(ObjectKind.pack(pack)), which cannot be read: \(error)")
        }
        try store.remove(names.map { ObjectKind.index.name($0.name) })
    }

    /// Takes damaged chunks out of the index; each is read again, and what is good stays.
    func removeFromIndex(_ damages: [RepositoryDamage], control: TransferControl) throws -> [Digest] {
        let lock = try takeLock(.prune, control)
        defer { lock.release() }
        let chunks = Set(damages.compactMap(\.chunk))
        let packs = Set(damages.filter { $0.chunk == nil }.compactMap(\.pack))
        let objects = SealedObjects(store, keys)
        let reader = BlobReader(store, keys)
        var discarded: Set<Digest> = []
        func discard(from pack: IndexedPack) throws -> IndexedPack? {
            guard pack.markedAt == nil else { return pack }
            var kept = pack
            kept.blobs = try pack.blobs.filter { blob in
                guard chunks.contains(blob.id) || packs.contains(pack.id) else { return true }
                do {
                    _ = try reader.readStored(BlobIndex.Location(pack: pack.id, blob: blob), atMost: Trees.limit)
                    return true
                } catch let error as RepositoryError where error.kind == .damaged {
                    discarded.insert(blob.id)
                    return false
                }
            }
            return kept.blobs.isEmpty && !pack.blobs.isEmpty ? nil : kept
        }
        let rewriting = IndexRewriting(objects: objects)
        let unreadable = try rewriting.rewrite(objects.list(.index).map(\.name), discard)
        if !unreadable.isEmpty {
            // What only a damaged part of the index named is inherited by nobody either.
            do { try replaceIndex(unreadable) } catch let error as RepositoryError where error.kind == .damaged {}
            _ = try rewriting.rewrite(objects.list(.index).map(\.name), discard)
        }
        return discarded.sorted()
    }
}

/// Parts of the index are damaged.
private struct UnreadableIndex: Error {
    let names: [Digest]
}

/// One prune while it runs.
private final class Pruning {
    private let repository: Repository
    private let grace, deadShare: Double
    private let control: TransferControl
    private let lock: RepositoryLock
    private let objects: SealedObjects
    private let index: BlobIndex
    private let indexNames: [Digest]
    private let orphans: [Digest]
    /// When the work of others began; nil where that is not known.
    private let begun: [Double?]
    private let snapshots: [RepositorySnapshot]
    private let used: UsedBlobs
    private var result = PruneResult()
    /// Somebody's clock may differ from ours, and a backup may have read the index while it was rewritten.
    private static let clockMargin = 3600.0

    init(_ repository: Repository, grace: Double, deadShare: Double, _ control: TransferControl, _ lock: RepositoryLock) throws {
        self.repository = repository
        self.grace = grace
        self.deadShare = deadShare
        self.control = control
        self.lock = lock
        objects = SealedObjects(repository.store, repository.keys)
        // Packs before the index: what is in the index by then is no orphan. A backup's newest pack may seem to be one for a minute; it is
        // marked at worst, and in use as soon as the backup's index says so.
        var packs: Set<Digest> = []
        try repository.forEachPack { pack, _ in packs.insert(pack) }
        // Locks before snapshots: whoever has ended by now has its snapshot among those. And snapshots before the index, which has
        // whatever they need then.
        let own = lock.name
        begun = try RepositoryLock.all(objects, repository.hostname, repository.options.clock).filter { $0.name != own }.map {
            $0.record.startedAt
        }
        var unreadable: [RepositoryError] = []
        snapshots = try repository.snapshots { unreadable.append($1) }
        if let first = unreadable.first {
            throw RepositoryError(
                first.kind,
                "what \(unreadable.count == 1 ? "a backup needs" : "\(unreadable.count) backups need") is not known: "
                    + unreadable.prefix(10).map(\.description).joined(separator: "; "))
        }
        indexNames = try objects.list(.index).map(\.name)
        index = try repository.loadIndex(readsHeaders: false)
        guard index.unreadable.isEmpty else { throw UnreadableIndex(names: index.unreadable.map(\.name)) }
        packs.subtract(try index.packs)
        packs.subtract(try index.markedPacks)
        orphans = packs.sorted()
        used = UsedBlobs(index)
    }

    func run() throws -> PruneResult {
        let reader = BlobReader(repository.store, repository.keys)
        for snapshot in snapshots { try used.add(snapshot, reader, control) }
        result.missingChunks = used.missingCount
        try lock.check()

        let rewriting = IndexRewriting(objects: objects)
        var dead: Set<Digest> = []
        var sparse: Set<Digest> = []
        var usedAgain: Set<Digest> = []
        var marked: [IndexedPack] = []
        let markedIDs = Set(try index.markedPacks)
        let unreadable = try rewriting.forEachPack(of: indexNames) { pack in
            if pack.markedAt != nil {
                marked.append(IndexedPack(id: pack.id, blobs: pack.blobs, markedAt: pack.markedAt))
                return
            }
            if markedIDs.contains(pack.id) { usedAgain.insert(pack.id) }
            var live: UInt64 = 0
            var total: UInt64 = 0
            for blob in pack.blobs {
                total += UInt64(blob.length)
                if try used.needs(blob, in: pack.id) { live += UInt64(blob.length) }
            }
            if live == 0 {
                dead.insert(pack.id)
            } else if Double(total - live) > Double(total) * deadShare {
                sparse.insert(pack.id)
            }
        }
        guard unreadable.isEmpty else { throw UnreadableIndex(names: unreadable) }
        let repacked = try repack(sparse, rewriting)
        try lock.check()

        let removed = try sweep(marked, except: usedAgain)
        let gone = dead.union(repacked)
        let now = repository.options.clock.now
        let recovered = used.neededMarkedPacks
        _ = try rewriting.rewrite(indexNames) { pack in
            var pack = pack
            if pack.markedAt == nil {
                if gone.contains(pack.id) { pack.markedAt = now }
                return pack
            }
            // Marked and in use at once: in use.
            if removed.contains(pack.id) || usedAgain.contains(pack.id) { return nil }
            if recovered.contains(pack.id) { pack.markedAt = nil }
            return pack
        }
        result.markedPacks = gone.count
        result.repackedPacks = repacked.count
        result.recoveredPacks = recovered.subtracting(usedAgain).count
        // A chunk that no index has may lie in a pack that no index has: then nothing of that kind goes.
        if !orphans.isEmpty, used.missingCount == 0 {
            for start in stride(from: 0, to: orphans.count, by: IndexObject.blobLimit) {
                let part = orphans[start..<min(start + IndexObject.blobLimit, orphans.count)]
                let text = IndexObject.text(part.map { IndexedPack(id: $0, blobs: [], markedAt: now) })
                _ = try text.withUnsafeBytes { try objects.save(.index, $0) }
            }
            result.markedPacks += orphans.count
        }
        try removeStaleLocks()
        return result
    }

    /// Copies what is needed of the packs into new ones.
    ///
    /// - Returns: the packs that are not needed any more.
    private func repack(_ packs: Set<Digest>, _ rewriting: IndexRewriting) throws -> Set<Digest> {
        guard !packs.isEmpty else { return [] }
        let indexWriter = IndexWriter(repository.store, repository.keys, interval: repository.options.indexInterval)
        let largest = ZstdCompressor.bound(Trees.limit) + Sealer.overhead
        // Blobs larger than usual are a stranger's: the room for them is only taken when it is used.
        func writer() -> PackWriter {
            PackWriter(
                repository.store, repository.keys, packSize: repository.options.packSize, largestBlob: largest, buffers: 1, uploaders: 1,
                index: indexWriter, control: control)
        }
        let writers = [writer(), writer()]
        defer { for writer in writers { writer.end() } }
        let sealer = Sealer(repository.keys)
        let reader = BlobReader(repository.store, repository.keys)
        var done: Set<Digest> = []
        _ = try rewriting.forEachPack(of: indexNames) { pack in
            guard packs.contains(pack.id), !done.contains(pack.id), pack.markedAt == nil else { return }
            guard !control.isCancelled else { throw RepositoryError(.cancelled, "cancelled") }
            do {
                for blob in pack.blobs where try used.needs(blob, in: pack.id) {
                    let bytes = try reader.readStored(BlobIndex.Location(pack: pack.id, blob: blob), atMost: Trees.limit)
                    control.admit(bytes.count)
                    try bytes.withUnsafeBytes {
                        try writers[Int(blob.type.rawValue)].add(blob.id, blob.type, $0, plainLength: Int(blob.plainLength), sealer)
                    }
                }
                done.insert(pack.id)
            } catch let error as RepositoryError where error.kind == .damaged {
                result.damagedPacks.append(pack.id)
            }
            try lock.check()
        }
        for writer in writers { try writer.flush() }
        return done
    }

    /// Removes marked packs whose time has come.
    private func sweep(_ marked: [IndexedPack], except usedAgain: Set<Digest>) throws -> Set<Digest> {
        let now = repository.options.clock.now
        var removed: Set<Digest> = []
        var names: [String] = []
        for pack in marked {
            guard let markedAt = pack.markedAt, !usedAgain.contains(pack.id), !used.neededMarkedPacks.contains(pack.id) else { continue }
            // A lock that does not say when its work began, restic's, may be older than any mark.
            let isWaitedFor = begun.contains { $0.map { $0 < markedAt + min(Self.clockMargin, grace) } ?? true }
            let hidesMissing = pack.blobs.isEmpty && used.missingCount > 0
            guard now - markedAt >= grace, !isWaitedFor, !hidesMissing else {
                result.waitingPacks += 1
                continue
            }
            if removed.insert(pack.id).inserted {
                names.append(ObjectKind.pack(pack.id))
                result.removedBytes += pack.size
            }
        }
        for start in stride(from: 0, to: names.count, by: 1000) {
            try lock.check()
            try repository.store.remove(Array(names[start..<min(start + 1000, names.count)]))
        }
        result.removedPacks = removed.count
        return removed
    }

    private func removeStaleLocks() throws {
        let held = Set(try RepositoryLock.all(objects, repository.hostname, repository.options.clock).map(\.name))
        let stale = try objects.list(.locks).map(\.name).filter { !held.contains($0) && $0 != lock.name }
        // One that was put between the two listings is not stale: it is looked at once more.
        let again = Set(try RepositoryLock.all(objects, repository.hostname, repository.options.clock).map(\.name))
        try repository.store.remove(stale.filter { !again.contains($0) }.map { ObjectKind.locks.name($0) })
    }
}
