import CDriver
import Glibc
import Primitives

/// Copies the contents of one block handle to another. A second thread reads ahead while the caller's thread writes; drivers that offer
/// `submit` get several requests at a time. Holes and zeroes are not copied to a target that is zero already.
public struct BlockCopy: Sendable {
    /// Whether the target reads as zeroes wherever this copy has not written.
    public var targetIsZero: Bool
    /// Bytes at the beginning that an earlier attempt has copied and flushed; they are skipped.
    public var start: UInt64 = 0
    /// Bytes per second at most; 0 for no limit.
    public var bytesPerSecond = 0
    /// Called with position and size in bytes, about ten times a second.
    public var onProgress: @Sendable (UInt64, UInt64) -> Void = { _, _ in }
    /// Called with a position before which everything is on stable storage.
    public var onCheckpoint: (@Sendable (UInt64) -> Void)?
    public var isCancelled: @Sendable () -> Bool = { false }

    public init(targetIsZero: Bool) { self.targetIsZero = targetIsZero }

    /// Bytes before the first checkpoint, and at most between two. A checkpoint pauses the copy until everything is on stable storage, so
    /// the intervals grow.
    private static let firstCheckpoint: UInt64 = 256 << 20
    private static let longestStretch: UInt64 = 4 << 30
    /// Bytes whose extents are requested at a time, since the map of a whole volume may be long.
    private static let window: UInt64 = 4 << 30
    /// Requests at a time with drivers that offer `submit`, and buffers otherwise: few of them, so that they stay in the CPU's caches.
    private static let slots = 16
    private static let slotsInTurn = 4

    private enum Piece: Sendable {
        /// If it is still being read, `arrived` of its slot is posted at the end.
        case data(slot: Int, offset: UInt64, count: Int, isArriving: Bool)
        case zero(offset: UInt64, length: UInt64)
    }

    /// State shared by the two threads; the buffers pass between them through queues.
    private final class Pipe: @unchecked Sendable {
        let input: Driver.Handle
        let buffers: [UnsafeMutableRawBufferPointer]
        let free = BlockingQueue<Int>()
        let ready = BlockingQueue<Piece>()
        let arrived: [Primitives.Semaphore]
        let ended = Semaphore()
        let failure = Guarded<(any Error)?>(nil)
        /// Whether no driver has accepted a request yet.
        let isNarrow = Guarded(true)
        let reads = UnderWay()
        let writes = UnderWay()

        init(_ input: Driver.Handle, pieceSize: Int) {
            self.input = input
            buffers = (0..<slots).map { _ in .allocate(byteCount: pieceSize, alignment: 4096) }
            arrived = (0..<slots).map { _ in Semaphore() }
            for slot in 0..<slotsInTurn { free.append(slot) }
        }

        deinit { for buffer in buffers { buffer.deallocate() } }

        func piece(_ slot: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
            UnsafeMutableRawBufferPointer(rebasing: buffers[slot][..<count])
        }

        /// Submits a request to the driver; false if the driver does not accept it.
        func submit(
            _ handle: Driver.Handle, _ operation: Driver.Handle.Operation, slot: Int, count: Int, at offset: UInt64,
            _ done: @escaping @Sendable () -> Void
        ) -> Bool {
            let underWay = operation == .read ? reads : writes
            underWay.begin()
            let isTaken = handle.submit(operation, piece(slot, count), at: offset) { [self] problem in
                if let problem { failure.withLock { if $0 == nil { $0 = problem } } }
                done()
                underWay.end()
            }
            guard isTaken else {
                underWay.end()
                return false
            }
            let wasNarrow = isNarrow.withLock { narrow in
                defer { narrow = false }
                return narrow
            }
            if wasNarrow { for slot in slotsInTurn..<slots { free.append(slot) } }
            return true
        }

        /// Waits until all submitted requests are written; throws the first failure.
        func settle() throws {
            writes.drain()
            if let failure = failure.withLock({ $0 }) { throw failure }
        }
    }

    /// Requests that a driver has not completed yet.
    private final class UnderWay: Sendable {
        private let count = Guarded(0)
        private let ended = Semaphore()
        func begin() { count.withLock { $0 += 1 } }
        func end() {
            count.withLock { $0 -= 1 }
            ended.post()
        }
        func drain() { while count.withLock({ $0 > 0 }) { ended.wait() } }
    }

    /// Copies, and flushes the target at the end.
    ///
    /// - Throws: the first `DriverFailure` of either side, or `cancelled`.
    public func run(from input: Driver.Handle, to output: Driver.Handle) throws {
        let size = try input.size
        let room = try output.size
        guard room >= size else { throw DriverFailure(.invalid, "the target has \(room) bytes, the source \(size)") }
        let alignment = max(input.alignment, output.alignment)
        // The larger of the preferred sizes, within the limits of both.
        let most = UInt64(min(input.maximumSize, output.maximumSize))
        let pieceSize = max(1, min(UInt64(max(input.preferredSize, output.preferredSize)), most) / alignment) * alignment
        let pipe = Pipe(input, pieceSize: Int(pieceSize))
        startThread("copy-read") { [self] in
            do { try read(pipe, size: size, alignment: alignment) } catch { pipe.failure.withLock { $0 = error } }
            pipe.ready.close()
            pipe.ended.post()
        }
        defer {
            // The reading thread uses the caller's handle, so it must have ended.
            pipe.free.close()
            pipe.ended.wait()
            pipe.reads.drain()
            pipe.writes.drain()
        }
        try write(pipe, to: output, size: size)
        try pipe.settle()
        if !targetIsZero, room > size { try output.zero(offset: size, length: room - size) }
        try output.flush()
        onProgress(size, size)
    }

    private func read(_ pipe: Pipe, size: UInt64, alignment: UInt64) throws {
        var position = start / alignment * alignment
        while position < size {
            let end = min(size, (position / Self.window + 1) * Self.window)
            for extent in try pipe.input.extents(offset: position, length: end - position) {
                let isZero = extent.flags & UInt32(CLINKER_EXTENT_ZERO) != 0
                if isZero, targetIsZero { continue }
                // Rounded outwards to whole blocks, without copying a block twice.
                let first = max(position, extent.offset / alignment * alignment)
                let last = min(size, (extent.offset + extent.length + alignment - 1) / alignment * alignment)
                guard first < last else { continue }
                if isZero {
                    guard pipe.ready.append(.zero(offset: first, length: last - first)) else { return }
                } else {
                    guard try read(pipe, from: first, to: last) else { return }
                }
                position = last
            }
            position = max(position, end)
        }
    }

    /// False if the writer has stopped.
    private func read(_ pipe: Pipe, from first: UInt64, to last: UInt64) throws -> Bool {
        var position = first
        while position < last {
            guard let slot = pipe.free.next() else { return false }
            let count = Int(min(UInt64(pipe.buffers[slot].count), last - position))
            if pipe.submit(pipe.input, .read, slot: slot, count: count, at: position, { pipe.arrived[slot].post() }) {
                guard pipe.ready.append(.data(slot: slot, offset: position, count: count, isArriving: true)) else { return false }
            } else {
                let piece = pipe.piece(slot, count)
                try pipe.input.read(into: piece, at: position)
                if targetIsZero, Self.isZero(piece) {
                    guard pipe.free.append(slot) else { return false }
                } else {
                    guard pipe.ready.append(.data(slot: slot, offset: position, count: count, isArriving: false)) else { return false }
                }
            }
            position += UInt64(count)
        }
        return true
    }

    private func write(_ pipe: Pipe, to output: Driver.Handle, size: UInt64) throws {
        let startedAt = Timestamp.monotonic()
        var copied: UInt64 = 0
        var sinceCheckpoint: UInt64 = 0
        var stretch = Self.firstCheckpoint
        var toldAt = startedAt
        while let piece = pipe.ready.next() {
            if isCancelled() { throw DriverFailure(.cancelled, "cancelled") }
            let position: UInt64
            switch piece {
            case .zero(let offset, let length):
                try output.zero(offset: offset, length: length)
                position = offset + length
            case .data(let slot, let offset, let count, let isArriving):
                position = offset + UInt64(count)
                let bytes = pipe.piece(slot, count)
                if isArriving { pipe.arrived[slot].wait() }
                if let failure = pipe.failure.withLock({ $0 }) { throw failure }
                if isArriving, targetIsZero, Self.isZero(bytes) {
                    pipe.free.append(slot)
                    continue
                }
                if !pipe.submit(output, .write, slot: slot, count: count, at: offset, { pipe.free.append(slot) }) {
                    try output.write(UnsafeRawBufferPointer(bytes), at: offset)
                    pipe.free.append(slot)
                }
                copied += UInt64(count)
                sinceCheckpoint += UInt64(count)
                if bytesPerSecond > 0 { pause(min(60, Double(copied) / Double(bytesPerSecond) - (Timestamp.monotonic() - startedAt))) }
            }
            if let onCheckpoint, sinceCheckpoint >= stretch {
                try pipe.settle()
                try output.flush()
                onCheckpoint(position)
                sinceCheckpoint = 0
                stretch = min(3 * copied, Self.longestStretch)
            }
            let now = Timestamp.monotonic()
            if now - toldAt >= 0.1 {
                onProgress(position, size)
                toldAt = now
            }
        }
    }

    private static func isZero(_ bytes: UnsafeMutableRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress, bytes.count > 1 else { return bytes.allSatisfy { $0 == 0 } }
        return bytes[0] == 0 && memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
