import JSON
import Primitives

/// One backup while it is made: reads chunks, hashes them, and stores those that the repository does not have.
final class BackupWriter: Sendable {
    private let repository: Repository
    private let source: any BlockSource
    private let request: BackupRequest
    private let control: TransferControl
    private let lock: RepositoryLock
    private let index: BlobIndex
    private let packs: PackWriter
    private let trees: PackWriter
    private let shape: ImageShape
    private let workers: [Unchecked<ChunkWorker>]
    private let zeroes: ZeroChunks
    /// The trees of segments without data, by their sizes.
    private let holes = Guarded([Int: Digest]())
    /// What was read, for whoever continues after a crash.
    private let journal: ReadJournal?
    private let note: MissedChangeNote
    private let counters = Guarded((readBytes: UInt64(0), newChunks: 0))

    init(
        _ repository: Repository, _ source: any BlockSource, _ request: BackupRequest, _ control: TransferControl, _ lock: RepositoryLock
    ) throws {
        self.repository = repository
        self.source = source
        self.request = request
        self.control = control
        self.lock = lock
        let shape = ImageShape(size: source.size, chunkSize: repository.chunkSize, segmentSize: repository.segmentSize)
        self.shape = shape
        guard source.size <= UInt64(Int64.max), shape.segmentCount < 100_000 else {
            throw RepositoryError(.invalid, "a source of \(source.size) bytes is too large")
        }
        index = try repository.loadIndex(readsHeaders: false)
        note = repository.missedChangeNote(of: request.backupID)
        journal = repository.cache.flatMap {
            ReadJournal($0.directory, backup: request.backupID, shape, continues: request.continues)
        }
        let indexWriter = IndexWriter(repository.store, repository.keys, interval: repository.options.indexInterval)
        let largest = ZstdCompressor.bound(max(repository.chunkSize, Trees.recordLimit)) + Sealer.overhead
        packs = PackWriter(
            repository.store, repository.keys, packSize: repository.options.packSize, largestBlob: largest, index: indexWriter,
            control: control)
        // A segment's tree is larger than a chunk; there is one every 64 GiB.
        trees = PackWriter(
            repository.store, repository.keys, packSize: 1 << 20, largestBlob: Trees.largestSealed(shape), buffers: 1,
            uploaders: 1, index: indexWriter, control: control)
        workers = (0..<repository.workerCount).map { _ in
            Unchecked(ChunkWorker(repository.keys, chunkSize: repository.chunkSize, level: repository.options.compressionLevel))
        }
        zeroes = ZeroChunks(chunkSize: repository.chunkSize)
        control.advance { $0.total = shape.size }
    }

    /// Ends the threads.
    func end() {
        journal?.flush()
        packs.end()
        trees.end()
    }

    func run() throws -> BackupResult {
        let time = Timestamp.now() + "Z"
        let (segments, missed) = try writeSegments()
        let worker = workers[0].value
        let record = VolumeRecord(
            backupID: request.backupID, projectID: request.projectID, volumeID: request.volumeID, size: shape.size, createdAt: time,
            missedChange: missed?.offset, details: request.details, chunkSize: shape.chunkSize, segmentSize: shape.segmentSize)
        let text = Array(record.json.text.utf8)
        guard text.count <= Trees.recordLimit else { throw RepositoryError(.invalid, "the details of a backup take more than 1 MiB") }
        let recordID = try text.withUnsafeBytes { try store($0, .data, worker) }
        let imageID = try storeTree(Trees.image(segments: segments))
        let root = try storeTree(Trees.root(image: imageID, record: recordID, recordSize: text.count, time: time))
        // Packs, then the index, then the snapshot: whatever a crash leaves is complete or not there.
        try packs.flush()
        try trees.flush()
        try lock.check()
        guard !control.isCancelled else { throw RepositoryError(.cancelled, "cancelled") }
        let snapshot = try SealedObjects(repository.store, repository.keys).save(
            .snapshots,
            RepositorySnapshot.json(
                time: time, tree: root, parent: request.parent, volumeID: request.volumeID, backupID: request.backupID,
                projectID: request.projectID, hostname: repository.hostname))
        journal?.remove()
        // From here on the record tells of it.
        if missed != nil { try note.remove() }
        let (readBytes, newChunks) = counters.withLock { $0 }
        return BackupResult(
            snapshot: snapshot, size: shape.size, readBytes: readBytes, storedBytes: packs.storedBytes + trees.storedBytes,
            newChunks: newChunks, missedChange: missed?.offset, unreadable: index.unreadable.map(\.error.description))
    }

    /// Writes the image and returns the trees of its segments, and the change that the source missed, if one was found: then nothing is
    /// inherited.
    private func writeSegments() throws -> (trees: [Digest], missed: MissedChange?) {
        var missed = request.parent == nil ? nil : try note.read()
        if missed == nil {
            do {
                let parent = try request.parent.flatMap { try ParentImage.load(repository, index, snapshot: $0, shape: shape) }
                return (try (0..<shape.segmentCount).map { try writeSegment($0, parent: parent) }, nil)
            } catch let found as MissedChange {
                missed = found
                control.advance { $0.done = 0 }
                control.noteMissedChange(at: found.offset)
            }
        }
        return (try (0..<shape.segmentCount).map { try writeSegment($0, parent: nil) }, missed)
    }

    /// Writes one segment and returns its tree.
    private func writeSegment(_ segment: Int, parent: ParentImage?) throws -> Digest {
        try lock.check()
        let range = shape.segment(segment)
        let plan = try SegmentPlan(shape, segment, source: source, parent: parent, zeroes: zeroes, repository.options.sampling)
        if let known = journal?.chunks(of: segment), !known.isEmpty {
            try plan.resolve(shape, segment) { chunk, length in
                guard let id = known[chunk], try id == zeroes.id(length) || index.isUsable(id, .data) else { return nil }
                return id
            }
        }
        control.advance { $0.done += UInt64(range.count) - plan.workBytes(shape, segment) }
        if plan.isHole, let known = holes.withLock({ $0[range.count] }) { return known }
        let queue = WorkQueue(count: plan.work.count, control: control)
        try queue.run(workers) { [self] worker, number in
            try writeChunk(plan.work[number], of: segment, plan, worker)
        }
        if let same = plan.inheritedTree, try index.isUsable(same, .tree) { return same }
        let worker = workers[0].value
        for length in plan.zeroLengths(shape, segment, zeroes) {
            let zero = zeroes.id(length)
            if try index.claim(zero, .data) { try zeroes.withBytes(length) { try add(zero, .data, $0, worker) } }
        }
        let tree = try plan.withChunks { try storeTree(Trees.segment(size: UInt64(range.count), chunks: $0)) }
        if plan.isHole { holes.withLock { $0[range.count] = tree } }
        return tree
    }

    private func writeChunk(_ work: SegmentPlan.Work, of segment: Int, _ plan: SegmentPlan, _ worker: ChunkWorker) throws {
        let chunk = Int(work.chunk)
        let range = shape.chunk(chunk, of: segment)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: worker.plain[..<range.count])
        control.admit(range.count)
        try source.read(at: range.lowerBound, into: bytes)
        let plain = UnsafeRawBufferPointer(bytes)
        let id = isZero(plain) ? zeroes.id(plain.count) : worker.hash.of(plain)
        if work.isSample, plan[chunk] != id {
            let missed = MissedChange(offset: range.lowerBound)
            // Not later: another thread's failure may be what this attempt ends with.
            try note.put(missed)
            throw missed
        }
        if id != zeroes.id(plain.count), try index.claim(id, .data) {
            try add(id, .data, plain, worker)
            counters.withLock { $0.newChunks += 1 }
        }
        plan[chunk] = id
        journal?.note(chunk, of: segment, id)
        counters.withLock { $0.readBytes += UInt64(range.count) }
        control.advance {
            $0.done += UInt64(range.count)
            $0.moved += UInt64(range.count)
        }
    }

    private func storeTree(_ text: [UInt8]) throws -> Digest { try text.withUnsafeBytes { try store($0, .tree, workers[0].value) } }

    private func store(_ bytes: UnsafeRawBufferPointer, _ type: BlobType, _ worker: ChunkWorker) throws -> Digest {
        let id = worker.hash.of(bytes)
        if try index.claim(id, type) { try add(id, type, bytes, worker) }
        return id
    }

    private func add(_ id: Digest, _ type: BlobType, _ plain: UnsafeRawBufferPointer, _ worker: ChunkWorker) throws {
        let writer = type == .data ? packs : trees
        try worker.compressed(plain) { bytes, plainLength in
            try writer.add(id, type, bytes, plainLength: plainLength, worker.sealer)
        }
    }
}

/// What a thread needs to turn chunks into blobs.
final class ChunkWorker {
    let plain: UnsafeMutableRawBufferPointer
    let hash = SHA256()
    let sealer: Sealer
    private let packed: UnsafeMutableRawBufferPointer
    private let compressor: ZstdCompressor

    init(_ keys: SealingKeys, chunkSize: Int, level: Int) {
        plain = .allocate(byteCount: chunkSize, alignment: 4096)
        packed = .allocate(byteCount: ZstdCompressor.bound(chunkSize), alignment: 64)
        sealer = Sealer(keys)
        compressor = ZstdCompressor(level: level)
    }

    deinit {
        plain.deallocate()
        packed.deallocate()
    }

    /// Calls the body with the bytes as they shall be stored, and with their length before compression, or with 0 if compression gains
    /// nothing.
    func compressed(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
        if bytes.count > plain.count {
            let packed = compressor.compress(bytes)
            return try packed.withUnsafeBytes { try body($0, bytes.count) }
        }
        if let count = compressor.compress(bytes, into: packed), count < bytes.count {
            return try body(UnsafeRawBufferPointer(rebasing: packed[..<count]), bytes.count)
        }
        try body(bytes, 0)
    }
}
