import Primitives

/// The ids of chunks that hold only zeroes, of the usual length and of the last chunk's. Any thread.
final class ZeroChunks: Sendable {
    private let chunkSize: Int
    private let whole: Digest
    private let others = Guarded([Int: Digest]())

    init(chunkSize: Int) {
        self.chunkSize = chunkSize
        whole = Self.hash(chunkSize)
    }

    func id(_ length: Int) -> Digest {
        if length == chunkSize { return whole }
        return others.withLock { others in
            if let known = others[length] { return known }
            let id = Self.hash(length)
            others[length] = id
            return id
        }
    }

    func withBytes<Result>(_ length: Int, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try [UInt8](repeating: 0, count: length).withUnsafeBytes { try body($0) }
    }

    private static func hash(_ length: Int) -> Digest { Digest.sha256([UInt8](repeating: 0, count: length)) }
}

/// What is known of a segment before it is read, and which of its chunks must be read.
final class SegmentPlan: @unchecked Sendable {
    struct Work: Sendable {
        var chunk: UInt32
        /// Whether the chunk is called unchanged, and is read to see whether that is true.
        var isSample = false
    }

    private(set) var work: [Work] = []
    /// The parent's tree if all of it is inherited and nothing is read.
    private(set) var inheritedTree: Digest?
    /// Whether the source has no data here and nothing is inherited.
    private(set) var isHole = false
    /// Each is written by one thread only, that which does its work.
    private let chunks: UnsafeMutableBufferPointer<Digest>

    init(
        _ shape: ImageShape, _ segment: Int, source: any BlockSource, parent: ParentImage?, zeroes: ZeroChunks, _ sampling: Double
    ) throws {
        let count = shape.chunkCount(segment)
        chunks = .allocate(capacity: count)
        for chunk in 0..<count { chunks.initializeElement(at: chunk, to: zeroes.id(shape.chunk(chunk, of: segment).count)) }
        let range = shape.segment(segment)
        guard let parent, let changes = try source.changes(in: range), let inherited = try parent.chunks(of: segment) else {
            for extent in try source.data(in: range) { try add(extent, shape, segment) }
            isHole = work.isEmpty
            return
        }
        // Changed chunks are sorted into those that were inherited: both lists ascend.
        for change in changes { try add(change, shape, segment) }
        let changed = work
        work = []
        var next = changed[...]
        for chunk in 0..<count {
            if let first = next.first, Int(first.chunk) == chunk {
                next = next.dropFirst()
                work.append(first)
            } else if chunk < inherited.count, parent.covers(shape.chunk(chunk, of: segment)), try parent.isUsable(inherited[chunk]) {
                chunks[chunk] = inherited[chunk]
                if Double.random(in: 0..<1) < sampling { work.append(Work(chunk: UInt32(chunk), isSample: true)) }
            } else {
                // Beyond the parent's end, or damaged in the repository: it is read, and stored anew.
                work.append(Work(chunk: UInt32(chunk)))
            }
        }
        if work.isEmpty, inherited.count == count { inheritedTree = parent.tree(of: segment) }
    }

    deinit { chunks.deallocate() }

    /// Adds the chunks that an extent touches.
    private func add(_ extent: Range<UInt64>, _ shape: ImageShape, _ segment: Int) throws {
        let range = shape.segment(segment).clamped(to: extent)
        guard !range.isEmpty else { return }
        let start = shape.segment(segment).lowerBound
        let size = UInt64(shape.chunkSize)
        var first = UInt32((range.lowerBound - start) / size)
        let last = UInt32((range.upperBound - 1 - start) / size)
        if let previous = work.last {
            guard first >= previous.chunk else { throw RepositoryError(.invalid, "the source's extents do not ascend") }
            first = max(first, previous.chunk + 1)
        }
        guard first <= last else { return }
        for chunk in first...last { work.append(Work(chunk: chunk)) }
    }

    /// Takes chunks that an earlier attempt has read out of the work.
    ///
    /// - Parameter known: the id of a chunk, given its number and its length; nil if it must be read.
    func resolve(_ shape: ImageShape, _ segment: Int, _ known: (Int, Int) throws -> Digest?) throws {
        work = try work.filter { work in
            let chunk = Int(work.chunk)
            guard !work.isSample, let id = try known(chunk, shape.chunk(chunk, of: segment).count) else { return true }
            chunks[chunk] = id
            return false
        }
    }

    subscript(chunk: Int) -> Digest {
        get { chunks[chunk] }
        set { chunks[chunk] = newValue }
    }

    func withChunks<Result>(_ body: (UnsafeBufferPointer<Digest>) throws -> Result) rethrows -> Result {
        try body(UnsafeBufferPointer(chunks))
    }

    func workBytes(_ shape: ImageShape, _ segment: Int) -> UInt64 {
        work.reduce(0) { $0 + UInt64(shape.chunk(Int($1.chunk), of: segment).count) }
    }

    /// The lengths of the chunks of zeroes that the segment has.
    func zeroLengths(_ shape: ImageShape, _ segment: Int, _ zeroes: ZeroChunks) -> [Int] {
        guard let last = chunks.indices.last else { return [] }
        var lengths: [Int] = []
        let whole = zeroes.id(shape.chunkSize)
        if chunks.contains(whole) { lengths.append(shape.chunkSize) }
        let rest = shape.chunk(last, of: segment).count
        if rest != shape.chunkSize, chunks[last] == zeroes.id(rest) { lengths.append(rest) }
        return lengths
    }
}

/// The image of the backup before, whose unchanged chunks are inherited.
final class ParentImage {
    private let image: ImageMap
    private let index: BlobIndex
    /// The answer for the chunk asked for last: runs of zeroes ask again and again.
    private var last: (id: Digest, isUsable: Bool)?

    private init(_ image: ImageMap, _ index: BlobIndex) {
        self.image = image
        self.index = index
    }

    /// Nil if the parent cannot be inherited from: it is gone, or was cut in another way.
    static func load(_ repository: Repository, _ index: BlobIndex, snapshot: Digest, shape: ImageShape) throws -> ParentImage? {
        do {
            let image = try ImageMap(repository, index, snapshot: snapshot)
            let isCutAlike = image.shape.chunkSize == shape.chunkSize && image.shape.segmentSize == shape.segmentSize
            return isCutAlike ? ParentImage(image, index) : nil
        } catch let error as RepositoryError where error.kind == .notFound || error.kind == .damaged {
            return nil
        }
    }

    /// The chunks of a segment; nil if the parent has none or they cannot be read, and the segment is read whole.
    func chunks(of segment: Int) throws -> [Digest]? {
        guard segment < image.shape.segmentCount else { return nil }
        do { return try image.chunks(of: segment) } catch let error as RepositoryError where error.kind == .damaged { return nil }
    }

    func tree(of segment: Int) -> Digest { image.tree(of: segment) }

    /// Whether the parent has a chunk of the same place and length: the last one of an image may be shorter.
    func covers(_ chunk: Range<UInt64>) -> Bool {
        chunk.upperBound == min(image.shape.size, chunk.lowerBound + UInt64(image.shape.chunkSize))
    }

    /// Whether a new backup may refer to the chunk.
    func isUsable(_ id: Digest) throws -> Bool {
        if let last, last.id == id { return last.isUsable }
        let isUsable = try index.isUsable(id, .data)
        last = (id, isUsable)
        return isUsable
    }
}
