import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

/// A repository in memory, at a time that the test sets.
struct MemoryRepository: Sendable {
    let repository: Repository
    let store: MemoryStore
    private let time: Guarded<Double>
    private let options: Repository.Options

    /// - Parameter time: what all who come to work with it take for the time.
    static func options(_ time: Guarded<Double>) -> Repository.Options {
        var options = Repository.Options()
        options.packSize = 1 << 19
        options.sampling = 0
        options.threads = 1
        options.lockPatience = 0
        options.retryPauses = []
        options.indexInterval = 0
        options.clock = RepositoryClock { time.withLock { $0 } }
        return options
    }

    private init(_ repository: Repository, _ store: MemoryStore, _ time: Guarded<Double>, _ options: Repository.Options) {
        (self.repository, self.store, self.time, self.options) = (repository, store, time, options)
    }

    static func create() throws -> MemoryRepository {
        let (store, time) = (MemoryStore(), Guarded(1_796_000_000.0))
        let options = options(time)
        let made = try Repository.create(in: store, password: Secret("secret"), chunkSize: kib256, options: options)
        return MemoryRepository(made, store, time, options)
    }

    /// Another one with the same content, at the same time.
    func copied() -> MemoryRepository {
        let (store, time) = (MemoryStore(store.objects), Guarded(time.withLock { $0 }))
        let options = Self.options(time)
        return MemoryRepository(repository.reopened(over: store, options), store, time, options)
    }

    /// The same content for a process whose calls pass a gate.
    func process(_ gate: any StoreGate) -> Repository { over(GatedStore(store: store, gate: gate)) }

    /// The same content through another store.
    func over(_ store: any ObjectStore) -> Repository { repository.reopened(over: store, options) }

    func wait(_ seconds: Double) { time.withLock { $0 += seconds } }

    func restored(_ snapshot: Digest, _ size: Int) throws -> [UInt8] {
        let target = MemoryTarget(size)
        _ = try repository.restore(snapshot, to: target)
        return target.bytes
    }

    /// Prunes until nothing is left to be done, days later.
    func pruneToTheEnd() throws {
        for _ in 0..<3 {
            wait(2 * 86_400)
            _ = try repository.prune()
        }
    }

    /// Packs that no index has or that wait to be removed, and locks.
    func leftovers() throws -> [String] {
        let index = try repository.loadIndex()
        let known = Set(try index.packs)
        var found = try index.markedPacks.map { "marked \($0)" }
        try repository.forEachPack { pack, _ in if !known.contains(pack) { found.append("orphan \(pack)") } }
        let used = UsedBlobs(index)
        for snapshot in try repository.snapshots() {
            try used.add(snapshot, BlobReader(repository.store, repository.keys), TransferControl())
        }
        if used.missingCount > 0 { found.append("\(used.missingCount) missing") }
        return found + store.objects.keys.filter { $0.hasPrefix("locks/") }
    }
}

@Suite("Processes that die at work on a repository")
struct CrashTests {
    private func request(_ id: String, parent: Digest? = nil, continues: Bool = false) -> BackupRequest {
        var request = BackupRequest(backupID: id, projectID: "p", volumeID: "v", parent: parent)
        request.continues = continues
        return request
    }

    private enum Work: String, CaseIterable, CustomTestStringConvertible {
        case full, increment, deletion, mark, repack, sweep, discard
        var testDescription: String { rawValue }
    }

    private struct Prepared {
        var memory: MemoryRepository
        var backups: [(id: Digest, bytes: [UInt8])] = []
        var run: (Repository, _ again: Bool) throws -> (id: Digest, bytes: [UInt8])?
        var deleted: Digest?
    }

    private func image(_ seed: UInt64, _ chunks: Int = 6) -> [UInt8] {
        var random = Seeded(seed)
        return (0..<chunks).flatMap { _ in mixedChunk(kib256, &random) } + [UInt8](repeating: 7, count: 100)
    }

    private func prepare(_ work: Work) throws -> Prepared {
        let memory = try MemoryRepository.create()
        let (first, second) = (image(1), image(2))
        let kept = try memory.repository.backup(MemorySource(first), request("kept")).snapshot
        var prepared = Prepared(memory: memory, backups: [(kept, first)], run: { _, _ in nil })
        func add(_ image: [UInt8], _ name: String) throws -> Digest {
            let made = try memory.repository.backup(MemorySource(image), request(name)).snapshot
            prepared.backups.append((made, image))
            return made
        }
        switch work {
        case .full:
            prepared.run = { [self] in
                (try $0.backup(MemorySource(second), request("new", continues: $1)).snapshot, second)
            }
        case .increment:
            var next = first
            next.replaceSubrange(2 * kib256..<4 * kib256, with: second[kib256..<(3 * kib256)])
            let changes = [UInt64(2 * kib256)..<UInt64(4 * kib256)]
            prepared.run = { [self, next] in
                let source = MemorySource(next, changed: changes)
                return (try $0.backup(source, request("new", parent: kept, continues: $1)).snapshot, next)
            }
        case .deletion:
            let gone = try add(second, "gone")
            prepared.deleted = gone
            prepared.run = { repository, _ in
                try repository.delete(gone)
                return nil
            }
        case .mark, .sweep:
            let gone = try add(second, "gone")
            try memory.repository.delete(gone)
            prepared.backups.removeLast()
            if work == .sweep {
                _ = try memory.repository.prune()
                memory.wait(2 * 86_400)
            }
            prepared.run = { repository, _ in
                _ = try repository.prune()
                return nil
            }
        case .repack:
            // Of every pack of this one something stays, but little.
            let gone = try add(second, "gone")
            _ = try add((0..<3).flatMap { Array(second[$0 * 2 * kib256..<($0 * 2 + 1) * kib256]) }, "part")
            try memory.repository.delete(gone)
            prepared.backups.removeAll { $0.id == gone }
            prepared.run = { repository, _ in
                _ = try repository.prune(deadShare: 0.05)
                return nil
            }
        case .discard:
            // A damaged pack, whose chunks leave the index; a backup of the same volume mends it.
            let index = try memory.repository.loadIndex()
            let pack = try #require(try index.packs.sorted().first { memory.store.objects[ObjectKind.pack($0)]!.count > 300_000 })
            let name = ObjectKind.pack(pack)
            var bytes = memory.store.objects[name]!
            bytes[1000] ^= 1
            try bytes.withUnsafeBytes { try memory.store.put(name, [$0], sha256: nil) }
            prepared.run = { [self] repository, _ in
                let damages = try repository.verify(kept).damages
                _ = try repository.discard(damages)
                return (try repository.backup(MemorySource(first), request("mended", parent: kept)).snapshot, first)
            }
        }
        return prepared
    }

    @Test(
        "whoever dies before or after any change leaves every backup whole, and another attempt succeeds, sends at most one pack twice and leaves nothing behind",
        arguments: Work.allCases)
    private func everywhere(_ work: Work) throws {
        let prepared = try prepare(work)
        let undisturbed = prepared.memory.copied()
        _ = try prepared.run(undisturbed.repository, false)
        let expected = packBytes(undisturbed)
        var crashes = 0
        for change in 1... {
            var hasCrashed = false
            for after in [false, true] {
                let memory = prepared.memory.copied()
                let gate = CrashGate(at: change, after: after)
                _ = try? prepared.run(memory.process(gate), false)
                guard gate.hasCrashed else { continue }
                hasCrashed = true
                crashes += 1
                if work != .discard { try expectWhole(prepared, memory, "\(work) \(change) \(after)") }
                // Its lock counts as abandoned after a while.
                memory.wait(3600)
                let made = try prepared.run(memory.repository, true)
                if work == .full || work == .increment {
                    #expect(packBytes(memory) <= expected + 2 * (1 << 19), "\(work) \(change) \(after)")
                }
                try memory.pruneToTheEnd()
                try expectWhole(prepared, memory, "\(work) \(change) \(after), pruned")
                if let (id, bytes) = made { #expect(isSame(try memory.restored(id, bytes.count), bytes)) }
                #expect(try memory.leftovers() == [], "\(work) \(change) \(after)")
            }
            if !hasCrashed { break }
        }
        #expect(crashes >= (work == .deletion ? 2 : 8))
    }

    private func packBytes(_ memory: MemoryRepository) -> Int {
        memory.store.objects.reduce(0) { $0 + ($1.key.hasPrefix("data/") ? $1.value.count : 0) }
    }

    private func expectWhole(_ prepared: Prepared, _ memory: MemoryRepository, _ what: String) throws {
        let there = Set(try memory.repository.snapshots().map(\.id))
        for (id, bytes) in prepared.backups where id != prepared.deleted {
            #expect(there.contains(id), "\(what)")
            #expect(isSame(try memory.restored(id, bytes.count), bytes), "\(what)")
        }
    }
}
