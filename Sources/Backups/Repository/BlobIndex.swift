import Glibc
import Primitives

/// Where every blob of a repository lies. Any thread.
///
/// What the store's index objects said is in sorted runs; what was stored since is remembered only as known, in memory and, when it grows,
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

    /// A record of the index: of all records of its kind, packs in use or marked ones, the how manieth it is.
    struct Entry {
        var number: Int
        var location: Location
    }

    private struct Added {
        var keys: Set<Key> = []
        var runs: [IndexRun] = []
    }

    private let parts: [IndexPart]
    /// Index objects that are not what was written, and why: what they said is not known.
    let unreadable: [(name: Digest, error: RepositoryError)]
    private let added = Guarded(Added())
    private let temporaryDirectory: String
    private static let keysInMemory = 1 << 17
    private static let runLimit = 8

    private init(_ parts: [IndexPart], unreadable: [(name: Digest, error: RepositoryError)], temporaryDirectory: String) {
        self.parts = parts
        self.unreadable = unreadable
        self.temporaryDirectory = temporaryDirectory
    }

    var liveCount: Int { parts.reduce(0) { $0 + $1.live.count } }
    var markedCount: Int { parts.reduce(0) { $0 + $1.marked.count } }

    /// The packs in use.
    var packs: [Digest] { get throws { try list(\.livePacks) } }
    /// The packs that are marked for removal.
    var markedPacks: [Digest] { get throws { try list(\.markedPacks) } }

    private func list(_ table: KeyPath<IndexPart, PackTable>) throws -> [Digest] {
        var packs: [Digest] = []
        packs.reserveCapacity(parts.reduce(0) { $0 + $1[keyPath: table].count })
        for part in parts { try checked(part) { try part[keyPath: table].forEach { packs.append($0) } } }
        return packs
    }

    /// The same with packs that are in no index.
    func adding(_ packs: IndexPartBuilder) throws -> BlobIndex {
        BlobIndex(parts + [try packs.finish()], unreadable: unreadable, temporaryDirectory: temporaryDirectory)
    }

    /// Reads the index of a repository. An object that is damaged is left out.
    ///
    /// - Parameter cache: has what earlier operations read.
    static func load(_ objects: SealedObjects, temporaryDirectory: String, cache: IndexCache? = nil) throws -> BlobIndex {
        // Who rewrites the index puts the new objects before the old ones go: what vanishes while we read is in a newer listing.
        var attempt = 1
        while true {
            do { return try loadOnce(objects, temporaryDirectory, cache) } catch let failure as StoreFailure
                where failure.kind == .notFound && attempt < 5
            { attempt += 1 }
        }
    }

    private static func loadOnce(_ objects: SealedObjects, _ temporaryDirectory: String, _ cache: IndexCache?) throws -> BlobIndex {
        let names = try objects.list(.index).map(\.name)
        guard let cache else {
            let (builder, unreadable) = try collect(names, objects, temporaryDirectory)
            return BlobIndex([try builder.finish()], unreadable: unreadable, temporaryDirectory: temporaryDirectory)
        }
        var files = cache.files(of: Set(names))
        let covered = Set(files.flatMap(\.names))
        var missing = names.filter { !covered.contains($0) }
        var unreadable: [(name: Digest, error: RepositoryError)] = []
        if !missing.isEmpty {
            let builder: IndexPartBuilder
            (builder, unreadable) = try collect(missing, objects, temporaryDirectory)
            let left = Set(unreadable.map(\.name))
            missing.removeAll { left.contains($0) }
            // A cache that cannot be written to keeps nobody from working.
            if !missing.isEmpty {
                guard let saved = try? cache.save(missing, builder) else {
                    let (rest, unreadable) = try collect(names.filter { !covered.contains($0) }, objects, temporaryDirectory)
                    return BlobIndex(
                        files.map(\.part) + [try rest.finish()], unreadable: unreadable, temporaryDirectory: temporaryDirectory)
                }
                files.append(saved)
            }
        }
        if let compacted = try? cache.compacted(files) { files = compacted }
        return BlobIndex(files.map(\.part), unreadable: unreadable, temporaryDirectory: temporaryDirectory)
    }

    private static func collect(_ names: [Digest], _ objects: SealedObjects, _ temporaryDirectory: String) throws
        -> (IndexPartBuilder, unreadable: [(name: Digest, error: RepositoryError)])
    {
        var builder = IndexPartBuilder(temporaryFilesIn: temporaryDirectory)
        var unreadable: [(name: Digest, error: RepositoryError)] = []
        for name in names {
            do { try IndexObject.scan(objects.load(.index, name), name: name) { try builder.add($0) } } catch let error as RepositoryError
                where error.kind == .damaged
            { unreadable.append((name, error)) }
        }
        return (builder, unreadable)
    }

    /// Runs the body; a cached file that turns out to be damaged is removed, and the failure says that another attempt may succeed.
    private func checked<Result>(_ part: IndexPart, _ body: () throws -> Result) throws -> Result {
        do { return try body() } catch is IndexPages.DamagedPage {
            if let path = part.path { unlink(path) }
            throw StoreFailure(.temporary, "a file of the local index is damaged and was given up: \(part.path ?? temporaryDirectory)")
        }
    }

    private func find(
        _ id: Digest, _ type: BlobType, _ run: KeyPath<IndexPart, IndexRun>, _ packs: KeyPath<IndexPart, PackTable>
    ) throws -> Entry? {
        var before = 0
        for part in parts {
            let found = try checked(part) { () -> Entry? in
                guard let (index, record) = try part[keyPath: run].find(id, type) else { return nil }
                return Entry(
                    number: before + index, location: Location(pack: try part[keyPath: packs].pack(record.pack), blob: record.blob))
            }
            if let found { return found }
            before += part[keyPath: run].count
        }
        return nil
    }

    /// A blob in a pack in use.
    func findLive(_ id: Digest, _ type: BlobType) throws -> Entry? { try find(id, type, \.live, \.livePacks) }
    /// A blob in a pack that is marked for removal.
    func findMarked(_ id: Digest, _ type: BlobType) throws -> Entry? { try find(id, type, \.marked, \.markedPacks) }

    private func isLive(_ id: Digest, _ type: BlobType) throws -> Bool {
        for part in parts where try checked(part, { try part.live.find(id, type) != nil }) { return true }
        return false
    }

    /// Where a blob lies, in a marked pack too if no other has it; nil if the repository had none when the index was read.
    func find(_ id: Digest, _ type: BlobType) throws -> Location? { try (findLive(id, type) ?? findMarked(id, type))?.location }

    /// Says that the caller is about to store a blob.
    ///
    /// - Returns: false if a pack in use has it already or somebody else is about to store it.
    func claim(_ id: Digest, _ type: BlobType) throws -> Bool {
        if try isLive(id, type) { return false }
        return try added.withLock { added in
            for run in added.runs where try run.find(id, type) != nil { return false }
            guard added.keys.insert(Key(id: id, type: type)).inserted else { return false }
            if added.keys.count >= Self.keysInMemory { try spill(&added) }
            return true
        }
    }

    /// Whether a backup that is written now may refer to the blob.
    func isUsable(_ id: Digest, _ type: BlobType) throws -> Bool {
        if try isLive(id, type) { return true }
        return try added.withLock { added in
            if added.keys.contains(Key(id: id, type: type)) { return true }
            return try added.runs.contains { try $0.find(id, type) != nil }
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
            for run in added.runs {
                var reader = run.reader()
                while let record = try reader.next() { try builder.add(record) }
            }
            added.runs = []
        }
        added.runs.append(try builder.finish())
    }
}

/// A value that the owner vouches may be used by several threads.
struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
