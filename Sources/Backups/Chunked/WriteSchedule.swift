import Primitives

/// Hands out the volume in windows, in order, and collects what became of them: hashes go to the file of hashes in the order of blocks.
final class WriteSchedule: Sendable {
    /// A part of the volume that one thread works on.
    struct Window {
        /// Counts the windows from 0.
        var order: Int
        /// Whole blocks, but at the end of the volume.
        var range: Range<UInt64>
        /// Whether the range is known to be zeroes; it may then be longer than an object of data.
        var isZero = false
        /// The parent's hashes of the blocks, as far as it has any; nil for a full backup.
        var parent: [Digest]?
        /// Whether the last of these is the parent's last one, whose block may have been a shorter one.
        var hasParentsLast = false
    }

    enum Hashes {
        case blocks([Digest])
        /// So many whole blocks of zeroes, and perhaps a shorter one at the end of the volume.
        case zeroes(UInt64, last: Digest?)
    }

    private struct State {
        var position: UInt64 = 0
        var order = 0
        var isStopped = false
        var parent: HashFileReader?
        /// Parts with data from the position on, as far as the volume was asked for them.
        var data: [Range<UInt64>] = []
        var scanned: UInt64 = 0
        /// What the volume is asked for next.
        var span = firstSpan
        var hashes: HashFileWriter
        var waiting: [Int: Hashes] = [:]
        var nextOrder = 0
        var objects: [ChunkedObject] = []
        var summary = ChunkedSummary()
    }

    private let state: Guarded<State>
    private let source: any BlockSource
    private let windowSize: UInt64
    private let blockSize: UInt64
    private let zeroBlock: Digest
    /// Windows that may be ahead of the oldest unfinished one: the hashes of those wait in memory.
    private let permits = Semaphore(256)
    /// The longest run of zeroes in one object. Cinder, which restores an object in memory, makes objects of 2 GB.
    private static let longestZeroes: UInt64 = 512 << 20
    /// How far the volume is asked for data at once: farther where there is none, for the first windows wait for the answer.
    private static let firstSpan: UInt64 = 128 << 20
    private static let longestSpan: UInt64 = 4 << 30
    /// Smaller holes are compressed with the data around them.
    private static let smallestHole: UInt64 = 4 << 20

    init(_ source: any BlockSource, _ options: ChunkedOptions, zeroBlock: Digest, parent: HashFileReader?, hashes: HashFileWriter) {
        self.source = source
        windowSize = UInt64(options.windowSize)
        blockSize = UInt64(options.blockSize)
        self.zeroBlock = zeroBlock
        state = Guarded(State(parent: parent, hashes: hashes))
    }

    /// The next window; nil if there is none, or after `stop`.
    func next() throws -> Window? {
        permits.wait()
        let window = try state.withLock { state -> Window? in
            guard !state.isStopped, state.position < source.size else { return nil }
            var window = Window(order: state.order, range: state.position..<min(source.size, state.position + windowSize))
            if let parent = state.parent {
                var digests: [Digest] = []
                digests.reserveCapacity(Int((windowSize + blockSize - 1) / blockSize))
                var start = window.range.lowerBound
                while start < window.range.upperBound, let digest = try parent.next() {
                    digests.append(digest)
                    start += blockSize
                }
                window.parent = digests
                window.hasParentsLast = parent.isAtEnd
            } else {
                (window.range, window.isZero) = try part(from: state.position, &state)
            }
            state.position = window.range.upperBound
            state.order += 1
            return window
        }
        if window == nil { permits.post() }
        return window
    }

    /// The next part of a full backup: zeroes up to where data begins, or data up to a hole that is worth an object of its own.
    private func part(from start: UInt64, _ state: inout State) throws -> (range: Range<UInt64>, isZero: Bool) {
        let farthest = min(source.size, start + Self.longestZeroes)
        let windowEnd = min(source.size, start + windowSize)
        while state.scanned < farthest {
            if state.scanned >= windowEnd, let last = state.data.last, last.upperBound > start { break }
            let span = state.scanned..<min(source.size, state.scanned + state.span)
            let found = try source.data(in: span)
            state.data += found
            state.scanned = span.upperBound
            state.span = found.isEmpty ? min(Self.longestSpan, state.span * 2) : Self.firstSpan
        }
        state.data.removeFirst(state.data.firstIndex { $0.upperBound > start } ?? state.data.count)
        guard let first = state.data.first, first.lowerBound < farthest else { return (start..<farthest, true) }
        let smallestHole = min(Self.smallestHole, windowSize)
        let begin = max(start, first.lowerBound / blockSize * blockSize)
        if begin - start >= smallestHole { return (start..<begin, true) }

        let limit = min(source.size, start + windowSize)
        var end = start
        for part in state.data {
            // The blocks between the data until now and this part.
            guard part.lowerBound < limit, end == start || part.lowerBound / blockSize * blockSize < end + smallestHole else { break }
            end = max(end, min(limit, (part.upperBound + blockSize - 1) / blockSize * blockSize))
        }
        return (start..<(limit - end >= smallestHole ? end : limit), false)
    }

    func finish(_ window: Window, _ hashes: Hashes, _ objects: [ChunkedObject], _ change: (inout ChunkedSummary) -> Void) throws {
        let flushed = try state.withLock { state -> Int in
            state.objects += objects
            change(&state.summary)
            state.waiting[window.order] = hashes
            let before = state.nextOrder
            while let hashes = state.waiting.removeValue(forKey: state.nextOrder) {
                switch hashes {
                case .blocks(let digests): for digest in digests { try state.hashes.append(digest) }
                case .zeroes(let count, let last):
                    for _ in 0..<count { try state.hashes.append(zeroBlock) }
                    if let last { try state.hashes.append(last) }
                }
                state.nextOrder += 1
            }
            return state.nextOrder - before
        }
        for _ in 0..<flushed { permits.post() }
    }

    /// Lets no more windows out.
    func stop() {
        state.withLock { $0.isStopped = true }
        // Whoever waits is woken, and wakes the next.
        permits.post()
    }

    /// Ends the file of hashes; the parent's rest is read, so that a damaged file is found.
    func result() throws -> (objects: [ChunkedObject], summary: ChunkedSummary) {
        try state.withLock { state in
            while try state.parent?.next() != nil {}
            try state.hashes.commit()
            state.summary.objects = state.objects.count
            return (state.objects, state.summary)
        }
    }

    func abandon() { state.withLock { $0.hashes.abandon() } }
}
