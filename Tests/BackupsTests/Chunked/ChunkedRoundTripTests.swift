import Backups
import Primitives
import TestSupport
import Testing

/// A store, and backups of one volume in it.
struct ChunkedChain {
    let store = DirectoryStore(temporaryDirectory("chunked", under: "/dev/shm"))
    let volumeID = "bbbbbbbb-0000-0000-0000-000000000001"
    var options = ChunkedOptions()
    var backups: [ChunkedBackup] = []

    init(_ compression: ChunkedCompression = .zlib) {
        options.compression = compression
        options.objectSize = 2 * unit
    }

    func next() -> ChunkedBackup {
        let id = "aaaaaaaa-0000-0000-0000-00000000000\(backups.count + 1)"
        return ChunkedBackup(
            id: id, volumeID: volumeID, parentID: backups.last?.id, container: ChunkedBackup.folder(of: id),
            prefix: ChunkedBackup.folderPrefix(id: id, volumeID: volumeID, timestamp: "20261129170000"), name: "n", description: nil,
            createdAt: "2026-11-29 17:00:00+00:00")
    }

    @discardableResult
    mutating func write(_ source: any BlockSource) throws -> ChunkedSummary {
        let backup = next()
        let summary = try backup.write(of: source, to: store, after: backups.last, options: options)
        backups.append(backup)
        return summary
    }

    @discardableResult
    func restore(to target: any BlockTarget) throws -> ChunkedSummary { try ChunkedBackup.restore(backups, from: store, to: target) }

    func bytes(_ name: String) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(try store.size(of: name) ?? 0))
        _ = try bytes.withUnsafeMutableBytes { try store.get(name, at: 0, into: $0) }
        return bytes
    }

    func put(_ name: String, _ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try store.put(name, [$0], sha256: nil) } }
    func text(_ name: String) throws -> String { String(decoding: try bytes(name), as: UTF8.self) }

    func names() throws -> [String] {
        var names: [String] = []
        try store.list("", after: "") { name, _ in
            names.append(name)
            return true
        }
        return names
    }

    /// An object of a backup of this chain, as the store names it.
    func object(_ number: Int, of index: Int = 0) -> String {
        let digits = String(number)
        return "\(prefix(of: index))-\(String(repeating: "0", count: 5 - digits.count))\(digits)"
    }
    func prefix(of index: Int = 0) -> String { backups[index].container + "/" + backups[index].prefix }
}

@Suite("Chunked backups written and restored")
struct ChunkedRoundTripTests {
    @Test("what is restored is what was backed up, in every compression", arguments: ChunkedCompression.allCases)
    func full(compression: ChunkedCompression) throws {
        var chain = ChunkedChain(compression)
        // The last block is not a whole one.
        let volume = RecordingVolume(mixedBytes(13 * unit + 1000, seed: 1))
        let summary = try chain.write(volume)
        #expect(summary.objects == 7)
        #expect(summary.contained == volume.size)
        let target = RecordingVolume(zeroes: Int(volume.size))
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
        // Zeroes are neither written nor stored.
        #expect(target.writtenBytes < 10 * unit)
        #expect(compression == .none || summary.stored < UInt64(7 * unit))
        // A volume that holds something has zeroes where the backup has them.
        let used = RecordingVolume(mixedBytes(14 * unit, seed: 2))
        try chain.restore(to: used)
        #expect(Array(used.bytes.prefix(volume.bytes.count)) == volume.bytes)
        #expect(Array(used.bytes.suffix(1000)) == Array(mixedBytes(14 * unit, seed: 2).suffix(1000)))
        #expect(try ChunkedBackup.verify(chain.backups, in: chain.store).problems == [])
    }

    @Test("an increment reads what changed, stores what differs, and survives that the volume grows", arguments: [true, false])
    func increments(isKnown: Bool) throws {
        var chain = ChunkedChain(.zstd)
        chain.options.sampledShare = 0
        let volume = RecordingVolume(mixedBytes(9 * unit + 5000, seed: 3))
        try chain.write(volume)
        if isKnown { volume.markUnchanged() }
        volume.change(40_000, [1, 2, 3])
        volume.change(3 * unit, [UInt8](repeating: 0, count: 1 * unit))
        // Written again with what it held: changed, and not different.
        volume.change(7 * unit, Array(volume.bytes[7 * unit..<7 * unit + 100]))
        let first = try chain.write(volume)
        #expect(first.contained == UInt64(32768 + unit))
        if isKnown { #expect(volume.readBytes < 3 * unit) }

        volume.grow(by: mixedBytes(5 * unit, seed: 4))
        if isKnown { volume.markUnchanged() }
        let second = try chain.write(volume)
        #expect(second.contained > UInt64(4 * unit) && second.contained < UInt64(6 * unit))

        if isKnown { volume.markUnchanged() }
        let none = try chain.write(volume)
        #expect(none.objects == 0 && none.stored == 0)
        volume.change(10 * unit, [9])
        try chain.write(volume)

        for target in [RecordingVolume(zeroes: Int(volume.size)), RecordingVolume(mixedBytes(Int(volume.size), seed: 9))] {
            let restored = try chain.restore(to: target)
            #expect(target.bytes == volume.bytes)
            #expect(restored.written <= volume.size)
        }
        // Every state of the past, too.
        let target = RecordingVolume(zeroes: 9 * unit + 5000)
        _ = try ChunkedBackup.restore([chain.backups[0]], from: chain.store, to: target)
        #expect(target.bytes == mixedBytes(9 * unit + 5000, seed: 3))
        #expect(try ChunkedBackup.verify(chain.backups, in: chain.store).isGood)
    }

    @Test("an empty volume takes hardly any room and nothing is read of it")
    func sparse() throws {
        var chain = ChunkedChain(.none)
        let volume = RecordingVolume(zeroes: 40 * unit)
        let summary = try chain.write(volume)
        #expect(summary.objects == 1 && summary.read == 0 && summary.stored < 50_000)
        let target = RecordingVolume(mixedBytes(40 * unit, seed: 1))
        let restored = try chain.restore(to: target)
        #expect(restored.stored == 0)
        #expect(target.bytes == volume.bytes)
    }

    @Test("data in a large empty volume is cut out of it: neither read nor hashed is what lies around")
    func islands() throws {
        var chain = ChunkedChain(.zlib)
        chain.options.objectSize = 32 << 20
        let volume = RecordingVolume(zeroes: 60 << 20)
        let islands = [5 << 20 + 70_000, 20 << 20, 20 << 20 + 300_000, 50 << 20 - 1, 60 << 20 - 100]
        for offset in islands { volume.change(offset, Array("island".utf8)) }
        let summary = try chain.write(volume)
        // Each lies in an object of its own, but for the two that are near each other.
        #expect(summary.objects == 8)
        #expect(summary.read < 1 << 20)
        let target = RecordingVolume(zeroes: 60 << 20)
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
        #expect(try ChunkedBackup.verify(chain.backups, in: chain.store).problems == [])
    }

    @Test("a second attempt sends only what the first did not, and the result is the same")
    func continued() throws {
        var chain = ChunkedChain(.zlib)
        chain.options.threads = 1
        let volume = RecordingVolume(mixedBytes(20 * unit, seed: 5))
        volume.state.withLock { $0.failsAfter = 9 * unit }
        let failure = #expect(throws: ChunkedFailure.self) { try chain.write(volume) }
        #expect(failure?.kind == .device)
        let stored = try chain.names()
        #expect(stored.count > 2 && stored.allSatisfy { $0.split(separator: "-").last?.count == 5 })
        volume.state.withLock { $0.failsAfter = nil }
        // One of them is not what it should be.
        try chain.put(stored[1], Array(try chain.bytes(stored[1]).dropLast()) + [7])
        chain.options.isContinued = true
        let summary = try chain.write(volume)
        #expect(summary.kept == stored.count - 1)
        let target = RecordingVolume(zeroes: 20 * unit)
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
    }

    @Test("storage that says unchanged of what has changed is found out and named, and not relied on")
    func lyingStorage() throws {
        var chain = ChunkedChain()
        chain.options.sampledShare = 1
        let volume = RecordingVolume(mixedBytes(4 * unit, seed: 6))
        try chain.write(volume)
        volume.markUnchanged()
        volume.change(1 * unit, [7])
        volume.markUnchanged()
        #expect(try chain.write(volume).missedChange == 262_144)
        let target = RecordingVolume(zeroes: 4 * unit)
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
    }

    @Test("what was stored before storage was found out to lie is not left behind as an object that nothing names")
    func lyingStorageLeavesNothing() throws {
        var chain = ChunkedChain()
        chain.options.sampledShare = 1
        chain.options.threads = 1
        let volume = RecordingVolume(mixedBytes(8 * unit, seed: 6))
        try chain.write(volume)
        let known = try chain.names().count
        volume.markUnchanged()
        volume.change(7 * unit, [7])
        volume.markUnchanged()
        volume.change(unit / 2, [1])
        // The block before the one that is told changes once that is read: what is stored of both then is a longer object.
        let before = unit / 2 - chain.options.blockSize
        let source = ChangingSource(volume, after: UInt64(unit / 2)) { volume.change(before, [1]) }
        #expect(try chain.write(source).missedChange == UInt64(7 * unit))
        // Two runs of blocks, the hashes and the metadata.
        #expect(try chain.names().count == known + 4)
        let target = RecordingVolume(zeroes: 8 * unit)
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
    }

    @Test("a cancelled backup has no metadata, and a cancelled restore says what it had written")
    func cancelled() throws {
        var chain = ChunkedChain()
        let volume = RecordingVolume(mixedBytes(6 * unit, seed: 7))
        let control = TransferControl()
        control.cancel()
        let failure = #expect(throws: ChunkedFailure.self) {
            try chain.next().write(of: volume, to: chain.store, options: chain.options, control: control)
        }
        #expect(failure?.kind == .cancelled)
        #expect(try chain.names().allSatisfy { !$0.hasSuffix("_metadata") })
        try chain.write(volume)
        let stopped = #expect(throws: ChunkedFailure.self) {
            try ChunkedBackup.restore(chain.backups, from: chain.store, to: RecordingVolume(zeroes: 6 * unit), control: control)
        }
        #expect(stopped?.kind == .cancelled && stopped?.written == 0 && stopped?.isTargetChanged == false)
    }

    @Test("options that cannot be carried out are named", arguments: [(100, 32768), (32768 + 1, 32768), (1 << 20, 16)])
    func options(objectSize: Int, blockSize: Int) {
        var chain = ChunkedChain()
        chain.options.objectSize = objectSize
        chain.options.blockSize = blockSize
        let failure = #expect(throws: ChunkedFailure.self) { try chain.write(RecordingVolume(zeroes: 1 << 20)) }
        #expect(failure?.kind == .invalid)
        #expect(failure?.reason.contains("backup_") == true)
    }

    @Test("another hash block size than the parent's needs a full backup")
    func blockSize() throws {
        var chain = ChunkedChain()
        let volume = RecordingVolume(mixedBytes(3 * unit, seed: 8))
        try chain.write(volume)
        chain.options.blockSize = 65536
        let failure = #expect(throws: ChunkedFailure.self) { try chain.write(volume) }
        #expect(failure?.reason == "chunk_size of the parent is 32768, not 65536: a full backup is needed")
    }

    @Test("folders, prefixes and names are those that Cinder's drivers choose")
    func names() {
        let (id, volume) = ("abcd0000-0000-0000-0000-000000000001", "v")
        #expect(ChunkedBackup.folder(of: id) == "ab/cd/\(id)")
        #expect(ChunkedBackup.folderPrefix(id: id, volumeID: volume, timestamp: "20261129170000") == "volume_v_20261129170000_backup_\(id)")
        #expect(
            ChunkedBackup.bucketPrefix(id: id, volumeID: volume, timestamp: "20261129170000", availabilityZone: "nova")
                == "volume_v/20261129170000/az_nova_backup_\(id)")
    }

    @Test("a backup in a bucket, with a prefix of several parts and more metadata, is restored, deleted and not taken for another")
    func bucket() throws {
        let chain = ChunkedChain()
        let volume = RecordingVolume(mixedBytes(3 * unit, seed: 10))
        let id = "abcd0000-0000-0000-0000-000000000001"
        let prefix = ChunkedBackup.bucketPrefix(id: id, volumeID: "v", timestamp: "20261129170000", availabilityZone: "nova")
        let backup = ChunkedBackup(id: id, volumeID: "v", container: "", prefix: prefix, createdAt: "2026-11-29 17:00:00+00:00")
        let other = #"{"b": [1], "a": {}}"#
        _ = try backup.write(
            of: volume, to: chain.store, volumeMetadata: "{}", extraMetadata: other, options: chain.options)
        let metadata = try backup.metadata(in: chain.store)
        #expect(metadata.volumeMetadata == "{}" && metadata.extraMetadata == #"{"a":{},"b":[1]}"#)
        let target = RecordingVolume(zeroes: 3 * unit)
        _ = try ChunkedBackup.restore([backup], from: chain.store, to: target)
        #expect(target.bytes == volume.bytes)
        var unnamed = 0
        try ChunkedBackup.unnamed(in: "", of: chain.store) { _, _ in
            unnamed += 1
            return true
        }
        #expect(unnamed == 0)
        #expect(try backup.delete(from: chain.store) == 3)
        #expect(try chain.names() == [])
        let failure = #expect(throws: ChunkedFailure.self) {
            try backup.write(of: volume, to: chain.store, extraMetadata: "{", options: chain.options)
        }
        #expect(failure?.kind == .invalid)
    }
}
