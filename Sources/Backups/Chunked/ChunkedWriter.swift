import Glibc
import Primitives

/// Writes one backup: reads the volume's windows on several threads, hashes, compresses and puts what belongs into the backup.
final class ChunkedWriter: Sendable {
    private let backup: ChunkedBackup
    private let source: any BlockSource
    private let store: any ObjectStore
    private let options: ChunkedOptions
    private let control: TransferControl
    private let schedule: WriteSchedule
    private let zeroes: ZeroHashes
    private let uncertainty = Primitives.Semaphore(1)
    private let lanes = MD5Lanes()

    init(
        _ backup: ChunkedBackup, of source: any BlockSource, to store: any ObjectStore, parent: ChunkedBackup?, _ options: ChunkedOptions,
        _ control: TransferControl
    ) throws {
        (self.backup, self.source, self.store, self.options, self.control) = (backup, source, store, options, control)
        var hashes: HashFileReader?
        if let parent {
            do { hashes = try HashFileReader(parent, from: store) } catch let failure as StoreFailure where failure.kind == .notFound {
                throw ChunkedFailure.damaged("\(parent.hashFileName) is missing: an increment needs the hashes of its parent")
            }
            if let size = hashes?.blockSize, size != UInt64(options.blockSize) {
                throw ChunkedFailure.invalid("chunk_size of the parent is \(size), not \(options.blockSize): a full backup is needed")
            }
        }
        zeroes = ZeroHashes(blockSize: options.blockSize)
        let writer = try HashFileWriter(backup, blockSize: options.blockSize, to: store)
        schedule = WriteSchedule(source, options, zeroBlock: zeroes.block, parent: hashes, hashes: writer)
    }

    func run() throws -> (objects: [ChunkedObject], summary: ChunkedSummary) {
        defer { schedule.abandon() }
        control.advance { $0.total = source.size }
        try runCrew(options.workers, "backup", stop: { [schedule] in schedule.stop() }) { [self] in
            let buffer = WindowBuffer(options.windowSize)
            let putter = ObjectPutter(backup, store, options, zeroes, uncertainty: uncertainty, lanes: lanes)
            let hash = SHA256()
            while let window = try schedule.next() {
                guard !control.isCancelled else { throw ChunkedFailure.cancelled }
                if window.isZero {
                    try finishZeroes(window, putter)
                } else {
                    try work(window, buffer, putter, hash)
                }
            }
        }
        return try schedule.result()
    }

    private func finishZeroes(_ window: WriteSchedule.Window, _ putter: ObjectPutter) throws {
        let (object, stored, isKept) = try putter.putZeroes(window.order + 1, window.range)
        let (whole, rest) = UInt64(window.range.count).quotientAndRemainder(dividingBy: UInt64(options.blockSize))
        let last = rest > 0 ? zeroes.block(Int(rest)) : nil
        try finish(window, .zeroes(whole, last: last), [object], stored: stored, kept: isKept ? 1 : 0)
    }

    private func finish(
        _ window: WriteSchedule.Window, _ hashes: WriteSchedule.Hashes, _ objects: [ChunkedObject], read: Int = 0, stored: Int, kept: Int
    ) throws {
        try schedule.finish(window, hashes, objects) { summary in
            summary.read += UInt64(read)
            summary.stored += UInt64(stored)
            summary.kept += kept
            for object in objects { summary.contained += object.length }
        }
        control.advance {
            $0.done += UInt64(window.range.count)
            $0.moved += UInt64(read)
            $0.stored += UInt64(stored)
        }
    }

    private func work(_ window: WriteSchedule.Window, _ buffer: WindowBuffer, _ putter: ObjectPutter, _ hash: SHA256) throws {
        var blocks = WindowBlocks(window.range, blockSize: options.blockSize)
        try blocks.plan(
            source, parent: window.parent, hasParentsLast: window.hasParentsLast, sampledShare: options.sampledShare,
            order: window.order, damaged: options.damagedParts)
        var read = 0
        for part in blocks.partsToRead(pieceSize: options.pieceSize) {
            guard !control.isCancelled else { throw ChunkedFailure.cancelled }
            let bytes = buffer[blocks.bytes(part)]
            control.admit(bytes.count)
            try source.read(at: window.range.lowerBound + UInt64(blocks.bytes(part).lowerBound), into: bytes)
            read += bytes.count
            for block in part {
                let content = UnsafeRawBufferPointer(buffer[blocks.bytes(block..<block + 1)])
                let isEmpty = isZero(content)
                blocks.note(block, isEmpty ? zeroes.block(content.count) : hash.of(content), isZero: isEmpty)
            }
        }
        for block in blocks.unreadZeroes { blocks.note(block, zeroes.block(blocks.bytes(block..<block + 1).count), isZero: true) }
        if let missed = blocks.missedChange(against: window.parent ?? []) {
            // Not later: another thread's failure may be what this attempt ends with.
            try backup.missedChangeNote(in: store).put(missed)
            throw missed
        }
        var objects: [ChunkedObject] = []
        var (stored, kept) = (0, 0)
        for run in blocks.changedRuns(since: window.parent) {
            // A full backup has one object a window; an increment's have the number of their first block, so that a second attempt gives
            // them the same names.
            let offset = window.range.lowerBound + UInt64(blocks.bytes(run).lowerBound)
            let number = window.parent == nil ? window.order + 1 : Int(offset / UInt64(options.blockSize)) + 1
            let result: ObjectPutter.Result
            if run.allSatisfy({ blocks.isZero($0) }) {
                result = try putter.putZeroes(number, offset..<offset + UInt64(blocks.bytes(run).count))
            } else {
                // What was not read is whatever an earlier window left there.
                for block in run where blocks.isUnreadZero(block) {
                    let hole = buffer[blocks.bytes(block..<block + 1)]
                    memset(hole.baseAddress!, 0, hole.count)
                }
                result = try putter.put(number, offset: offset, blocks.bytes(run), of: buffer)
            }
            objects.append(result.object)
            stored += result.stored
            kept += result.isKept ? 1 : 0
        }
        try finish(window, .blocks(blocks.digests), objects, read: read, stored: stored, kept: kept)
    }
}
