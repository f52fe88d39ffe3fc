import Primitives
import TestSupport
import Testing

@testable import Backups

/// A store whose listings do not name some of its objects at first.
private struct LaggingStore: ObjectStore {
    let store: any ObjectStore
    /// What the names of those objects begin with.
    let hidden: String
    /// Listings of them that are still to be short.
    let left: Guarded<Int>
    var traits: ObjectStoreTraits { ObjectStoreTraits(listsConsistently: false) }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try store.put(name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: name) }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        let isShort =
            prefix == hidden
            && left.withLock { left in
                left -= 1
                return left >= 0
            }
        if !isShort { try store.list(prefix, after: after, each) }
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names) }
}

@Suite("What is certain of a backup in a repository")
struct BackupSearchTests {
    private let store = MemoryStore()
    private let image = mixedImage(chunks: 6, chunkSize: 256 << 10, seed: 77)

    private func open(_ store: any ObjectStore) throws -> Repository { try .open(store, password: Secret("secret")) }

    private func back(up id: String) throws -> Digest {
        let repository =
            try store.objects.isEmpty
            ? Repository.create(in: store, password: Secret("secret"), chunkSize: 256 << 10) : open(store)
        return try repository.backup(MemorySource(image), BackupRequest(backupID: id, projectID: "p", volumeID: "v")).snapshot
    }

    private func failure(_ repository: Repository, _ id: String = "a") throws -> RepositoryError {
        try #require(throws: RepositoryError.self) { try repository.verify(backup: id, pause: 0) }
    }

    @Test("a snapshot that a store without lag does not have is lost")
    func lost() throws {
        let snapshot = try back(up: "a")
        #expect(try open(store).verify(backup: "a", pause: 0).isGood)
        try store.remove([ObjectKind.snapshots.name(snapshot)])
        #expect(try failure(open(store)).kind == .damaged)
        #expect(try open(store).find(backup: "a", pause: 0) == nil)
    }

    @Test("a repository that has no index may be another one: nothing is lost for certain")
    func anotherRepository() throws {
        _ = try Repository.create(in: store, password: Secret("secret"), chunkSize: 256 << 10)
        let failure = try failure(open(store))
        #expect(failure.kind == .notFound && failure.description.contains("has neither backup a nor any index"))
    }

    @Test("what a listing that lags does not name is looked for once more, and is no damage then", arguments: ["snapshots/", "index/"])
    func lag(hidden: String) throws {
        _ = try back(up: "a")
        func lagging(_ listings: Int) throws -> Repository { try open(LaggingStore(store: store, hidden: hidden, left: Guarded(listings))) }
        #expect(try lagging(1).verify(backup: "a", pause: 0).isGood)
        let failure = try failure(lagging(100))
        #expect(failure.kind == .notFound && failure.description.contains("the store's listings may lag"))
        if hidden == "snapshots/" { #expect(try lagging(1).find(backup: "a", pause: 0) != nil) }
    }

    @Test("what lies damaged under its name is damage, whether listings lag or not")
    func damageDespiteLag() throws {
        _ = try back(up: "a")
        let packs = store.objects.filter { $0.key.hasPrefix("data/") }
        let (pack, good) = try #require(packs.max { $0.value.count < $1.value.count })
        var bytes = good
        bytes[100] ^= 1
        try bytes.withUnsafeBytes { try store.put(pack, [$0], sha256: nil) }
        #expect(try !open(LaggingStore(store: store, hidden: "-", left: Guarded(0))).verify(backup: "a", pause: 0).isGood)
    }

    @Test("another backup's snapshot that cannot be read says nothing of this one")
    func otherSnapshot() throws {
        _ = try back(up: "a")
        let other = ObjectKind.snapshots.name(try back(up: "b"))
        try [UInt8]("nothing".utf8).withUnsafeBytes { try store.put(other, [$0], sha256: nil) }
        #expect(try open(store).verify(backup: "a", pause: 0).isGood)
        #expect(try failure(open(store), "b").kind == .damaged)
        #expect(throws: RepositoryError.self) { try open(store).find(backup: "b", pause: 0) }
    }

    @Test("a store holds no backups where it has nothing, or the keys of a creation that did not finish")
    func emptyStore() throws {
        #expect(try !Repository.mayHoldBackups(store))
        _ = try back(up: "a")
        #expect(try Repository.mayHoldBackups(store))
        try store.remove(["config"])
        #expect(try Repository.mayHoldBackups(store))
        try store.remove(store.objects.keys.filter { !$0.hasPrefix("keys/") })
        #expect(try !store.objects.isEmpty && !Repository.mayHoldBackups(store))
    }
}
