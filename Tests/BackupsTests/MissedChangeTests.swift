import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Attempts that die after they found that storage had missed a change")
struct MissedChangeTests {
    /// An attempt samples everything and so finds the change; whoever continues it samples nothing and has nothing but what was noted.
    private struct Lying {
        let memory: MemoryRepository
        let first: Digest
        let image: [UInt8]

        init() throws {
            memory = try MemoryRepository.create()
            var image = mixedImage(chunks: 6, chunkSize: kib256, seed: 31)
            first = try memory.repository.backup(MemorySource(image), BackupRequest(backupID: "first", projectID: "p", volumeID: "v"))
                .snapshot
            image[4 * kib256 + 9] ^= 1
            self.image = image
        }

        private init(_ memory: MemoryRepository, _ first: Digest, _ image: [UInt8]) {
            (self.memory, self.first, self.image) = (memory, first, image)
        }

        func copied() -> Lying { Lying(memory.copied(), first, image) }

        func backup(_ store: any ObjectStore, sampling: Double) throws -> BackupResult {
            var request = BackupRequest(backupID: "second", projectID: "p", volumeID: "v", parent: first)
            request.continues = true
            var options = memory.repository.options
            options.sampling = sampling
            return try memory.repository.reopened(over: store, options).backup(MemorySource(image, changed: []), request)
        }
    }

    @Test("whoever continues in a repository reads everything, wherever the attempt died, and tells of the change")
    func repository() throws {
        let prepared = try Lying()
        var crashes = 0
        // The first change is the lock, the second the note.
        for (change, after) in [(2, true)] + (3...30).flatMap({ [($0, false), ($0, true)] }) {
            let lying = prepared.copied()
            let gate = CrashGate(at: change, after: after)
            _ = try? lying.backup(GatedStore(store: lying.memory.store, gate: gate), sampling: 1)
            guard gate.hasCrashed else { break }
            crashes += 1
            lying.memory.wait(3600)
            let offset: UInt64?
            let snapshot: Digest
            if let made = try lying.memory.repository.snapshots().first(where: { $0.backupID == "second" }) {
                (snapshot, offset) = (made.id, try lying.memory.repository.record(of: made.id).missedChange)
            } else {
                let made = try lying.backup(lying.memory.store, sampling: 0)
                (snapshot, offset) = (made.snapshot, made.missedChange)
            }
            #expect(offset == UInt64(4 * kib256), "\(change) \(after)")
            #expect(isSame(try lying.memory.restored(snapshot, lying.image.count), lying.image), "\(change) \(after)")
            try lying.memory.repository.forgetAttempts(of: "second")
            #expect(!lying.memory.store.objects.keys.contains { $0.hasPrefix("clinker/") }, "\(change) \(after)")
        }
        #expect(crashes > 8)
    }

    @Test("a store that does not take the note ends the attempt for good: another one would rely on the storage again")
    func unnoted() throws {
        let lying = try Lying()
        let failure = #expect(throws: StoreFailure.self) { try lying.backup(NotelessStore(store: lying.memory.store), sampling: 1) }
        #expect(failure?.kind == .permanent)
        #expect(failure?.description.contains("nothing had changed at byte \(4 * kib256)") == true)
    }

    @Test("whoever continues in Cinder's format reads everything and tells of the change, also after the end; beside a backup lies no note")
    func chunked() throws {
        var chain = ChunkedChain()
        chain.options.threads = 1
        let volume = RecordingVolume(mixedBytes(8 * unit, seed: 32))
        try chain.write(volume)
        volume.markUnchanged()
        volume.change(5 * unit, [7])
        volume.markUnchanged()
        chain.options.sampledShare = 1
        // The samples are read, and a part of what is read because of them.
        volume.state.withLock { $0.failsAfter = 8 * unit }
        let failure = #expect(throws: ChunkedFailure.self) { try chain.write(volume) }
        #expect(failure?.kind == .device)
        volume.state.withLock { $0.failsAfter = nil }

        chain.options.sampledShare = 0
        chain.options.isContinued = true
        let second = chain.next()
        func attempt() throws -> ChunkedSummary {
            try second.write(of: volume, to: chain.store, after: chain.backups[0], options: chain.options)
        }
        let summary = try attempt()
        #expect(summary.missedChange == UInt64(5 * unit) && summary.read > volume.size / 2)
        let names = try chain.names()
        #expect(names.allSatisfy { !$0.hasSuffix("_missed_change") })
        // The one after it finds the backup complete.
        let again = try attempt()
        #expect(again == ChunkedSummary(objects: summary.objects, missedChange: summary.missedChange))
        #expect(try chain.names() == names)
        let target = RecordingVolume(zeroes: 8 * unit)
        _ = try ChunkedBackup.restore([chain.backups[0], second], from: chain.store, to: target)
        #expect(isSame(target.bytes, volume.bytes))
    }

    @Test("what an attempt noted goes with the backup")
    func deleted() throws {
        var chain = ChunkedChain()
        let volume = RecordingVolume(mixedBytes(3 * unit, seed: 33))
        try chain.write(volume)
        let note = chain.backups[0].missedChangeNote(in: chain.store)
        try note.put(MissedChange(offset: 7))
        #expect(try note.read()?.offset == 7)
        _ = try chain.backups[0].delete(from: chain.store)
        #expect(try chain.names() == [])
    }
}

/// A store that has trouble with notes alone.
private struct NotelessStore: ObjectStore {
    let store: any ObjectStore
    var traits: ObjectStoreTraits { store.traits }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        guard !name.hasPrefix("clinker/") else { throw StoreFailure(.temporary, "not now") }
        try store.put(name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: name) }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        try store.list(prefix, after: after, each)
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names) }
}
