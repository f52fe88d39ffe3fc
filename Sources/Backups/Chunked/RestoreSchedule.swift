import Primitives

/// Hands out the objects of a plan in the order of the volume, each with the hashes of its blocks, which are read from the newest
/// backup's file of hashes as they are needed.
final class RestoreSchedule: Sendable {
    struct Work {
        var unit: RestorePlan.Unit
        var parts: [Range<UInt64>]
        /// Of the blocks from the first part's to the last part's; nil where there is no file of hashes.
        var hashes: [Digest]?
        /// The first of these blocks.
        var firstBlock: UInt64 = 0
    }

    private struct State {
        var next = 0
        var isStopped = false
        var reader: HashFileReader?
        /// Hashes that were read and that a later object may need, and the block of the first of them.
        var hashes: [Digest] = []
        var firstBlock: UInt64 = 0
        var summary = ChunkedSummary()
        var isTargetChanged = false
        var damages: [(reason: String, unit: RestorePlan.Unit)] = []
    }

    private let plan: RestorePlan
    private let state: Guarded<State>
    private let hashFile: String
    let blockSize: UInt64
    private static let longestList = 1000

    init(_ plan: RestorePlan, hashes: HashFileReader?, hashFile: String) {
        self.plan = plan
        self.hashFile = hashFile
        blockSize = hashes?.blockSize ?? 32768
        state = Guarded(State(reader: hashes))
    }

    func next() throws -> Work? {
        try state.withLock { state in
            guard !state.isStopped, state.next < plan.units.count else { return nil }
            let unit = plan.units[state.next]
            state.next += 1
            var work = Work(unit: unit, parts: Array(plan.parts[unit.parts]))
            guard let reader = state.reader else { return work }
            guard let first = work.parts.first, let last = work.parts.last else {
                work.hashes = []
                return work
            }
            // Objects come in the order of their offsets: what is before this one is not needed again.
            let needed = unit.object.offset / blockSize
            if needed > state.firstBlock, state.hashes.count >= 1 << 14 || needed >= state.firstBlock + UInt64(state.hashes.count) {
                let gone = min(UInt64(state.hashes.count), needed - state.firstBlock)
                state.hashes.removeFirst(Int(gone))
                state.firstBlock += gone
            }
            let end = (last.upperBound + blockSize - 1) / blockSize
            while state.firstBlock + UInt64(state.hashes.count) < end {
                guard let digest = try reader.next() else {
                    throw ChunkedFailure.damaged("\(hashFile): sha256s has \(reader.count) members, and the volume has more blocks")
                }
                state.hashes.append(digest)
            }
            work.firstBlock = first.lowerBound / blockSize
            work.hashes = Array(state.hashes[Int(work.firstBlock - state.firstBlock)..<Int(end - state.firstBlock)])
            return work
        }
    }

    func stop() { state.withLock { $0.isStopped = true } }
    func count(_ change: (inout ChunkedSummary) -> Void) { state.withLock { change(&$0.summary) } }
    func noteTargetChange() { state.withLock { $0.isTargetChanged = true } }

    func note(_ reason: String, _ unit: RestorePlan.Unit) {
        state.withLock { state in
            if state.damages.count < Self.longestList { state.damages.append((reason, unit)) }
        }
    }

    /// Refuses a file that has hashes of more blocks than the volume has.
    func finish() throws {
        try state.withLock { state in
            guard !state.isStopped, let reader = state.reader else { return }
            let blocks = (plan.size + blockSize - 1) / blockSize
            while state.firstBlock + UInt64(state.hashes.count) < blocks, try reader.next() != nil { state.firstBlock += 1 }
            if try reader.next() != nil {
                throw ChunkedFailure.damaged("\(hashFile): sha256s has more members than the volume has blocks, \(blocks)")
            }
        }
    }

    var summary: ChunkedSummary { state.withLock { $0.summary } }
    var isTargetChanged: Bool { state.withLock { $0.isTargetChanged } }
    var damages: [(reason: String, unit: RestorePlan.Unit)] { state.withLock { $0.damages } }
}
