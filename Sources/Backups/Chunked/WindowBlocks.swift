/// The blocks of one window: which are read, what their hashes are, and which have changed.
struct WindowBlocks {
    private enum Plan: UInt8 {
        /// The parent's hash is taken over.
        case inherited
        /// Known to be zeroes.
        case zeroes
        case read
        /// Said to be unchanged, and read all the same.
        case sampled
    }

    private let range: Range<UInt64>
    private let blockSize: Int
    private var plans: [Plan]
    private var zero: [Bool]
    /// Whether what the parent has of the block cannot be relied on: it is stored anew.
    private var distrusted: [Bool]
    private(set) var digests: [Digest]

    init(_ range: Range<UInt64>, blockSize: Int) {
        self.range = range
        self.blockSize = blockSize
        let count = (range.count + blockSize - 1) / blockSize
        plans = Array(repeating: .read, count: count)
        zero = Array(repeating: false, count: count)
        distrusted = zero
        digests = Array(repeating: .zero, count: count)
    }

    /// Where blocks lie in the window; the volume's last one may be shorter.
    func bytes(_ blocks: Range<Int>) -> Range<Int> { blocks.lowerBound * blockSize..<min(range.count, blocks.upperBound * blockSize) }

    /// The blocks that ranges of the volume touch.
    private func touched(by parts: [Range<UInt64>], _ body: (Int) -> Void) {
        for part in parts {
            let part = part.clamped(to: range)
            guard !part.isEmpty else { continue }
            let first = Int(part.lowerBound - range.lowerBound) / blockSize
            let last = Int(part.upperBound - 1 - range.lowerBound) / blockSize
            for block in first...last { body(block) }
        }
    }

    /// Decides what is read.
    ///
    /// - Parameters:
    ///   - parent: the parent's hashes of the first blocks; nil for a full backup.
    ///   - hasParentsLast: the last of these is the parent's last one.
    ///   - order: of the window: where the share makes less than one block a window, some have none.
    ///   - damaged: parts of the volume that cannot be read from the parent.
    mutating func plan(
        _ source: any BlockSource, parent: [Digest]?, hasParentsLast: Bool, sampledShare: Double, order: Int,
        damaged: [Range<UInt64>] = []
    ) throws {
        var wanted = Array(repeating: true, count: plans.count)
        var distrusted = distrusted
        touched(by: damaged) { distrusted[$0] = true }
        self.distrusted = distrusted
        if let parent, let changes = try source.changes(in: range) {
            for block in 0..<min(parent.count, plans.count) { wanted[block] = false }
            touched(by: damaged) { wanted[$0] = true }
            // The parent's last block may have been a shorter one.
            if hasParentsLast, let last = parent.indices.last { wanted[last] = true }
            touched(by: changes) { wanted[$0] = true }
            var unchanged: [Int] = []
            for block in plans.indices where !wanted[block] {
                digests[block] = parent[block]
                plans[block] = .inherited
                unchanged.append(block)
            }
            for place in 0..<min(unchanged.count, sampleCount(sampledShare, order)) {
                unchanged.swapAt(place, Int.random(in: place..<unchanged.count))
                plans[unchanged[place]] = .sampled
            }
        }
        guard wanted.contains(true) else { return }
        var filled = Array(repeating: false, count: plans.count)
        touched(by: try source.data(in: range)) { filled[$0] = true }
        for block in plans.indices where wanted[block] && !filled[block] { plans[block] = .zeroes }
    }

    /// Blocks to be sampled in the window, so that those of all windows until here make the share; in the first window one at least.
    private func sampleCount(_ share: Double, _ order: Int) -> Int {
        guard share > 0 else { return 0 }
        let perWindow = Double(plans.count) * min(1, share)
        return max(order == 0 ? 1 : 0, Int(Double(order + 1) * perWindow) - Int(Double(order) * perWindow))
    }

    /// Runs of blocks that are read, none longer than a piece.
    func partsToRead(pieceSize: Int) -> [Range<Int>] {
        let longest = max(1, pieceSize / blockSize)
        var parts: [Range<Int>] = []
        for block in plans.indices where plans[block] == .read || plans[block] == .sampled {
            if let last = parts.last, last.upperBound == block, last.count < longest {
                parts[parts.count - 1] = last.lowerBound..<block + 1
            } else {
                parts.append(block..<block + 1)
            }
        }
        return parts
    }

    var unreadZeroes: [Int] { plans.indices.filter { plans[$0] == .zeroes } }
    func isUnreadZero(_ block: Int) -> Bool { plans[block] == .zeroes }
    func isZero(_ block: Int) -> Bool { zero[block] }

    mutating func note(_ block: Int, _ digest: Digest, isZero: Bool) {
        digests[block] = digest
        zero[block] = isZero
    }

    /// Finds storage that says that a block is unchanged which is not.
    func missedChange(against parent: [Digest]) -> MissedChange? {
        let block = plans.indices.first { plans[$0] == .sampled && digests[$0] != parent[$0] }
        return block.map { MissedChange(offset: range.lowerBound + UInt64($0 * blockSize)) }
    }

    /// Runs of blocks that differ from the parent's; all of them in a full backup.
    func changedRuns(since parent: [Digest]?) -> [Range<Int>] {
        guard let parent else { return [0..<plans.count] }
        var runs: [Range<Int>] = []
        for block in plans.indices where block >= parent.count || distrusted[block] || digests[block] != parent[block] {
            if let last = runs.last, last.upperBound == block {
                runs[runs.count - 1] = last.lowerBound..<block + 1
            } else {
                runs.append(block..<block + 1)
            }
        }
        return runs
    }
}
