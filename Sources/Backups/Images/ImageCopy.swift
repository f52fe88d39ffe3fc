import Glibc
import Primitives

/// Copies the pieces of one side to the other on several threads.
struct ImageCopy: Sendable {
    struct Counts: Sendable {
        var read: UInt64 = 0
        var written: UInt64 = 0
        /// Where a piece that should be the same was not.
        var missedChange: UInt64?
        /// What could not be read, where the copy goes on.
        var faults: [(range: Range<UInt64>, reason: String)] = []
    }

    let source: any BlockSource
    /// nil: it is only read.
    let target: (any BlockTarget)?
    /// What the target has, for pieces that are compared.
    var base: (any BlockSource)?
    /// What is not written reads as zeroes.
    var targetIsZero: Bool
    /// Of what a read fails with, what says that these bytes are lost: it is noted, and the rest is read all the same. Nothing else is.
    var isFault: (@Sendable (any Error) -> Bool)?
    /// Called once, as soon as a piece that should be the same is found not to be; then the copy ends.
    var onMissedChange: (@Sendable (UInt64) throws -> Void)?
    let control: TransferControl
    private let counts = Guarded(Counts())

    /// What is looked at for zeroes and differences.
    private static let blockSize = 65_536
    private static let workers = 4
    private static let mostFaults = 1000

    init(_ source: any BlockSource, to target: (any BlockTarget)?, targetIsZero: Bool, _ control: TransferControl) {
        self.source = source
        self.target = target
        self.targetIsZero = targetIsZero
        self.control = control
    }

    var result: Counts { counts.withLock { $0 } }

    func run(_ pieces: ImagePieces) throws {
        try runCrew(Self.workers, "image", stop: { pieces.stop() }) { [self] in
            let size = Int(ImagePieces.pieceSize)
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * size, alignment: 4096)
            defer { memory.deallocate() }
            while let piece = try pieces.next(passed: { count in control.advance { $0.done += count } }) {
                guard !control.isCancelled else { throw ImageBackupFailure.cancelled }
                let count = piece.range.count
                if piece.work == .zero {
                    try zero(piece.range)
                } else {
                    try work(
                        piece, UnsafeMutableRawBufferPointer(rebasing: memory[..<count]),
                        UnsafeMutableRawBufferPointer(rebasing: memory[size..<size + count]))
                }
                control.advance { $0.done += UInt64(count) }
                if counts.withLock({ $0.missedChange }) != nil { pieces.stop() }
            }
        }
    }

    private func zero(_ range: Range<UInt64>) throws {
        // In parts, so that a cancellation is seen.
        var position = range.lowerBound
        while position < range.upperBound {
            guard !control.isCancelled else { throw ImageBackupFailure.cancelled }
            let end = min(range.upperBound, position + ImagePieces.spanSize)
            try target?.zero(position..<end)
            position = end
        }
    }

    private func work(_ piece: ImagePieces.Piece, _ bytes: UnsafeMutableRawBufferPointer, _ other: UnsafeMutableRawBufferPointer) throws {
        control.admit(bytes.count)
        do { try source.read(at: piece.range.lowerBound, into: bytes) } catch {
            guard isFault?(error) == true else { throw error }
            return counts.withLock { counts in
                if counts.faults.count < Self.mostFaults { counts.faults.append((piece.range, "\(error)")) }
            }
        }
        counts.withLock { $0.read += UInt64(bytes.count) }
        control.advance { $0.moved += UInt64(bytes.count) }
        if piece.work != .copy, let base {
            // What lies behind its end is zeroes.
            let inside = piece.range.clamped(to: 0..<max(base.size, piece.range.lowerBound)).count
            if inside < other.count { memset(other.baseAddress! + inside, 0, other.count - inside) }
            if inside > 0 { try base.read(at: piece.range.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: other[..<inside])) }
        }
        var run = 0..<0
        var isRunZero = false
        for start in stride(from: 0, to: bytes.count, by: Self.blockSize) {
            let block = start..<min(bytes.count, start + Self.blockSize)
            let content = UnsafeRawBufferPointer(rebasing: bytes[block])
            if piece.work != .copy {
                let isSame = memcmp(content.baseAddress!, other.baseAddress! + start, content.count) == 0
                if piece.work == .check {
                    if !isSame { try noteMissedChange(at: piece.range.lowerBound + UInt64(start)) }
                    continue
                }
                if isSame { continue }
            }
            let isEmpty = isZero(content)
            if isEmpty, piece.work == .copy, targetIsZero { continue }
            if block.lowerBound == run.upperBound, isEmpty == isRunZero {
                run = run.lowerBound..<block.upperBound
            } else {
                try write(run, isZero: isRunZero, of: bytes, at: piece.range.lowerBound)
                (run, isRunZero) = (block, isEmpty)
            }
        }
        try write(run, isZero: isRunZero, of: bytes, at: piece.range.lowerBound)
    }

    private func noteMissedChange(at offset: UInt64) throws {
        let isFirst = counts.withLock { counts in
            defer { counts.missedChange = counts.missedChange ?? offset }
            return counts.missedChange == nil
        }
        if isFirst { try onMissedChange?(offset) }
    }

    private func write(_ run: Range<Int>, isZero: Bool, of bytes: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        guard !run.isEmpty, let target else { return }
        let place = offset + UInt64(run.lowerBound)
        if isZero {
            try target.zero(place..<place + UInt64(run.count))
        } else {
            try target.write(UnsafeRawBufferPointer(rebasing: bytes[run]), at: place)
            counts.withLock { $0.written += UInt64(run.count) }
            control.advance { $0.stored += UInt64(run.count) }
        }
    }
}
