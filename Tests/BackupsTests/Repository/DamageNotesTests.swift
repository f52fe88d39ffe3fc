import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Damage that is found while the store takes nothing")
struct DamageNotesTests {
    private let directory = temporaryDirectory("damages")
    private let image = mixedImage(chunks: 8, chunkSize: kib256, seed: 51)

    private func request(_ id: String, parent: Digest? = nil) -> BackupRequest {
        BackupRequest(backupID: id, projectID: "p", volumeID: "v", parent: parent)
    }

    /// Whoever comes next is another process: it has nothing but the store and the directory.
    private func process(_ memory: MemoryRepository, over store: any ObjectStore) -> Repository {
        var options = memory.repository.options
        options.damageDirectory = directory
        return memory.repository.reopened(over: store, options)
    }

    private enum Damage: CaseIterable { case chunk, pack, tree }

    @Test("the next backup inherits none of it: it is stored anew as soon as there is room", arguments: Damage.allCases)
    private func full(_ damage: Damage) throws {
        let memory = try MemoryRepository.create()
        let first = try memory.repository.backup(MemorySource(image), request("first")).snapshot
        let index = try memory.repository.loadIndex()
        let map = try ImageMap(memory.repository, index, snapshot: first)
        let zero = ZeroChunks(chunkSize: kib256).id(kib256)
        let chunk = try #require(try map.chunks(of: 0).first { $0 != zero })
        let location = try #require(damage == .tree ? try index.find(map.tree(of: 0), .tree) : try index.find(chunk, .data))
        let name = ObjectKind.pack(location.pack)
        var bytes = try #require(memory.store.objects[name])
        bytes[Int(location.blob.offset) + 20] ^= 1
        try bytes.withUnsafeBytes { try memory.store.put(name, [$0], sha256: nil) }

        let full = FullStore(store: memory.store)
        let reader = process(memory, over: full)
        let damages = try damage == .pack ? reader.scrub().damages : reader.verify(first).damages
        #expect(!damages.isEmpty)
        for _ in 0..<2 {
            let failure = #expect(throws: StoreFailure.self) { try reader.discard(damages) }
            #expect(failure?.kind == .noSpace)
        }
        // As long as nothing can be written there is no backup that looks good.
        #expect(throws: StoreFailure.self) {
            try process(memory, over: full).backup(MemorySource(image, changed: []), request("none", parent: first))
        }
        let next = try process(memory, over: memory.store).backup(MemorySource(image, changed: []), request("next", parent: first))
        for snapshot in [first, next.snapshot] {
            #expect(try memory.repository.verify(snapshot).damages == [])
            #expect(isSame(try memory.restored(snapshot, image.count), image))
        }
        // It was done once.
        let last = try process(memory, over: memory.store).backup(MemorySource(image, changed: []), request("last", parent: next.snapshot))
        #expect(last.newChunks == 0)
        let notes = try DamageNotes(directory, repository: memory.repository.id)
        try notes.settle { _ in Issue.record("something is still noted") }
    }

    @Test("what is noted twice is noted once, and a line that was cut off takes no other with it")
    func lines() throws {
        let notes = try DamageNotes(directory, repository: Digest.sha256([1]))
        let path = directory + "/" + Digest.sha256([1]).hex + ".damages"
        let (chunk, pack) = (
            RepositoryDamage(chunk: Digest.sha256([2]), description: ""), RepositoryDamage(pack: Digest.sha256([3]), description: "")
        )
        try notes.add([chunk, chunk])
        try notes.add([chunk])
        writeFile(path, try readFile(path) + Array("pack 12".utf8))
        try notes.add([pack, RepositoryDamage(description: "of nothing that has a name")])
        var found: [RepositoryDamage] = []
        // What fails is noted further.
        #expect(throws: StoreFailure.self) { try notes.settle { _ in throw StoreFailure(.noSpace, "still full") } }
        try notes.settle { found = $0 }
        #expect(found == [chunk, pack])
        try notes.settle { _ in Issue.record("it was settled") }
    }
}

/// A store without room: what lies in it can be read and removed.
private struct FullStore: ObjectStore {
    let store: any ObjectStore
    var traits: ObjectStoreTraits { store.traits }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        throw StoreFailure(.noSpace, "the store is full")
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { throw StoreFailure(.noSpace, "the store is full") }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: name) }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        try store.list(prefix, after: after, each)
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names) }
}
