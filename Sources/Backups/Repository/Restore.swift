import Primitives

/// What a restore has done.
public struct RestoreResult: Sendable, Equatable {
    /// Bytes of the image.
    public var size: UInt64
    /// Bytes written; the rest are zeroes.
    public var writtenBytes: UInt64
}

/// A restore that stopped, with what it had done to the target until then. Every byte that it wrote was verified before.
public struct RestoreFailure: Error, CustomStringConvertible {
    public let cause: any Error
    /// The image is complete on the target up to here.
    public let completeUpTo: UInt64
    /// Bytes written in all: some of them may lie beyond, in no order.
    public let writtenBytes: UInt64

    public var description: String {
        "the restore stopped when the first \(completeUpTo) bytes were complete and \(writtenBytes) bytes were written in all: \(cause)"
    }
}

extension Repository {
    /// Restores a backup. The hash of every chunk is checked before it is written; chunks of zeroes become holes.
    ///
    /// - Parameter target: at least as large as the image; what it has beyond is left alone.
    /// - Throws: `RestoreFailure` if something may have been written.
    public func restore(
        _ snapshot: Digest, to target: any BlockTarget, control: TransferControl = TransferControl()
    ) throws -> RestoreResult {
        let lock = try takeReadingLock(control)
        defer { lock?.release() }
        let index = try loadIndex()
        let image = try ImageMap(self, index, snapshot: snapshot)
        guard target.size >= image.shape.size else {
            throw RepositoryError(.invalid, "the target has \(target.size) bytes, fewer than the \(image.shape.size) of the image")
        }
        control.advance { $0.total = image.shape.size }
        let written = Guarded(UInt64(0))
        let workers = (0..<workerCount).map { _ in Unchecked(RestoreWorker(self, chunkSize: image.shape.chunkSize)) }
        let zeroes = ZeroChunks(chunkSize: image.shape.chunkSize)
        for segment in 0..<image.shape.segmentCount {
            let start = image.shape.segment(segment).lowerBound
            let plan: ImageRestorePlan
            do {
                plan = ImageRestorePlan(image.shape, segment, try image.chunks(of: segment), zeroes)
            } catch {
                throw RestoreFailure(cause: error, completeUpTo: start, writtenBytes: written.withLock { $0 })
            }
            do {
                let queue = WorkQueue(count: plan.parts.count, control: control)
                try queue.run(workers) { worker, number in
                    let part = plan.parts[number]
                    if let chunk = part.chunk {
                        guard let location = try index.find(chunk, .data) else {
                            throw RepositoryError.damaged("chunk \(chunk), which belongs at byte \(part.range.lowerBound), is in no index")
                        }
                        let bytes = UnsafeMutableRawBufferPointer(rebasing: worker.buffer[..<part.range.count])
                        try worker.reader.read(location, into: bytes)
                        control.admit(part.range.count)
                        try target.write(UnsafeRawBufferPointer(bytes), at: part.range.lowerBound)
                        written.withLock { $0 += UInt64(part.range.count) }
                        control.advance {
                            $0.moved += UInt64(part.range.count)
                            $0.stored += UInt64(location.blob.length)
                        }
                    } else if !target.isZero {
                        try target.zero(part.range)
                    }
                    plan.markDone(number)
                    control.advance { $0.done += UInt64(part.range.count) }
                }
                try lock?.check()
            } catch {
                throw RestoreFailure(cause: error, completeUpTo: plan.completeUpTo, writtenBytes: written.withLock { $0 })
            }
        }
        do { try target.flush() } catch {
            throw RestoreFailure(cause: error, completeUpTo: 0, writtenBytes: written.withLock { $0 })
        }
        return RestoreResult(size: image.shape.size, writtenBytes: written.withLock { $0 })
    }
}

/// What a thread needs to restore or verify chunks.
final class RestoreWorker {
    let reader: BlobReader
    let buffer: UnsafeMutableRawBufferPointer

    init(_ repository: Repository, chunkSize: Int) {
        reader = BlobReader(repository.store, repository.keys)
        buffer = .allocate(byteCount: chunkSize, alignment: 4096)
    }

    deinit { buffer.deallocate() }
}

/// The parts of a segment, in order: chunks, and runs of zeroes.
final class ImageRestorePlan: @unchecked Sendable {
    struct Part {
        var range: Range<UInt64>
        /// Nil for a run of zeroes.
        var chunk: Digest?
    }

    let parts: [Part]
    private let start: UInt64
    /// One byte for each part, written by one thread only.
    private let done: UnsafeMutableBufferPointer<UInt8>

    init(_ shape: ImageShape, _ segment: Int, _ chunks: [Digest], _ zeroes: ZeroChunks) {
        var parts: [Part] = []
        for (number, chunk) in chunks.enumerated() {
            let range = shape.chunk(number, of: segment)
            guard chunk == zeroes.id(range.count) else {
                parts.append(Part(range: range, chunk: chunk))
                continue
            }
            if let last = parts.indices.last, parts[last].chunk == nil {
                parts[last].range = parts[last].range.lowerBound..<range.upperBound
            } else {
                parts.append(Part(range: range, chunk: nil))
            }
        }
        self.parts = parts
        start = shape.segment(segment).lowerBound
        done = .allocate(capacity: parts.count)
        done.initialize(repeating: 0)
    }

    deinit { done.deallocate() }

    func markDone(_ number: Int) { done[number] = 1 }

    /// The image is done up to here.
    var completeUpTo: UInt64 {
        guard let first = done.firstIndex(of: 0) else { return parts.last?.range.upperBound ?? start }
        return parts[first].range.lowerBound
    }
}
