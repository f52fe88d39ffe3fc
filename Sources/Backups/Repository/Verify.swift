import Primitives

/// Something in a repository that is not what was written.
public struct RepositoryDamage: Sendable, Equatable {
    /// The chunk that cannot be read; nil if a tree cannot, or a pack as a whole.
    public var chunk: Digest?
    /// The pack that it lies in, where that is known.
    public var pack: Digest?
    /// Where the image has it; nil if the damage was not found through an image.
    public var offset: UInt64?
    public var description: String
}

/// What was found when a backup, or a part of the repository, was read to see whether it is good.
public struct VerifyResult: Sendable, Equatable {
    public var checkedBytes: UInt64 = 0
    /// The first thousand damages.
    public var damages: [RepositoryDamage] = []
    public var isGood: Bool { damages.isEmpty }

    static let damageLimit = 1000

    mutating func add(_ damage: RepositoryDamage) { if damages.count < Self.damageLimit { damages.append(damage) } }

    /// Adds the parts of the index that are damaged.
    mutating func add(_ unreadable: [(name: Digest, error: RepositoryError)]) {
        for (_, error) in unreadable { add(RepositoryDamage(description: error.description)) }
    }
}

extension Repository {
    /// Reads a backup whole and checks everything down to the hash of every chunk.
    ///
    /// - Returns: what was checked and what is damaged; damage does not stop it.
    /// - Throws: what keeps it from reading: the store's failures, a cancellation.
    public func verify(_ snapshot: Digest, control: TransferControl = TransferControl()) throws -> VerifyResult {
        let lock = try takeReadingLock(control)
        defer { lock?.release() }
        let index = try loadIndex()
        let result = Guarded(VerifyResult())
        let image: ImageMap
        do { image = try ImageMap(self, index, snapshot: snapshot) } catch let error as RepositoryError where error.kind == .damaged {
            // The pack of the tree at the top has all but the segments' trees.
            let top = try? self.snapshot(snapshot).tree
            let place = try top.flatMap { try index.find($0, .tree)?.pack }
            result.withLock {
                $0.add(RepositoryDamage(pack: place, description: error.description))
                $0.add(index.unreadable)
            }
            return result.withLock { $0 }
        }
        if case .failure(let error) = image.record {
            let pack = try index.find(image.recordChunk, .data)?.pack
            result.withLock { $0.add(RepositoryDamage(chunk: image.recordChunk, pack: pack, description: error.description)) }
        }
        control.advance { $0.total = image.shape.size }
        let workers = (0..<workerCount).map { _ in Unchecked(RestoreWorker(self, chunkSize: image.shape.chunkSize)) }
        let zeroes = ZeroChunks(chunkSize: image.shape.chunkSize)
        // The blob of a chunk of zeroes, by its length: a restore does not read it, but restic does.
        var seenZeroes = Set<Int>()
        for segment in 0..<image.shape.segmentCount {
            let start = image.shape.segment(segment).lowerBound
            let chunks: [Digest]
            do { chunks = try image.chunks(of: segment) } catch let error as RepositoryError where error.kind == .damaged {
                let pack = try index.find(image.tree(of: segment), .tree)?.pack
                result.withLock { $0.add(RepositoryDamage(pack: pack, offset: start, description: error.description)) }
                continue
            }
            var work: [(range: Range<UInt64>, chunk: Digest)] = []
            for (number, chunk) in chunks.enumerated() {
                let range = image.shape.chunk(number, of: segment)
                if chunk == zeroes.id(range.count), !seenZeroes.insert(range.count).inserted { continue }
                work.append((range, chunk))
            }
            let skipped = UInt64(image.shape.segment(segment).count) - work.reduce(UInt64(0)) { $0 + UInt64($1.range.count) }
            control.advance { $0.done += skipped }
            let parts = work
            try WorkQueue(count: parts.count, control: control).run(workers) { worker, number in
                let (range, chunk) = parts[number]
                control.admit(range.count)
                let damage = try self.check(chunk, at: range, index, worker)
                result.withLock { result in
                    result.checkedBytes += UInt64(range.count)
                    if let damage { result.add(damage) }
                }
                control.advance {
                    $0.done += UInt64(range.count)
                    $0.moved += UInt64(range.count)
                }
            }
            try lock?.check()
        }
        return result.withLock { result in
            result.damages.sort { ($0.offset ?? 0) < ($1.offset ?? 0) }
            // Where all was found all the same, that is no damage of this backup.
            if !result.isGood { result.add(index.unreadable) }
            return result
        }
    }

    private func check(_ chunk: Digest, at range: Range<UInt64>, _ index: BlobIndex, _ worker: RestoreWorker) throws -> RepositoryDamage? {
        guard let location = try index.find(chunk, .data) else {
            return RepositoryDamage(chunk: chunk, offset: range.lowerBound, description: "chunk \(chunk) is in no index")
        }
        do {
            try worker.reader.read(location, into: UnsafeMutableRawBufferPointer(rebasing: worker.buffer[..<range.count]))
            return nil
        } catch let error as RepositoryError where error.kind == .damaged {
            return RepositoryDamage(chunk: chunk, pack: location.pack, offset: range.lowerBound, description: error.description)
        }
    }

    /// Checks the hashes of a part of the packs without decrypting them: `part` 0 to `parts` - 1 on successive days check all of them.
    /// The progress counts packs.
    ///
    /// - Returns: what was checked, with the damaged and the missing packs, and the snapshots and parts of the index that are damaged.
    public func scrub(part: Int = 0, of parts: Int = 1, control: TransferControl = TransferControl()) throws -> VerifyResult {
        guard parts > 0, (0..<parts).contains(part) else { throw RepositoryError(.invalid, "there is no part \(part) of \(parts)") }
        let lock = try takeReadingLock(control)
        defer { lock?.release() }
        let packs = try loadIndex().packs.filter { Int($0.words.0 >> 32) % parts == part }
        let result = Guarded(VerifyResult())
        for object in try damagedObjects() { result.withLock { $0.add(RepositoryDamage(description: object.description)) } }
        let workers = (0..<workerCount).map { _ in Unchecked(RestoreWorker(self, chunkSize: 1 << 20)) }
        control.advance { $0.total = UInt64(packs.count) }
        try WorkQueue(count: packs.count, control: control).run(workers) { worker, number in
            let pack = packs[number]
            let (size, fault) = try self.check(pack: pack, worker, control)
            result.withLock { result in
                result.checkedBytes += size
                if let fault { result.add(RepositoryDamage(pack: pack, description: "pack \(pack) \(fault)")) }
            }
            control.advance { $0.done += 1 }
            try lock?.check()
        }
        return result.withLock { $0 }
    }

    private func check(pack: Digest, _ worker: RestoreWorker, _ control: TransferControl) throws -> (size: UInt64, fault: String?) {
        let hash = SHA256()
        let name = ObjectKind.pack(pack)
        var offset: UInt64 = 0
        guard try store.size(of: name) != nil else { return (0, "is missing") }
        while !control.isCancelled {
            let count = try store.get(name, at: offset, into: worker.buffer)
            hash.update(UnsafeRawBufferPointer(rebasing: worker.buffer[..<count]))
            offset += UInt64(count)
            control.admit(count)
            control.advance { $0.stored += UInt64(count) }
            if count < worker.buffer.count { return (offset, hash.finish() == pack ? nil : "is not what was written") }
        }
        return (offset, nil)
    }
}
