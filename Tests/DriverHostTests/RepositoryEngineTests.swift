import Backups
import DriverHost
import Glibc
import Primitives
import TestSupport
import Testing

@testable import Transfers

/// A store that does not find some objects a number of times.
private struct ForgetfulStore: ObjectStore {
    let store: DirectoryStore
    let forgotten: String
    let left: Guarded<Int>
    var traits: ObjectStoreTraits { store.traits }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try store.put(name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? {
        let isForgotten =
            name.hasSuffix(forgotten)
            && left.withLock { left in
                left -= 1
                return left >= 0
            }
        return isForgotten ? nil : try store.size(of: name)
    }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        try store.list(prefix, after: after, each)
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names) }
}

private struct SomeVolume: BlockSource {
    let size: UInt64 = 4 << 20
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) { _ = memset(buffer.baseAddress!, 7, buffer.count) }
    func data(in range: Range<UInt64>) -> [Range<UInt64>] { [range] }
    func changes(in range: Range<UInt64>) -> [Range<UInt64>]? { nil }
}

@Suite("A backup whose repository is not found")
struct RepositoryEngineTests {
    private let place = temporaryDirectory("engine")
    private let engine = RepositoryEngine()
    private var keys: String { place + "/store.keys" }
    private var store: DirectoryStore { DirectoryStore(place + "/objects") }

    private var order: BackupOrder {
        var item = BackupOrder.Item()
        (item.id, item.projectID, item.volumeID, item.createdAt) = ("b", "p", "v", "2026-11-30T12:00:00.000000")
        item.objectCount = 1
        var order = BackupOrder(format: "repository", backup: item)
        order.options = .members(["keys": .string(keys)])
        return order
    }

    /// A backup that never was whole.
    private var failed: BackupOrder {
        var order = order
        order.backup.objectCount = 0
        return order
    }

    init() throws {
        #expect(mkdir(place + "/objects", 0o700) == 0)
        _ = try engine.backup(order, of: SomeVolume(), to: store, TransferControl())
    }

    private func verify(_ store: any ObjectStore) throws -> BackupVerdict { try engine.verify(order, in: store, TransferControl()) }
    private func remove(_ store: any ObjectStore) throws { try engine.remove(order, from: store, TransferControl()) }

    private func holdsSnapshot() throws -> Bool {
        var count = 0
        try store.list("repositories/p/snapshots/", after: "") { _, _ in
            count += 1
            return true
        }
        return count == 1
    }

    @Test("a store without the repository, as a share that is not mounted, is no verdict")
    func notMounted() throws {
        #expect(try verify(store).damages == [])
        let empty = DirectoryStore(temporaryDirectory("unmounted"))
        let failure = try #require(throws: DriverFailure.self) { try verify(empty) }
        #expect(failure.code == .error && failure.message.contains("the store has no repository of project p"))
        #expect(!BackupDamageReason.isOf(failure.message))
        #expect(try #require(throws: DriverFailure.self) { try remove(empty) }.message == failure.message)
        // One that failed before the repository was made has nothing there: its deletion is at its end.
        try engine.remove(failed, from: empty, TransferControl())
    }

    @Test("a repository without an index, made where a share was not mounted, lets no deletion end of a backup that was whole")
    func anotherRepository() throws {
        let other = DirectoryStore(temporaryDirectory("another"))
        #expect(try RepositoryEngine.open("p", in: other, keys: keys, cache: nil, makes: true) != nil)
        let failure = try #require(throws: DriverFailure.self) { try remove(other) }
        #expect(failure.code == .error && failure.message.contains("has neither backup b nor any index"))
        try engine.remove(failed, from: other, TransferControl())
    }

    @Test("without the repository's password there is neither a verdict nor a deletion, and the failure names it")
    func noPassword() throws {
        #expect(rename(keys, keys + ".away") == 0)
        for work in [{ _ = try verify(store) }, { try remove(store) }] {
            let failure = try #require(throws: DriverFailure.self) { try work() }
            #expect(failure.code == .error && failure.message.contains("the password of the repository of project p is missing"))
        }
        #expect(try holdsSnapshot())
    }

    @Test("a store that does not find the repository's configuration lets no deletion end while the snapshot stays")
    func noConfiguration() throws {
        let never = ForgetfulStore(store: store, forgotten: "/config", left: Guarded(.max))
        for work in [{ _ = try verify(never) }, { try remove(never) }] {
            let failure = try #require(throws: DriverFailure.self) { try work() }
            #expect(failure.code == .error && failure.message.contains("repositories/p/ has no config or no key"))
        }
        #expect(try holdsSnapshot())
        try remove(ForgetfulStore(store: store, forgotten: "/config", left: Guarded(1)))
        #expect(try !holdsSnapshot())
    }

    /// Of another volume, while the database knows of `b`.
    private var another: BackupOrder {
        var another = order
        (another.backup.id, another.backup.volumeID, another.backup.objectCount) = ("c", "w", 0)
        another.neighbours = ["b"]
        return another
    }

    @Test("a repository that has vanished is not made again while the database knows of backups in it")
    func vanished() throws {
        let empty = DirectoryStore(temporaryDirectory("vanished"))
        let failure = try #require(throws: DriverFailure.self) {
            try engine.backup(another, of: SomeVolume(), to: empty, TransferControl())
        }
        #expect(failure.message.contains("no repository of project p, where 1 of its backups lie"), "\(failure.message)")
        #expect(failure.message.utf8.count < 256)
        #expect(try !Repository.mayHoldBackups(empty))
        // The first of a project, and the first that is made here beside one that was imported.
        var first = another
        first.neighbours = []
        _ = try engine.backup(first, of: SomeVolume(), to: DirectoryStore(temporaryDirectory("new")), TransferControl())
        var elsewhere = another
        elsewhere.options = .members(["keys": .string(place + "/other.keys")])
        _ = try engine.backup(elsewhere, of: SomeVolume(), to: empty, TransferControl())
        // One whose password is missing gets no other.
        var unknown = another
        unknown.options = .members(["keys": .string(place + "/no.keys")])
        #expect(
            try #require(throws: DriverFailure.self) { try engine.backup(unknown, of: SomeVolume(), to: store, TransferControl()) }.message
                .contains("the password of the repository of project p is missing"))
        #expect(access(place + "/no.keys/p", F_OK) != 0)
    }

    /// Damages the snapshot of `b`; its name.
    private func spoilSnapshot() throws -> String {
        var name = ""
        try store.list("repositories/p/snapshots/", after: "") { found, _ in
            name = found
            return false
        }
        let file = open(place + "/objects/" + name, O_RDWR | O_CLOEXEC)
        defer { close(file) }
        var byte: UInt8 = 0
        #expect(pread(file, &byte, 1, 20) == 1)
        byte ^= 1
        #expect(pwrite(file, &byte, 1, 20) == 1)
        return String(name.dropFirst("repositories/p/".count))
    }

    @Test("a snapshot that cannot be read is the damage of its own backup: others are made, and say whose it is")
    func besideDamage() throws {
        let name = try spoilSnapshot()
        let output = try engine.backup(another, of: SomeVolume(), to: store, TransferControl())
        #expect(output["lost"]?.list?.map(\.string) == ["b"])
        #expect(output["unreadable"]?.list?.map(\.string) == ["\(name) is not what was written"])
        let verdict = BackupVerdict(lostSnapshots: output)
        #expect(verdict.users == ["b"] && verdict.damages == [.init("\(name) is not what was written")])
        #expect(try verify(store).damages.contains { $0.text.contains(name) })
    }

    @Test("a backup whose snapshot cannot be read is deleted, and its snapshot with it")
    func removalOfDamaged() throws {
        let name = try spoilSnapshot()
        _ = try engine.backup(another, of: SomeVolume(), to: store, TransferControl())
        // One that failed leaves another's alone.
        var failed = failed
        failed.backup.id = "d"
        failed.neighbours = ["b", "c"]
        try engine.remove(failed, from: store, TransferControl())
        #expect(try store.size(of: "repositories/p/" + name) != nil)
        var order = order
        order.neighbours = ["c"]
        try engine.remove(order, from: store, TransferControl())
        #expect(try store.size(of: "repositories/p/" + name) == nil)
        #expect(try holdsSnapshot())
    }

    @Test("a repository that is there and has no snapshot of the backup lost it")
    func lost() throws {
        try store.list("repositories/p/snapshots/", after: "") { name, _ in unlink(place + "/objects/" + name) == 0 }
        #expect(try verify(store).damages.map(\.text) == ["the project's repository does not hold backup b"])
        // It is gone: a deletion has nothing to do.
        try remove(store)
    }
}
