import Primitives
import TestSupport
import Testing

@testable import Backups

/// A store that fails in a way that the test chooses.
struct UnreliableStore: ObjectStore {
    let store: DirectoryStore
    /// Asked before every call with its name and the object's; what it throws is the call's failure. False: the call is acknowledged and
    /// has no effect.
    let judge: @Sendable (String, String) throws(StoreFailure) -> Bool
    var traits: ObjectStoreTraits { store.traits }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        if try judge("put", name) { try store.put(name, slices, sha256: sha256) }
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        _ = try judge("get", name)
        return try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? {
        _ = try judge("size", name)
        return try store.size(of: name)
    }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        _ = try judge("list", prefix)
        try store.list(prefix, after: after, each)
    }
    func remove(_ names: [String]) throws(StoreFailure) {
        for name in names where try judge("remove", name) { try store.remove([name]) }
    }
}

@Suite("A repository in a store that fails")
struct UnreliableStoreTests {
    private let directory = temporaryDirectory("unreliable")
    private let image = mixedImage(chunks: 24, chunkSize: 256 << 10, seed: 41)
    private let request = BackupRequest(backupID: "b", projectID: "p", volumeID: "v")

    private func options() -> Repository.Options {
        var options = Repository.Options()
        options.packSize = 1 << 20
        options.retryPauses = [0, 0, 0]
        options.indexInterval = 0
        return options
    }

    private func restored(_ repository: Repository, _ snapshot: Digest) throws -> [UInt8] {
        let target = MemoryTarget(image.count)
        _ = try repository.restore(snapshot, to: target)
        return target.bytes
    }

    @Test("every call fails the first time it is made, and nobody notices")
    func temporary() throws {
        let seen = Guarded(Set<String>())
        let store = UnreliableStore(store: DirectoryStore(directory)) { call, name throws(StoreFailure) in
            if seen.withLock({ $0.insert(call + " " + name).inserted }) { throw StoreFailure(.temporary, "come again") }
            return true
        }
        let repository = try Repository.create(in: store, password: Secret("x"), chunkSize: 256 << 10, options: options())
        let made = try repository.backup(MemorySource(image), request)
        #expect(try restored(repository, made.snapshot) == image)
        try repository.delete(made.snapshot)
        #expect(try repository.prune(grace: 0).markedPacks > 0)
    }

    @Test(
        "a store that loses an acknowledged pack, index or snapshot is found out before the backup counts as made, and the next attempt succeeds",
        arguments: ["data/", "index/", "snapshots/"])
    func lost(_ prefix: String) throws {
        let loses = Guarded(true)
        let store = UnreliableStore(store: DirectoryStore(directory)) { call, name in
            !(call == "put" && name.hasPrefix(prefix) && loses.withLock { $0 })
        }
        let repository = try Repository.create(in: store, password: Secret("x"), chunkSize: 256 << 10, options: options())
        #expect(kind { try repository.backup(MemorySource(image), request) } == .damaged)
        #expect(try repository.snapshots().isEmpty)
        loses.withLock { $0 = false }
        var again = request
        again.continues = true
        #expect(try restored(repository, repository.backup(MemorySource(image), again).snapshot) == image)
    }

    @Test("a listing that misses a backup costs no backup: what seemed to be dead is in use again when it shows up")
    func staleListing() throws {
        let memory = try MemoryRepository.create()
        func backup(_ seed: UInt64) throws -> (Digest, [UInt8]) {
            let image = mixedImage(chunks: 6, chunkSize: 256 << 10, seed: seed)
            return (try memory.repository.backup(MemorySource(image), request).snapshot, image)
        }
        let made = try [backup(61), backup(62)]
        let stale = memory.over(StaleStore(store: memory.store, hidden: [ObjectKind.snapshots.name(made[0].0)]))
        #expect(try stale.prune().markedPacks > 0)
        memory.wait(7200)
        // Marked, but still read from.
        for (id, image) in made { #expect(isSame(try memory.restored(id, image.count), image)) }
        memory.wait(2 * 86_400)
        let result = try memory.repository.prune()
        #expect(result.recoveredPacks > 0 && result.removedPacks == 0)
        for (id, image) in made { #expect(isSame(try memory.restored(id, image.count), image)) }
        #expect(try memory.leftovers() == [])
    }

    @Test("a listing that misses the newest parts of the index makes a backup store more, and nothing wrong")
    func staleIndex() throws {
        let memory = try MemoryRepository.create()
        let image = mixedImage(chunks: 6, chunkSize: 256 << 10, seed: 63)
        let first = try memory.repository.backup(MemorySource(image), request).snapshot
        let hidden = Set(memory.store.objects.keys.filter { $0.hasPrefix("index/") })
        let second = try memory.over(StaleStore(store: memory.store, hidden: hidden)).backup(MemorySource(image), request)
        #expect(second.newChunks > 0)
        for each in [first, second.snapshot] { #expect(isSame(try memory.restored(each, image.count), image)) }
        try memory.pruneToTheEnd()
        for each in [first, second.snapshot] { #expect(isSame(try memory.restored(each, image.count), image)) }
        #expect(try memory.leftovers() == [])
    }

    @Test("a store that is full at any object of a backup ends it, and the next attempt succeeds with what is there")
    func anywhere() throws {
        let calls = Guarded(0)
        let failing = Guarded(Int.max)
        let store = UnreliableStore(store: DirectoryStore(directory)) { call, _ throws(StoreFailure) in
            guard call == "put" else { return true }
            let number = calls.withLock { calls in
                calls += 1
                return calls
            }
            if number >= failing.withLock({ $0 }) { throw StoreFailure(.noSpace, "full") }
            return true
        }
        let repository = try Repository.create(in: store, password: Secret("x"), chunkSize: 256 << 10, options: options())
        var failures = 0
        for limit in 1... {
            calls.withLock { $0 = 0 }
            failing.withLock { $0 = limit }
            var request = request
            request.continues = limit % 2 == 0
            do {
                let made = try repository.backup(MemorySource(image), request)
                failing.withLock { $0 = .max }
                #expect(try restored(repository, made.snapshot) == image)
                break
            } catch let failure as StoreFailure {
                #expect(failure.kind == .noSpace)
                failures += 1
            }
            failing.withLock { $0 = .max }
            #expect(try repository.snapshots().isEmpty)
        }
        #expect(failures > 3)
        _ = try repository.prune(grace: 0)
        _ = try repository.prune(grace: 0)
        #expect(try restored(repository, repository.snapshots()[0].id) == image)
        if Restic.isInstalled {
            let check = try Restic(directory: directory, password: "x")("check", "--read-data")
            #expect(check.status == 0, "\(check.output)")
        }
    }

    @Test(
        "what is in a full or read-only store can be restored, verified, read and deleted",
        arguments: [StoreFailure.Kind.noSpace, .forbidden])
    func full(_ kind: StoreFailure.Kind) throws {
        let made = try Repository.create(
            in: DirectoryStore(directory), password: Secret("x"), chunkSize: 256 << 10, options: options()
        ).backup(MemorySource(image), request)
        let store = UnreliableStore(store: DirectoryStore(directory)) { call, _ throws(StoreFailure) in
            if call == "put" { throw StoreFailure(kind, "no more") }
            return true
        }
        let repository = try Repository.open(store, password: Secret("x"), options: options())
        #expect(try restored(repository, made.snapshot) == image)
        #expect(try repository.verify(made.snapshot).isGood && repository.scrub().isGood)
        var bytes = [UInt8](repeating: 0, count: 100)
        try bytes.withUnsafeMutableBytes { try repository.image(of: made.snapshot).read(at: 5, into: $0) }
        #expect(bytes == Array(image[5..<105]))
        #expect(throws: StoreFailure.self) { _ = try repository.backup(MemorySource(image), request) }
        try repository.delete(made.snapshot)
        #expect(try repository.snapshots().isEmpty)
    }

    @Test("a snapshot that cannot be read is named and hides no other")
    func listing() throws {
        let repository = try Repository.create(
            in: DirectoryStore(directory), password: Secret("x"), chunkSize: 256 << 10, options: options())
        let made = try repository.backup(MemorySource(image), request)
        let bad = Digest.sha256([1])
        writeFile(directory + "/snapshots/" + bad.hex, [1, 2, 3])
        #expect(kind { try repository.snapshots() } == .damaged)
        var damaged: [Digest] = []
        #expect(try repository.snapshots { name, _ in damaged.append(name) }.map(\.id) == [made.snapshot])
        #expect(damaged == [bad])
        #expect(kind { try repository.prune() } == .damaged)
    }
}
