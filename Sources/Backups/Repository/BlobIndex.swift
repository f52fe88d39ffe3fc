import Primitives

/// Where every blob of a repository lies. Any thread.
///
/// What the store's index objects said is a sorted run; what was stored since is remembered only as known, in memory and, when it grows,
/// in further runs.
final class BlobIndex: Sendable {
    /// A blob as something to look up.
    struct Key: Hashable {
        var id: Digest
        var type: BlobType
    }

    struct Location: Sendable {
        var pack: Digest
        var blob: PackedBlob
    }

    private struct Added {
        var keys: Set<Key> = []
        var runs: [Unchecked<IndexRun>] = []
    }

    /// The packs in use, by the numbers that records have.
    let packs: [Digest]
    /// The packs that are marked for removal, and when.
    let markedPacks: [Digest]
    private let runs: Unchecked<(live: IndexRun, marked: IndexRun)>
    private let added = Guarded(Added())
    private let temporaryDirectory: String
    private static let keysInMemory = 1 << 17
    private static let runLimit = 8

    private init(packs: [Digest], live: IndexRun, markedPacks: [Digest], marked: IndexRun, temporaryDirectory: String) {
        self.packs = packs
        self.markedPacks = markedPacks
        // A run never changes, and a file descriptor may be read by any thread.
        runs = Unchecked((live, marked))
        self.temporaryDirectory = temporaryDirectory
    }

    var live: IndexRun { runs.value.live }
    var marked: IndexRun { runs.value.marked }

    /// Reads every index object of a repository.
    static func load(_ objects: SealedObjects, temporaryDirectory: String) throws -> BlobIndex {
        // Who rewrites the index puts the new objects before the old ones go: what vanishes while we read is in a newer listing.
        for attempt in 1... {
            do { return try loadOnce(objects, temporaryDirectory) } catch let failure as StoreFailure
                where failure.kind == .notFound && attempt < 5
            { continue }
        }
        fatalError("unreachable: the loop ends only by return or throw")
    }

    private static func loadOnce(_ objects: SealedObjects, _ temporaryDirectory: String) throws -> BlobIndex {
        let live = IndexRunBuilder(temporaryFilesIn: temporaryDirectory)
        let marked = IndexRunBuilder(temporaryFilesIn: temporaryDirectory)
        var packs: [Digest] = []
        var markedPacks: [Digest] = []
        for (name, _) in try objects.list(.index) {
            try IndexObject.scan(objects.load(.index, name), name: name) { pack in
                if pack.markedAt == nil {
                    for blob in pack.blobs { try live.add(IndexRecord(blob, pack: UInt32(packs.count))) }
                    packs.append(pack.id)
                } else {
                    for blob in pack.blobs { try marked.add(IndexRecord(blob, pack: UInt32(markedPacks.count))) }
                    markedPacks.append(pack.id)
                }
            }
        }
        return BlobIndex(
            packs: packs, live: try live.finish(), markedPacks: markedPacks, marked: try marked.finish(),
            temporaryDirectory: temporaryDirectory)
    }

    /// Where a blob lies, in a marked pack too if no other has it; nil if the repository had none when the index was read.
    func find(_ id: Digest, _ type: BlobType) throws -> Location? {
        if let (_, record) = try live.find(id, type) { return Location(pack: packs[Int(record.pack)], blob: record.blob) }
        if let (_, record) = try marked.find(id, type) { return Location(pack: markedPacks[Int(record.pack)], blob: record.blob) }
        return nil
    }

    /// Says that the caller is about to store a blob.
    ///
    /// - Returns: false if a pack in use has it already or somebody else is about to store it.
    func claim(_ id: Digest, _ type: BlobType) throws -> Bool {
        if try live.find(id, type) != nil { return false }
        return try added.withLock { added in
            for run in added.runs where try run.value.find(id, type) != nil { return false }
            guard added.keys.insert(Key(id: id, type: type)).inserted else { return false }
            if added.keys.count >= Self.keysInMemory { try spill(&added) }
            return true
        }
    }

    /// Whether a backup that is written now may refer to the blob.
    func isUsable(_ id: Digest, _ type: BlobType) throws -> Bool {
        if try live.find(id, type) != nil { return true }
        return try added.withLock { added in
            if added.keys.contains(Key(id: id, type: type)) { return true }
            return try added.runs.contains { try $0.value.find(id, type) != nil }
        }
    }

    /// Moves what is remembered into a sorted file; several of them become one.
    private func spill(_ added: inout Added) throws {
        // Even a small batch goes into the file: this is about memory.
        let builder = IndexRunBuilder(temporaryFilesIn: temporaryDirectory, batchSize: Self.keysInMemory)
        for key in added.keys {
            try builder.add(IndexRecord(PackedBlob(id: key.id, type: key.type, offset: 0, length: 0, plainLength: 0), pack: 0))
        }
        added.keys.removeAll(keepingCapacity: true)
        if added.runs.count >= Self.runLimit {
            for run in added.runs { for index in 0..<run.value.count { try builder.add(run.value.record(index)) } }
            added.runs = []
        }
        added.runs.append(Unchecked(try builder.finish()))
    }
}

/// A value that the owner vouches may be used by several threads.
struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
