/// Which chunks the image of a backup is made of, read from its trees segment by segment. One thread at a time.
final class ImageMap {
    /// `volume.json`, or why it cannot be read: the image can be all the same.
    let record: Result<VolumeRecord, RepositoryError>
    /// The chunk that holds it.
    let recordChunk: Digest
    let shape: ImageShape
    private let segments: [Digest]
    private let index: BlobIndex
    private let reader: BlobReader
    /// The segment that was read last: many in a row are the same where nothing was written.
    private var last: (tree: Digest, size: UInt64, chunks: [Digest])?

    init(_ repository: Repository, _ index: BlobIndex, snapshot id: Digest) throws {
        self.index = index
        reader = BlobReader(repository.store, repository.keys)
        let snapshot = try repository.snapshot(id)
        func damaged(_ what: String) -> RepositoryError { .damaged("snapshot \(id) \(what)") }
        var image: Digest?
        var recordChunks: [Digest] = []
        var recordID: Digest?
        let root = try Self.tree(snapshot.tree, index, reader)
        try TreeNode.scan(root, tree: snapshot.tree) { chunk in
            recordChunks.append(chunk)
            guard recordChunks.count <= 16 else { throw damaged("was not made by this program") }
        } node: { node in
            if node.name == Trees.recordName { recordID = recordChunks.last }
            if node.name == Trees.imageName { image = node.subtree }
            recordChunks = []
        }
        guard let image, let recordID else { throw damaged("was not made by this program: it has no image or no volume.json") }
        recordChunk = recordID
        record = try Self.readRecord(recordID, snapshot: id, index, reader)

        var segments: [Digest] = []
        try TreeNode.scan(try Self.tree(image, index, reader), tree: image) { _ in
            throw damaged("has a file where segments belong")
        } node: { node in
            guard segments.count < 100_000, node.name == Trees.segmentName(segments.count), let subtree = node.subtree else {
                throw damaged("has an unexpected segment \(segments.count)")
            }
            segments.append(subtree)
        }
        switch record {
        case .success(let record): shape = ImageShape(size: record.size, chunkSize: record.chunkSize, segmentSize: record.segmentSize)
        case .failure: shape = try Self.shape(of: segments, repository, index, reader)
        }
        guard segments.count == shape.segmentCount else {
            throw damaged("has \(segments.count) segments instead of \(shape.segmentCount)")
        }
        self.segments = segments
    }

    private static func readRecord(
        _ chunk: Digest, snapshot: Digest, _ index: BlobIndex, _ reader: BlobReader
    ) throws -> Result<VolumeRecord, RepositoryError> {
        let text: [UInt8]
        do {
            guard let location = try index.find(chunk, .data) else { throw RepositoryError.damaged("chunk \(chunk) is in no index") }
            text = try reader.read(location, atMost: Trees.recordLimit)
        } catch let error as RepositoryError where error.kind == .damaged {
            return .failure(error)
        }
        // What was written like this and makes no sense is not lost but wrong.
        return .success(try VolumeRecord(parsing: text, snapshot: snapshot))
    }

    /// The shape that the segments' trees have if `volume.json` is lost: all but the last have the same size.
    private static func shape(
        of segments: [Digest], _ repository: Repository, _ index: BlobIndex, _ reader: BlobReader
    ) throws -> ImageShape {
        let chunkSize = repository.chunkSize
        func size(_ segment: Digest) throws -> UInt64 {
            var size: UInt64 = 0
            try TreeNode.scan(try tree(segment, index, reader), tree: segment) { _ in
            } node: {
                size = $0.size
            }
            guard size > 0, size <= UInt64(chunkSize) << 18 else { throw RepositoryError.damaged("tree \(segment) has an impossible size") }
            return size
        }
        guard let first = segments.first, let last = segments.last else {
            return ImageShape(size: 0, chunkSize: chunkSize, segmentSize: UInt64(chunkSize))
        }
        let segmentSize = try size(first)
        guard segments.count > 1 else {
            return ImageShape(
                size: segmentSize, chunkSize: chunkSize,
                segmentSize: segmentSize <= repository.segmentSize ? repository.segmentSize : UInt64(chunkSize) << 18)
        }
        guard segmentSize % UInt64(chunkSize) == 0 else { throw RepositoryError.damaged("tree \(first) has an impossible size") }
        return ImageShape(
            size: segmentSize * UInt64(segments.count - 1) + (try size(last)), chunkSize: chunkSize, segmentSize: segmentSize)
    }

    private static func tree(_ id: Digest, _ index: BlobIndex, _ reader: BlobReader) throws -> [UInt8] {
        guard let location = try index.find(id, .tree) else { throw RepositoryError.damaged("tree \(id) is in no index") }
        return try reader.read(location, atMost: Trees.limit)
    }

    /// The tree of a segment.
    func tree(of segment: Int) -> Digest { segments[segment] }

    /// The ids of the chunks of a segment: exactly as many as it must have.
    func chunks(of segment: Int) throws -> [Digest] {
        let id = segments[segment]
        let expected = shape.chunkCount(segment)
        let size = UInt64(shape.segment(segment).count)
        if let last, last.tree == id, last.size == size { return last.chunks }
        func damaged(_ what: String) -> RepositoryError { .damaged("tree \(id) of segment \(segment) \(what)") }
        var chunks: [Digest] = []
        chunks.reserveCapacity(expected)
        var nodes = 0
        try TreeNode.scan(try Self.tree(id, index, reader), tree: id) { chunk in
            guard chunks.count < expected else { throw damaged("has more than \(expected) chunks") }
            chunks.append(chunk)
        } node: { node in
            nodes += 1
            guard nodes == 1, node.name == Trees.segmentFile, node.type == "file", node.size == size else {
                throw damaged("is not one file of \(size) bytes")
            }
        }
        guard nodes == 1, chunks.count == expected else { throw damaged("has \(chunks.count) chunks instead of \(expected)") }
        last = (id, size, chunks)
        return chunks
    }
}
