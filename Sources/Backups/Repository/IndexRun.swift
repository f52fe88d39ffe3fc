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

/// Blobs in the order of their ids, each once, in memory or, when there are many, in a file that takes only a table of where each part
/// begins from memory.
final class IndexRun: Sendable {
    private enum Backing: Sendable {
        case memory([IndexRecord])
        case file(IndexPages)
    }

    let count: Int
    private let backing: Backing
    /// `starts[k]` is the number of the first record whose id begins with the bits of `k`, and the last entry is the number of records.
    let starts: [UInt32]
    let fanBits: UInt64

    init(sorted records: [IndexRecord]) {
        count = records.count
        backing = .memory(records)
        var fan = Fan(count)
        for record in records { fan.add(record.id) }
        (starts, fanBits) = (fan.finish(), fan.bits)
    }

    init(_ pages: IndexPages, fan: consuming Fan) {
        count = pages.count
        backing = .file(pages)
        fanBits = fan.bits
        starts = fan.finish()
    }

    /// - Parameter starts: of a file that was written before; nil is returned if they cannot be right.
    init?(_ pages: IndexPages, starts: [UInt32], fanBits: UInt64) {
        guard (4...20).contains(fanBits), starts.count == 1 << Int(fanBits) + 1, starts.first == 0, starts.last == UInt32(pages.count),
            zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 })
        else { return nil }
        count = pages.count
        backing = .file(pages)
        self.starts = starts
        self.fanBits = fanBits
    }

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

    /// Reads all records in order.
    func reader() -> Reader {
        switch backing {
        case .memory(let records): Reader(memory: records[...])
        case .file(let pages): Reader(file: IndexPages.Reader(pages))
        }
    }

    struct Reader {
        fileprivate var memory: ArraySlice<IndexRecord> = []
        fileprivate var file: IndexPages.Reader?

        mutating func next() throws -> IndexRecord? {
            if file != nil { return try file?.next() }
            return memory.popFirst()
        }
    }

    /// The number of a blob's record; nil if the run has no such blob.
    func find(_ id: Digest, _ type: BlobType) throws -> (index: Int, record: IndexRecord)? {
        let part = Int(id.words.0 >> (64 - fanBits))
        let range = Int(starts[part])..<Int(starts[part + 1])
        guard !range.isEmpty else { return nil }
        switch backing {
        case .memory(let records): return Self.search(range, id, type) { records[$0] }
        case .file(let pages):
            return try withUnsafeTemporaryAllocation(byteCount: IndexPages.pageSize, alignment: 16) { buffer in
                // Most parts lie in one page.
                var loaded = -1
                return try Self.search(range, id, type) { index in
                    let page = index / IndexPages.recordsPerPage
                    if page != loaded {
                        try pages.load(page, into: buffer)
                        loaded = page
                    }
                    return buffer.load(fromByteOffset: index % IndexPages.recordsPerPage * IndexRecord.size, as: IndexRecord.self)
                }
            }
        }
    }

    private static func search(
        _ range: Range<Int>, _ id: Digest, _ type: BlobType, _ record: (Int) throws -> IndexRecord
    ) rethrows -> (index: Int, record: IndexRecord)? {
        var low = range.lowerBound
        var high = range.upperBound
        while low < high {
            let middle = low + (high - low) / 2
            let found = try record(middle)
            if found.id == id, found.type == type { return (middle, found) }
            if found.id < id || (found.id == id && found.type == .data) { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}
