/// A list of packs, in memory or in a file. Any thread.
enum PackTable: Sendable {
    case memory([Digest])
    case file(OwnedFile, start: UInt64, count: Int)

    var count: Int {
        switch self {
        case .memory(let packs): packs.count
        case .file(_, _, let count): count
        }
    }

    func pack(_ number: UInt32) throws -> Digest {
        switch self {
        case .memory(let packs): return packs[Int(number)]
        case .file(let file, let start, let count):
            guard number < count else { throw IndexPages.DamagedPage() }
            return try withUnsafeTemporaryAllocation(byteCount: Digest.size, alignment: 8) { bytes in
                guard file.read(at: start + UInt64(number) * UInt64(Digest.size), into: bytes) else { throw IndexPages.DamagedPage() }
                return Digest(UnsafeRawBufferPointer(bytes))
            }
        }
    }

    func forEach(_ body: (Digest) throws -> Void) throws {
        switch self {
        case .memory(let packs): for pack in packs { try body(pack) }
        case .file(let file, let start, let count):
            try withUnsafeTemporaryAllocation(byteCount: 1024 * Digest.size, alignment: 8) { room in
                for first in stride(from: 0, to: count, by: 1024) {
                    let part = UnsafeMutableRawBufferPointer(rebasing: room[..<(min(1024, count - first) * Digest.size)])
                    guard file.read(at: start + UInt64(first * Digest.size), into: part) else { throw IndexPages.DamagedPage() }
                    for offset in stride(from: 0, to: part.count, by: Digest.size) {
                        try body(Digest(UnsafeRawBufferPointer(rebasing: part[offset..<offset + Digest.size])))
                    }
                }
            }
        }
    }
}

/// What some of the store's index objects say: where blobs lie in packs in use and in packs that are marked for removal.
struct IndexPart: Sendable {
    let live, marked: IndexRun
    /// The packs by the numbers that records have.
    let livePacks, markedPacks: PackTable
    /// A file of the cache; nil for a part that is this process's own.
    var path: String?
}

/// Collects what index objects say.
struct IndexPartBuilder {
    let live, marked: IndexRunBuilder
    private(set) var livePacks: [Digest] = []
    private(set) var markedPacks: [Digest] = []

    init(temporaryFilesIn directory: String) {
        live = IndexRunBuilder(temporaryFilesIn: directory)
        marked = IndexRunBuilder(temporaryFilesIn: directory)
    }

    mutating func add(_ pack: IndexedPack) throws {
        if pack.markedAt == nil {
            for blob in pack.blobs { try live.add(IndexRecord(blob, pack: UInt32(livePacks.count))) }
            livePacks.append(pack.id)
        } else {
            for blob in pack.blobs { try marked.add(IndexRecord(blob, pack: UInt32(markedPacks.count))) }
            markedPacks.append(pack.id)
        }
    }

    func finish() throws -> IndexPart {
        IndexPart(live: try live.finish(), marked: try marked.finish(), livePacks: .memory(livePacks), markedPacks: .memory(markedPacks))
    }
}
