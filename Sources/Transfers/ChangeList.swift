import Backups
import DriverHost
import Primitives

/// What changed of a volume since the snapshot that the parent backup was made of, as the volume's driver says it. It is asked for spans in
/// turn, with a handle of its own; if it fails once, it is not asked again, and what it was not asked for counts as changed.
final class ChangeList: @unchecked Sendable {
    private struct State {
        var span: Range<UInt64> = 0..<0
        var changes: [Range<UInt64>] = []
        var failure: String?
    }

    private let handle: Driver.OpenHandle
    private let size: UInt64
    private let state = Guarded(State())
    /// Bytes that are asked for at once: what a driver lists of them fits into memory.
    private static let spanSize: UInt64 = 1 << 30
    /// Less than this between two changes holds no block that an increment could leave out.
    private static let smallestGap: UInt64 = 32_768

    /// `handle`: of what is read, opened with the snapshot as `since`.
    init(_ handle: Driver.OpenHandle) throws {
        self.handle = handle
        size = try Repetition.run { try handle.handle.size }
    }

    /// Why the driver was not asked any more; nil: it answered.
    var failure: String? { state.withLock { $0.failure } }

    /// Whether the driver tells anything, as far as its beginning shows.
    var isTold: Bool { parts(of: 0..<min(size, 1 << 20)) != nil }

    /// The changed parts of a range; nil: nobody knows.
    func parts(of range: Range<UInt64>) -> [Range<UInt64>]? {
        state.withLock { state in
            var parts: [Range<UInt64>] = []
            var position = range.lowerBound
            while position < range.upperBound {
                guard load(position, &state) else { return nil }
                let part = position..<min(range.upperBound, state.span.upperBound)
                for change in state.changes where change.overlaps(part) {
                    let change = change.clamped(to: part)
                    // What lies across the border of two spans is one.
                    if let last = parts.last, change.lowerBound <= last.upperBound {
                        parts[parts.count - 1] = last.lowerBound..<change.upperBound
                    } else {
                        parts.append(change)
                    }
                }
                position = part.upperBound
            }
            return parts
        }
    }

    /// Asks for the span of a position, if it is not the last one that was asked for. False: there is no answer.
    private func load(_ position: UInt64, _ state: inout State) -> Bool {
        guard state.failure == nil else { return false }
        guard !state.span.contains(position) else { return true }
        let start = position / Self.spanSize * Self.spanSize
        let span = start..<max(position + 1, min(size, start + Self.spanSize))
        do {
            guard let extents = try Repetition.run({ try handle.handle.changed(offset: span.lowerBound, length: UInt64(span.count)) })
            else {
                throw DriverFailure(.unsupported, "the driver does not tell what has changed")
            }
            // Drivers list changes in their order; one that does not is not trusted to be right otherwise.
            guard zip(extents, extents.dropFirst()).allSatisfy({ $0.offset <= $1.offset }) else {
                throw DriverFailure(.error, "the changes do not ascend")
            }
            state.changes = joinedRanges(of: extents, within: span, gap: Self.smallestGap)
            state.span = span
            return true
        } catch {
            state.failure = (error as? DriverFailure)?.message ?? "\(error)"
            return false
        }
    }
}
