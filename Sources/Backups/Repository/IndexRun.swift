import Glibc

/// Where a blob lies, as the sorted index keeps it: 48 bytes.
struct IndexRecord {
    var id: Digest
    /// The number of the pack in the index's list of packs.
    var pack: UInt32
    var offset: UInt32
    /// The length in the pack; the highest bit says that the blob is a tree.
    var lengthAndType: UInt32
    /// 0 if the blob is not compressed.
    var plainLength: UInt32

    static let size = 48

    init(_ blob: PackedBlob, pack: UInt32) {
        id = blob.id
        self.pack = pack
        offset = blob.offset
        lengthAndType = blob.length & 0x7FFF_FFFF | (blob.type == .tree ? 1 << 31 : 0)
        plainLength = blob.plainLength
    }

    var type: BlobType { lengthAndType >> 31 == 1 ? .tree : .data }

    var blob: PackedBlob {
        PackedBlob(id: id, type: type, offset: offset, length: lengthAndType & 0x7FFF_FFFF, plainLength: plainLength)
    }

    /// The order of a run: by id, then by type, then by pack.
    static func precedes(_ a: IndexRecord, _ b: IndexRecord) -> Bool {
        if a.id != b.id { return a.id < b.id }
        if a.type != b.type { return a.type == .data }
        return a.pack < b.pack
    }

    func isSameBlob(_ other: IndexRecord) -> Bool { id == other.id && type == other.type }
}

/// Blobs in the order of their ids, each once, in memory or, when there are many, in a file without a name that takes only a table of
/// where each part begins from memory.
final class IndexRun {
    private enum Backing {
        case memory([IndexRecord])
        case file(Int32)
    }

    let count: Int
    private let backing: Backing
    /// `starts[k]` is the number of the first record whose id begins with the bits of `k`, and the last entry is the number of records.
    private let starts: [UInt32]
    private let fanBits: UInt64

    init(sorted records: [IndexRecord]) {
        count = records.count
        backing = .memory(records)
        var fan = Fan(count)
        for record in records { fan.add(record.id) }
        (starts, fanBits) = (fan.finish(), fan.bits)
    }

    /// - Parameter file: becomes the run's own.
    init(file: Int32, count: Int, fan: consuming Fan) {
        self.count = count
        backing = .file(file)
        fanBits = fan.bits
        starts = fan.finish()
    }

    deinit { if case .file(let file) = backing { close(file) } }

    /// Counts the ids of each part of a run.
    struct Fan {
        let bits: UInt64
        private var counts: [UInt32]

        init(_ expected: Int) {
            var bits: UInt64 = 4
            while bits < 20, expected >> Int(bits) > 8 { bits += 1 }
            self.bits = bits
            counts = [UInt32](repeating: 0, count: 1 << Int(bits) + 1)
        }

        mutating func add(_ id: Digest) { counts[Int(id.words.0 >> (64 - bits))] += 1 }

        func finish() -> [UInt32] {
            var starts = counts
            var sum: UInt32 = 0
            for index in starts.indices {
                (starts[index], sum) = (sum, sum + counts[index])
            }
            return starts
        }
    }

    func record(_ index: Int) throws -> IndexRecord {
        switch backing {
        case .memory(let records): return records[index]
        case .file(let file):
            return try withUnsafeTemporaryAllocation(of: IndexRecord.self, capacity: 1) { buffer in
                let raw = UnsafeMutableRawBufferPointer(buffer)
                guard pread(file, raw.baseAddress, IndexRecord.size, off_t(index * IndexRecord.size)) == IndexRecord.size else {
                    throw RepositoryError(.invalid, "the index's temporary file cannot be read")
                }
                return buffer[0]
            }
        }
    }

    /// The number of a blob's record; nil if the run has no such blob.
    func find(_ id: Digest, _ type: BlobType) throws -> (index: Int, record: IndexRecord)? {
        let part = Int(id.words.0 >> (64 - fanBits))
        var low = Int(starts[part])
        var high = Int(starts[part + 1])
        while low < high {
            let middle = low + (high - low) / 2
            let record = try record(middle)
            if record.id == id, record.type == type { return (middle, record) }
            if record.id < id || (record.id == id && record.type == .data) { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}
