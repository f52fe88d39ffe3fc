import JSON
import Primitives

@testable import Backups

/// What a repository holds may have been written by anybody who has its key: it is refused, or it means one thing.
enum RepositoryFuzz {
    private static let keys = SealingKeys.random()

    /// The first four bytes say where the header begins in its pack.
    static func header(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 4 else { return }
        let end = UInt64(UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
        let header = Array(bytes[4...])
        guard let blobs = try? PackHeader.parse(header, end: end) else { return }
        var offset: UInt64 = 0
        for blob in blobs {
            if UInt64(blob.offset) != offset { violated("blobs that do not follow one another") }
            offset += UInt64(blob.length)
        }
        if offset != end { violated("blobs that do not fill their pack") }
        let sealer = Sealer(keys)
        guard sealer.open(Array(PackHeader.seal(blobs, sealer).dropLast(4))) == header else { violated("two headers of the same blobs") }
    }

    static func index(_ bytes: UnsafeRawBufferPointer) {
        guard let packs = read(Array(bytes)) else { return }
        guard packs.reduce(0, { $0 + $1.blobs.count + 1 }) <= bytes.count else { violated("more blobs than bytes") }
        guard let again = read(IndexObject.text(packs)) else { violated("what was written is refused") }
        func sorted(_ packs: [IndexedPack]) -> [IndexedPack] { packs.filter { $0.markedAt == nil } + packs.filter { $0.markedAt != nil } }
        // Times are written to the microsecond, and a mark without one is new.
        func untimed(_ packs: [IndexedPack]) -> [IndexedPack] {
            sorted(packs).map { IndexedPack(id: $0.id, blobs: $0.blobs, markedAt: $0.markedAt.map { _ in 0 }) }
        }
        if untimed(again) != untimed(packs) { violated("an index that is not read as it was written") }
    }

    private static func read(_ text: [UInt8]) -> [IndexedPack]? {
        var packs: [IndexedPack] = []
        return (try? IndexObject.scan(text, name: .zero) { packs.append($0) }) == nil ? nil : packs
    }

    static func tree(_ bytes: UnsafeRawBufferPointer) {
        var count = 0
        try? TreeNode.scan(Array(bytes), tree: .zero, chunk: { _ in count += 1 }, node: { _ in count += 1 })
        if count > bytes.count { violated("more nodes and chunks than bytes") }
    }

    /// `volume.json`, snapshots, locks, and Cinder's record.
    static func record(_ bytes: UnsafeRawBufferPointer) {
        if let record = try? VolumeRecord(parsing: Array(bytes), snapshot: .zero) {
            let shape = ImageShape(size: record.size, chunkSize: record.chunkSize, segmentSize: record.segmentSize)
            for segment in [0, shape.segmentCount / 2, shape.segmentCount - 1] where segment >= 0 && segment < shape.segmentCount {
                if shape.segment(segment).isEmpty || shape.chunkCount(segment) > 1 << 18 {
                    violated("an image that is cut in a strange way")
                }
            }
            guard (try? VolumeRecord(parsing: Array(record.json.text.utf8), snapshot: .zero)) == record else {
                violated("a record that is not read as it was written")
            }
        }
        if let json = try? JSON(parsing: Array(bytes)) {
            _ = try? RepositorySnapshot(id: .zero, parsing: json)
            _ = LockRecord(json: json)?.isStale(now: 1e9, on: "here")
            _ = try? RepositoryConfig(parsing: Array(bytes))
        }
    }
}

/// What lies beside the objects of a chunked backup is refused, or can be worked with in bounded memory.
enum ChunkedFuzz {
    private static let backup = ChunkedBackup(
        id: "aaaaaaaa-0000-0000-0000-000000000001", volumeID: "v", container: "", prefix: "p", createdAt: "2026-11-29 17:00:00+00:00")

    static func metadata(_ bytes: UnsafeRawBufferPointer) {
        let store = OneObjectStore(name: "p_metadata", bytes: Array(bytes))
        guard let metadata = try? backup.metadata(in: store) else { return }
        for (object, next) in zip(metadata.objects, metadata.objects.dropFirst()) where object.end > next.offset {
            violated("objects that overlap")
        }
        guard let found = try? ChunkedBackup.verify([backup], in: store) else { return }
        // Nothing but the metadata is there.
        if found.isGood { violated("a backup without objects is good") }
    }

    static func hashes(_ bytes: UnsafeRawBufferPointer) {
        let store = OneObjectStore(name: "p_sha256file", bytes: Array(bytes))
        guard let reader = try? HashFileReader(backup, from: store) else { return }
        var count = 0
        while (try? reader.next()) ?? nil != nil { count += 1 }
        if count > bytes.count / 64 { violated("more hashes than bytes") }
    }
}

/// A store of one object.
private struct OneObjectStore: ObjectStore {
    let name: String
    let bytes: [UInt8]
    let traits = ObjectStoreTraits(listsConsistently: false)

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) { throw refusal }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { throw refusal }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        guard name == self.name else { throw StoreFailure(.notFound, name) }
        let start = Int(min(offset, UInt64(bytes.count)))
        let count = min(buffer.count, bytes.count - start)
        buffer.copyBytes(from: bytes[start..<start + count])
        return count
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { name == self.name ? UInt64(bytes.count) : nil }
    func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {}
    func remove(_ names: [String]) throws(StoreFailure) { throw refusal }
    private var refusal: StoreFailure { StoreFailure(.permanent, "read only") }
}
