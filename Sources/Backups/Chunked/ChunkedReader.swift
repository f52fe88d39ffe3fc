import Primitives

/// Restores or verifies a chain: reads its objects on several threads and checks them; what is good is written.
final class ChunkedReader: Sendable {
    private let chain: [ChunkedBackup]
    private let store: any ObjectStore
    /// Nil where a backup is only verified.
    private let target: (any BlockTarget)?
    private let control: TransferControl
    let schedule: RestoreSchedule
    private let zeroes: ZeroHashes
    private let hasHashes: Bool
    private let pieceSize: Int
    private static let workers = 3

    init(
        _ chain: [ChunkedBackup], from store: any ObjectStore, to target: (any BlockTarget)?, includesReplaced: Bool? = nil,
        _ control: TransferControl
    ) throws {
        (self.chain, self.store, self.target, self.control) = (chain, store, target, control)
        let newest = chain[chain.count - 1]
        var layers: [[ChunkedObject]] = []
        for backup in chain { layers.append(try Self.metadata(backup, store).objects) }
        let plan = try RestorePlan(layers, includesReplaced: includesReplaced ?? (target == nil), last: newest.metadataName)
        // A verification meets each of them, and says of which bytes it is.
        if target != nil { try Self.checkListing(plan.units, of: chain, store) }
        if let target, target.size < plan.size {
            throw ChunkedFailure.invalid("the backup has \(plan.size) bytes, the volume only \(target.size)")
        }
        var hashes: HashFileReader?
        do { hashes = try HashFileReader(newest, from: store) } catch let failure as StoreFailure where failure.kind == .notFound {
            // Where hashes of blocks are lost there are still those of objects.
            if target == nil { throw ChunkedFailure.damaged("\(newest.hashFileName) is missing") }
        }
        if let hashes {
            try plan.check(blockSize: hashes.blockSize) { chain[$0.layer].memberName($0.object.number) }
        }
        hasHashes = hashes != nil
        schedule = RestoreSchedule(plan, hashes: hashes, hashFile: newest.hashFileName)
        let blockSize = Int(schedule.blockSize)
        zeroes = ZeroHashes(blockSize: blockSize)
        pieceSize = blockSize * max(1, (1 << 20) / blockSize)
        control.advance { $0.total = plan.size }
    }

    static func metadata(_ backup: ChunkedBackup, _ store: any ObjectStore) throws -> ChunkedMetadata {
        do { return try ChunkedMetadata.read(backup, from: store) } catch let failure as StoreFailure where failure.kind == .notFound {
            guard try isThere(backup, store) else {
                throw ChunkedFailure(
                    .store(.notFound),
                    "\(backup.metadataName) is missing, and nothing else of the backup is found: the store may not be the one that held it")
            }
            throw ChunkedFailure.damaged("\(backup.metadataName) is missing")
        }
    }

    /// Whether it is certain that the store is the one that held a backup, as a share that is not mounted is not: another object of the
    /// backup is found by its name, or a listing that does not lag has any object.
    private static func isThere(_ backup: ChunkedBackup, _ store: any ObjectStore) throws -> Bool {
        for name in [backup.hashFileName, backup.objectName(1)] where try store.size(of: name) != nil { return true }
        return try store.traits.listsConsistently && store.hasObject(under: "")
    }

    /// Finds missing objects before anything is written. What an increment has replaced may be missing.
    private static func checkListing(_ units: [RestorePlan.Unit], of chain: [ChunkedBackup], _ store: any ObjectStore) throws {
        guard store.traits.listsConsistently else { return }
        let needed = Dictionary(grouping: units, by: \.layer)
        for (layer, backup) in chain.enumerated() {
            guard let objects = needed[layer] else { continue }
            var found = Set<Int>()
            try store.list(backup.wholePrefix + "-", after: "") { name, _ in
                if let number = ChunkedBackup.number(ofSuffix: name.utf8.dropFirst(backup.wholePrefix.utf8.count)) { found.insert(number) }
                return found.count < 2 * ChunkedLimits.objects
            }
            for unit in objects where !found.contains(unit.object.number) {
                throw ChunkedFailure.damaged("\(backup.objectName(unit.object.number)) is missing")
            }
        }
    }

    func run() throws {
        try runCrew(Self.workers, "restore", stop: { [schedule] in schedule.stop() }) { [self] in
            let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: pieceSize, alignment: 4096)
            defer {
                input.deallocate()
                piece.deallocate()
            }
            let (md5, sha256) = (MD5(), SHA256())
            while let work = try schedule.next() {
                guard !control.isCancelled else { throw ChunkedFailure.cancelled }
                do { try restore(work, input, piece, md5, sha256) } catch let failure as ChunkedFailure
                    where failure.kind == .damaged && target == nil
                {
                    schedule.note(failure.reason, work.unit)
                }
                let done = work.parts.reduce(0) { $0 + UInt64($1.count) }
                control.advance { $0.done += done }
            }
        }
        try schedule.finish()
    }

    private func restore(
        _ work: RestoreSchedule.Work, _ input: UnsafeMutableRawBufferPointer, _ piece: UnsafeMutableRawBufferPointer, _ md5: MD5,
        _ sha256: SHA256
    ) throws {
        if let target, try restoreZeroes(work, to: target) { return }
        // Without hashes of blocks the object is read twice: once to see that it is good.
        if !hasHashes { try read(work, input, piece, md5) { _, _ in } }
        if target != nil || hasHashes {
            // Where every block is checked by its own hash, the object's hash can say no more of what is written.
            let isCovered = target != nil && work.parts == [work.unit.object.range]
            try read(work, input, piece, hasHashes && isCovered ? nil : md5) { bytes, offset in
                try check(bytes, at: offset, work, sha256)
                if let target { try write(bytes, at: offset, work.parts, to: target) }
            }
        }
        schedule.count { $0.objects += 1 }
    }

    /// Where the hashes say that all is zero nothing needs to be read.
    private func restoreZeroes(_ work: RestoreSchedule.Work, to target: any BlockTarget) throws -> Bool {
        guard let hashes = work.hashes else { return false }
        for part in work.parts {
            var start = part.lowerBound
            while start < part.upperBound {
                let count = Int(min(schedule.blockSize, part.upperBound - start))
                guard hashes[Int(start / schedule.blockSize - work.firstBlock)] == zeroes.block(count) else { return false }
                start += UInt64(count)
            }
        }
        if !target.isZero {
            schedule.noteTargetChange()
            for part in work.parts { try target.zero(part) }
        }
        return true
    }

    /// Reads an object piece by piece.
    ///
    /// - Parameter md5: checks the whole; nil if that was done before.
    private func read(
        _ work: RestoreSchedule.Work, _ input: UnsafeMutableRawBufferPointer, _ piece: UnsafeMutableRawBufferPointer, _ md5: MD5?,
        _ body: (UnsafeRawBufferPointer, UInt64) throws -> Void
    ) throws {
        let object = work.unit.object
        let name = chain[work.unit.layer].objectName(object.number)
        let reader = PlainReader(store, name, object, buffer: input)
        defer {
            let stored = reader.offset
            schedule.count { $0.stored += stored }
            control.advance { $0.stored += stored }
        }
        // What an object before left unfinished.
        if let md5 { _ = md5.finish() }
        var done: UInt64 = 0
        while done < object.length {
            guard !control.isCancelled else { throw ChunkedFailure.cancelled }
            let bytes = UnsafeMutableRawBufferPointer(rebasing: piece[..<Int(min(UInt64(piece.count), object.length - done))])
            try reader.read(into: bytes)
            md5?.update(UnsafeRawBufferPointer(bytes))
            try body(UnsafeRawBufferPointer(bytes), object.offset + done)
            done += UInt64(bytes.count)
        }
        try reader.finish()
        if let found = md5?.finish(), found != object.md5 {
            throw ChunkedFailure.damaged("\(name): md5 of its content is \(found.hex), not \(object.md5.hex)")
        }
        schedule.count { $0.contained += object.length }
    }

    /// Checks the hash of every block of a piece that is wanted of it.
    private func check(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ work: RestoreSchedule.Work, _ sha256: SHA256) throws {
        guard let hashes = work.hashes else { return }
        try forEachBlock(bytes, at: offset, work.parts) { block, start in
            let digest = isZero(block) ? zeroes.block(block.count) : sha256.of(block)
            guard digest == hashes[Int(start / schedule.blockSize - work.firstBlock)] else {
                let name = chain[work.unit.layer].objectName(work.unit.object.number)
                throw ChunkedFailure.damaged(
                    "\(name): SHA-256 of the \(block.count) bytes of the volume from \(start) is not the recorded one")
            }
        }
    }

    /// Writes the wanted parts of a piece; blocks of zeroes become holes.
    private func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ parts: [Range<UInt64>], to target: any BlockTarget) throws {
        var pending: Range<UInt64>?
        var (written, zeroed): (UInt64, Range<UInt64>?) = (0, nil)
        func flush() throws {
            if let range = pending {
                let part = bytes[Int(range.lowerBound - offset)..<Int(range.upperBound - offset)]
                control.admit(part.count)
                schedule.noteTargetChange()
                try target.write(UnsafeRawBufferPointer(rebasing: part), at: range.lowerBound)
                written += UInt64(part.count)
            }
            if let range = zeroed, !target.isZero {
                schedule.noteTargetChange()
                try target.zero(range)
            }
            (pending, zeroed) = (nil, nil)
        }
        try forEachBlock(bytes, at: offset, parts) { block, start in
            let range = start..<start + UInt64(block.count)
            if isZero(block) {
                if let last = zeroed, last.upperBound == start { zeroed = last.lowerBound..<range.upperBound; return }
                try flush()
                zeroed = range
            } else {
                if let last = pending, last.upperBound == start { pending = last.lowerBound..<range.upperBound; return }
                try flush()
                pending = range
            }
        }
        try flush()
        schedule.count { $0.written += written }
        control.advance { $0.moved += written }
    }

    /// The blocks of a piece that lie in parts, with their offsets in the volume.
    private func forEachBlock(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ parts: [Range<UInt64>],
        _ body: (UnsafeRawBufferPointer, UInt64) throws -> Void
    ) throws {
        let whole = offset..<offset + UInt64(bytes.count)
        // Parts are ascending: those before the piece are passed over quickly.
        var (low, high) = (0, parts.count)
        while low < high {
            let middle = (low + high) / 2
            if parts[middle].upperBound <= whole.lowerBound { low = middle + 1 } else { high = middle }
        }
        for part in parts[low...] {
            guard part.lowerBound < whole.upperBound else { return }
            let wanted = part.clamped(to: whole)
            var start = wanted.lowerBound
            while start < wanted.upperBound {
                let end = min(wanted.upperBound, (start / schedule.blockSize + 1) * schedule.blockSize)
                try body(UnsafeRawBufferPointer(rebasing: bytes[Int(start - offset)..<Int(end - offset)]), start)
                start = end
            }
        }
    }
}
