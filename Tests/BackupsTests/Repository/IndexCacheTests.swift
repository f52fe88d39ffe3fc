import Glibc
import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("The index as it is kept between operations")
struct IndexCacheTests {
    private let store = DirectoryStore(temporaryDirectory("index"))
    private let directory = temporaryDirectory("cache")
    private let keys = SealingKeys.random()
    private let repository = Digest.sha256([1])

    private var objects: SealedObjects { SealedObjects(store, keys) }

    /// What the store's index says.
    private struct Contents {
        var objects: [(name: Digest, packs: [IndexedPack])] = []
        var packs: [IndexedPack] { objects.flatMap(\.packs) }
    }

    private func load(_ store: (any ObjectStore)? = nil) throws -> BlobIndex {
        let cache = try #require(IndexCache(directory, repository: repository))
        return try BlobIndex.load(SealedObjects(store ?? self.store, keys), temporaryDirectory: "/tmp", cache: cache)
    }

    private func pack(_ random: inout Seeded, _ blobs: Int) -> IndexedPack {
        func digest() -> Digest { Digest(words: (random.next(), random.next(), random.next(), random.next())) }
        let isMarked = random.next() % 5 == 0
        return IndexedPack(
            id: digest(),
            blobs: (0..<blobs).map {
                PackedBlob(
                    id: digest(), type: random.next() % 4 == 0 ? .tree : .data, offset: UInt32($0 * 50), length: 50,
                    plainLength: UInt32($0 % 2 * 9))
            }, markedAt: isMarked ? 1_796_000_000 : nil)
    }

    private func save(_ packs: [IndexedPack], _ contents: inout Contents) throws {
        let name = try IndexObject.text(packs).withUnsafeBytes { try objects.save(.index, $0) }
        contents.objects.append((name, packs))
    }

    private func expect(_ index: BlobIndex, says contents: Contents) throws {
        for pack in contents.packs {
            for blob in pack.blobs {
                let entry = try pack.markedAt == nil ? index.findLive(blob.id, blob.type) : index.findMarked(blob.id, blob.type)
                #expect(entry?.location.pack == pack.id && entry?.location.blob == blob)
            }
        }
        #expect(try Set(index.packs) == Set(contents.packs.filter { $0.markedAt == nil }.map(\.id)))
        #expect(try Set(index.markedPacks) == Set(contents.packs.filter { $0.markedAt != nil }.map(\.id)))
        let blobs = contents.packs.filter { $0.markedAt == nil }.flatMap(\.blobs)
        #expect(index.liveCount == blobs.count)
        #expect(try Set(blobs.compactMap { try index.findLive($0.id, $0.type)?.number }).count == blobs.count)
        #expect(try index.find(Digest.sha256([2]), .data) == nil)
    }

    private func files() throws -> [String] {
        let folder = directory + "/" + repository.hex
        guard let listing = opendir(folder) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if !name.hasPrefix(".") { names.append(folder + "/" + name) }
        }
        return names.sorted()
    }

    @Test("it says what the store's objects say, while they come and go, and is kept in few files", arguments: 1...3)
    func follows(_ seed: UInt64) throws {
        var random = Seeded(seed)
        var contents = Contents()
        try expect(load(), says: contents)
        for _ in 0..<25 {
            if random.next() % 6 == 0, !contents.objects.isEmpty {
                // As a prune does it: what an object said is said by another one.
                let (name, packs) = contents.objects.remove(at: Int.random(in: 0..<contents.objects.count, using: &random))
                if packs.count > 1 { try save(Array(packs.dropFirst()), &contents) }
                try store.remove([ObjectKind.index.name(name)])
            } else {
                let count = Int.random(in: 1...6, using: &random)
                try save((0..<count).map { _ in pack(&random, Int.random(in: 0...60, using: &random)) }, &contents)
            }
            if random.next() % 3 > 0 { try expect(load(), says: contents) }
        }
        try expect(load(), says: contents)
        #expect(try files().count <= 6)
    }

    @Test("an object that was read once is not read again")
    func once() throws {
        var random = Seeded(4)
        var contents = Contents()
        for _ in 0..<3 { try save([pack(&random, 20)], &contents) }
        _ = try load()
        let read = Guarded([String]())
        let counting = UnreliableStore(store: store) { call, name in
            if call == "get" { read.withLock { $0.append(name) } }
            return true
        }
        try expect(load(counting), says: contents)
        #expect(read.withLock { $0 } == [])
        try save([pack(&random, 20)], &contents)
        try expect(load(counting), says: contents)
        #expect(read.withLock { Set($0) } == [ObjectKind.index.name(contents.objects[3].name)])
    }

    @Test("two at the same time disturb each other in nothing, and what one has removed the other still reads")
    func together() throws {
        var random = Seeded(5)
        var contents = Contents()
        for _ in 0..<3 { try save([pack(&random, 50)], &contents) }
        let old = (index: try load(), contents: contents)
        for _ in 0..<8 {
            try save([pack(&random, 30)], &contents)
            let ended = Semaphore()
            let failures = Guarded([String]())
            for _ in 0..<3 {
                startThread("load") { [self, contents] in
                    do { try expect(load(), says: contents) } catch { failures.withLock { $0.append("\(error)") } }
                    ended.post()
                }
            }
            for _ in 0..<3 { ended.wait() }
            #expect(failures.withLock { $0 } == [])
        }
        try expect(old.index, says: old.contents)
    }

    @Test("a file that is cut off, or in which any byte is wrong, is given up and never believed")
    func damaged() throws {
        var random = Seeded(6)
        var contents = Contents()
        try save((0..<5).map { _ in pack(&random, 30) }, &contents)
        _ = try load()
        let path = try #require(files().first)
        let good = try readFile(path)
        for round in 0..<60 {
            var bytes = good
            switch round % 6 {
            case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            case 1: bytes.append(contentsOf: bytes.suffix(4096))
            case 2: bytes = [UInt8](repeating: 0, count: bytes.count)
            default: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            }
            writeFile(path, bytes)
            do { try expect(load(), says: contents) } catch let failure as StoreFailure {
                #expect(failure.kind == .temporary)
                #expect(access(path, F_OK) != 0)
            }
            try expect(load(), says: contents)
            #expect(try readFile(path) == good)
        }
    }

    @Test("a directory that cannot be used keeps nobody from working")
    func unusable() throws {
        var random = Seeded(8)
        var contents = Contents()
        try save([pack(&random, 20)], &contents)
        #expect(IndexCache("/proc/none", repository: repository) == nil)
        let cache = try #require(IndexCache(directory, repository: repository))
        rmdir(cache.directory)
        symlink("/proc/self", cache.directory)
        try expect(BlobIndex.load(objects, temporaryDirectory: "/tmp", cache: cache), says: contents)
    }
}
