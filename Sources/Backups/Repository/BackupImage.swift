import Primitives

/// The image of a backup, readable at any place at once, without restoring it: for a block server. Any thread may read.
///
/// While it is open the repository has a lock, so that nothing that it needs goes.
public final class BackupImage: BlockSource {
    private struct Cache {
        /// The segments read last, the newest at the end.
        var segments: [(number: Int, chunks: [Digest])] = []
        /// The chunks read last, the newest at the end.
        var chunks: [(id: Digest, bytes: [UInt8])] = []
    }

    /// What the backup is of; nil if `volume.json` is damaged.
    public let record: VolumeRecord?
    /// Bytes.
    public var size: UInt64 { shape.size }

    private let shape: ImageShape
    private let index: BlobIndex
    private let repository: Repository
    private let lock: RepositoryLock?
    private let map: Guarded<Unchecked<ImageMap>>
    private let cache = Guarded(Cache())
    private let readers = Guarded([Unchecked<BlobReader>]())
    private let zeroes: ZeroChunks
    private static let segmentLimit = 3
    private static let cacheBytes = 32 << 20

    fileprivate init(_ repository: Repository, _ snapshot: Digest, _ lock: RepositoryLock?) throws {
        self.repository = repository
        self.lock = lock
        index = try repository.loadIndex()
        let map = try ImageMap(repository, index, snapshot: snapshot)
        record = try? map.record.get()
        shape = map.shape
        zeroes = ZeroChunks(chunkSize: map.shape.chunkSize)
        self.map = Guarded(Unchecked(map))
    }

    /// Gives the repository's lock up. Nobody reads it any more.
    public func close() { lock?.release() }

    deinit { close() }

    /// Fills the buffer from an offset; the range must lie inside the image. Every byte was verified.
    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw RepositoryError(.invalid, "\(buffer.count) bytes at \(offset) are not inside the image of \(size) bytes")
        }
        try lock?.check()
        var position = offset
        var rest = buffer
        while !rest.isEmpty {
            let segment = Int(position / shape.segmentSize)
            let number = Int(position % shape.segmentSize) / shape.chunkSize
            let range = shape.chunk(number, of: segment)
            let start = Int(position - range.lowerBound)
            let count = min(rest.count, range.count - start)
            let target = UnsafeMutableRawBufferPointer(rebasing: rest[..<count])
            let id = try chunk(number, of: segment)
            if id == zeroes.id(range.count) {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            } else {
                try withChunk(id, range.count) { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
            }
            position += UInt64(count)
            rest = UnsafeMutableRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Chunks of zeroes are holes.
    public func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        let range = range.clamped(to: 0..<size)
        var found: [Range<UInt64>] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let segment = Int(position / shape.segmentSize)
            let number = Int(position % shape.segmentSize) / shape.chunkSize
            let whole = shape.chunk(number, of: segment)
            let part = whole.clamped(to: range)
            position = whole.upperBound
            if try chunk(number, of: segment) == zeroes.id(whole.count) { continue }
            if let last = found.last, last.upperBound == part.lowerBound {
                found[found.count - 1] = last.lowerBound..<part.upperBound
            } else {
                found.append(part)
            }
        }
        return found
    }

    /// A backup does not know what it was made of.
    public func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { nil }

    private func chunk(_ number: Int, of segment: Int) throws -> Digest {
        let known = cache.withLock { $0.segments.last { $0.number == segment }?.chunks[number] }
        if let known { return known }
        let chunks = try map.withLock { try $0.value.chunks(of: segment) }
        cache.withLock { cache in
            guard !cache.segments.contains(where: { $0.number == segment }) else { return }
            if cache.segments.count == Self.segmentLimit { cache.segments.removeFirst() }
            cache.segments.append((segment, chunks))
        }
        return chunks[number]
    }

    private func withChunk(_ id: Digest, _ count: Int, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
        let known = cache.withLock { cache -> [UInt8]? in
            guard let place = cache.chunks.lastIndex(where: { $0.id == id }) else { return nil }
            let entry = cache.chunks.remove(at: place)
            cache.chunks.append(entry)
            return entry.bytes
        }
        if let known { return try known.withUnsafeBytes(body) }
        guard let location = try index.find(id, .data) else { throw RepositoryError.damaged("chunk \(id) is in no index") }
        let reader =
            readers.withLock { $0.popLast() } ?? Unchecked(BlobReader(repository.store, repository.keys))
        defer { readers.withLock { $0.append(reader) } }
        let bytes = try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            try reader.value.read(location, into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count))
            filled = count
        }
        try bytes.withUnsafeBytes(body)
        cache.withLock { cache in
            guard !cache.chunks.contains(where: { $0.id == id }) else { return }
            if cache.chunks.count >= max(2, Self.cacheBytes / shape.chunkSize) { cache.chunks.removeFirst() }
            cache.chunks.append((id, bytes))
        }
    }
}

extension Repository {
    /// Opens the image of a backup for reading at any place.
    public func image(of snapshot: Digest) throws -> BackupImage {
        let lock = try takeReadingLock(nil)
        do { return try BackupImage(self, snapshot, lock) } catch {
            lock?.release()
            throw error
        }
    }

    /// What a backup is of: `volume.json`.
    public func record(of snapshot: Digest) throws -> VolumeRecord { try ImageMap(self, loadIndex(), snapshot: snapshot).record.get() }
}
