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
    /// The parent's tree if all of it is inherited: nothing is read but samples.
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
        var unchanged: [UInt32] = []
        var unknown: [UInt32] = []
        for chunk in 0..<count {
            if let first = next.first, Int(first.chunk) == chunk {
                next = next.dropFirst()
                work.append(first)
            } else if chunk < inherited.count, parent.covers(shape.chunk(chunk, of: segment)), try parent.isUsable(inherited[chunk]) {
                chunks[chunk] = inherited[chunk]
                unchanged.append(UInt32(chunk))
            } else {
                unknown.append(UInt32(chunk))
            }
        }
        // Beyond the parent's end, or damaged in the repository: what it holds is read, and stored anew.
        if let first = unknown.first, let last = unknown.last {
            let part = shape.chunk(Int(first), of: segment).lowerBound..<shape.chunk(Int(last), of: segment).upperBound
            var rest = unknown[...]
            for extent in try source.data(in: part) {
                rest = rest.drop { shape.chunk(Int($0), of: segment).upperBound <= extent.lowerBound }
                while let chunk = rest.first, shape.chunk(Int(chunk), of: segment).lowerBound < extent.upperBound {
                    work.append(Work(chunk: chunk))
                    rest.removeFirst()
                }
            }
        }
        if work.isEmpty, unknown.isEmpty, inherited.count == count { inheritedTree = parent.tree(of: segment) }
        work += sample(&unchanged, sampling) { self.chunks[Int($0)] != zeroes.id(shape.chunk(Int($0), of: segment).count) }
    }

    /// So many of the chunks that are called unchanged, at random, but one at least; if there are any, one that holds something.
    private func sample(_ chunks: inout [UInt32], _ share: Double, holdsSomething: (UInt32) -> Bool) -> [Work] {
        guard share > 0, !chunks.isEmpty else { return [] }
        let count = min(chunks.count, max(1, Int(Double(chunks.count) * share)))
        let filled = chunks.indices.filter { holdsSomething(chunks[$0]) }
        if let first = filled.randomElement() { chunks.swapAt(0, first) }
        for place in (filled.isEmpty ? 0 : 1)..<max(1, count) { chunks.swapAt(place, Int.random(in: place..<chunks.count)) }
        return chunks[..<count].map { Work(chunk: $0, isSample: true) }
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
