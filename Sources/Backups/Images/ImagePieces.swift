import Primitives

/// What of a volume is copied to or from an image, in pieces that several threads take one after the other. The map of the volume is read a
/// span at a time, so that it fits into memory whatever the size.
final class ImagePieces: Sendable {
    enum Work: Sendable, Equatable {
        /// Is read and written.
        case copy
        /// Is read from both sides, and what differs is written.
        case compare
        /// Is read from both sides, which must be the same.
        case check
        /// Reads as zeroes on the side that is read.
        case zero
    }

    struct Piece: Sendable, Equatable {
        var range: Range<UInt64>
        var work: Work
    }

    private struct State {
        var position: UInt64 = 0
        var pieces: ArraySlice<Piece> = []
        var isStopped = false
    }

    private let size: UInt64
    private let plan: Plan
    private let state = Guarded(State())

    /// The pieces of a span.
    private struct Plan: Sendable { let pieces: @Sendable (Range<UInt64>) throws -> [Piece] }

    static let spanSize: UInt64 = 1 << 30
    /// The size of the images' objects.
    static let pieceSize: UInt64 = 4 << 20

    /// - Parameter plan: the pieces of a span, ascending; each may be large.
    init(size: UInt64, plan: @escaping @Sendable (Range<UInt64>) throws -> [Piece]) {
        self.size = size
        self.plan = Plan(pieces: plan)
    }

    /// The next piece; nil at the end.
    ///
    /// - Parameter passed: called with the bytes of the volume that need no work.
    func next(passed: (UInt64) -> Void) throws -> Piece? {
        try state.withLock { state in
            while !state.isStopped {
                if var piece = state.pieces.popFirst() {
                    // Whole objects of the image: one is written by one thread.
                    let end = (piece.range.lowerBound / Self.pieceSize + 1) * Self.pieceSize
                    if piece.work != .zero, end < piece.range.upperBound {
                        state.pieces = [Piece(range: end..<piece.range.upperBound, work: piece.work)] + state.pieces
                        piece.range = piece.range.lowerBound..<end
                    }
                    return piece
                }
                guard state.position < size else { return nil }
                let span = state.position..<min(size, state.position + Self.spanSize)
                state.position = span.upperBound
                state.pieces = try plan.pieces(span)[...]
                passed(state.pieces.reduce(UInt64(span.count)) { $0 - UInt64($1.range.count) })
            }
            return nil
        }
    }

    func stop() { state.withLock { $0.isStopped = true } }
}

extension [Range<UInt64>] {
    /// What two lists of ranges cover, ascending and apart from each other, as both are.
    func union(_ other: [Range<UInt64>]) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        for range in (self + other).sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
            if let last = result.last, range.lowerBound <= last.upperBound {
                result[result.count - 1] = last.lowerBound..<Swift.max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// What of them lies in a range.
    func parts(in range: Range<UInt64>) -> [Range<UInt64>] { map { $0.clamped(to: range) }.filter { !$0.isEmpty } }

    /// What of them others do not cover, which lie in a range as they do; both are ascending and apart from each other.
    func subtracting(_ others: [Range<UInt64>], in range: Range<UInt64>) -> [Range<UInt64>] {
        others.isEmpty ? self : gaps(in: range).union(others).gaps(in: range)
    }

    /// What of a range they do not cover.
    func gaps(in range: Range<UInt64>) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var position = range.lowerBound
        for part in self {
            if part.lowerBound > position { result.append(position..<Swift.min(part.lowerBound, range.upperBound)) }
            position = Swift.max(position, part.upperBound)
            guard position < range.upperBound else { return result }
        }
        if position < range.upperBound { result.append(position..<range.upperBound) }
        return result
    }
}
