import Glibc

/// Sorts any number of records with bounded memory.
final class IndexRunBuilder {
    /// How many records are sorted in memory; 12 MiB.
    static let batchSize = 1 << 18

    private let directory: String
    private let batchSize: Int
    private var batch: [IndexRecord] = []
    /// Sorted batches, one after the other, in a file without a name.
    private var spill: OwnedFile?
    private var spilled: [Range<Int>] = []
    /// How many records were added.
    private(set) var count = 0

    /// - Parameter directory: where temporary files without a name are made when there are many records.
    init(temporaryFilesIn directory: String, batchSize: Int = IndexRunBuilder.batchSize) {
        self.directory = directory
        self.batchSize = batchSize
    }

    func add(_ record: IndexRecord) throws {
        if batch.isEmpty { batch.reserveCapacity(min(batchSize, 4096)) }
        batch.append(record)
        count += 1
        if batch.count == batchSize { try flush() }
    }

    private func flush() throws {
        batch.sort(by: IndexRecord.precedes)
        let file = try spill ?? OwnedFile.temporary(in: directory)
        spill = file
        let start = spilled.last?.upperBound ?? 0
        try batch.withUnsafeBytes { try file.append($0) }
        spilled.append(start..<start + batch.count)
        batch.removeAll(keepingCapacity: true)
    }

    /// A run of what was added: in memory if it fits into one batch.
    func finish() throws -> IndexRun {
        guard spill != nil else {
            var unique: [IndexRecord] = []
            unique.reserveCapacity(batch.count)
            try drain { unique.append($0) }
            return IndexRun(sorted: unique)
        }
        let writer = IndexPages.Writer(try OwnedFile.temporary(in: directory), at: 0)
        var fan = IndexRun.Fan(count)
        try drain { record in
            fan.add(record.id)
            try writer.append(record)
        }
        return IndexRun(try writer.finish(), fan: fan)
    }

    /// Calls the body with every blob once, in order; nothing is left afterwards.
    func drain(_ each: (IndexRecord) throws -> Void) throws {
        if let spill {
            if !batch.isEmpty { try flush() }
            batch = []
            var inputs = spilled.map { SpilledBatch(file: spill, rest: $0) }
            try merge(inputs.count, next: { try inputs[$0].next() }, each)
            return
        }
        batch.sort(by: IndexRecord.precedes)
        var last: IndexRecord?
        for record in batch where last.map({ !$0.isSameBlob(record) }) ?? true {
            last = record
            try each(record)
        }
        batch = []
    }
}

/// Merges sorted sequences: of a blob that comes several times the first record counts.
///
/// - Parameter next: the next record of a sequence.
func merge(_ count: Int, next: (Int) throws -> IndexRecord?, _ each: (IndexRecord) throws -> Void) throws {
    // A heap of the sequences' heads, the least at the top.
    var heap: [(record: IndexRecord, input: Int)] = []
    func precedes(_ a: Int, _ b: Int) -> Bool { IndexRecord.precedes(heap[a].record, heap[b].record) }
    func siftDown(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) { least = child }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
    for input in 0..<count { if let record = try next(input) { heap.append((record, input)) } }
    for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
    var last: IndexRecord?
    while let (record, input) = heap.first {
        if let following = try next(input) {
            heap[0] = (following, input)
        } else {
            heap[0] = heap[heap.count - 1]
            heap.removeLast()
        }
        siftDown(0)
        if let last, last.isSameBlob(record) { continue }
        last = record
        try each(record)
    }
}

/// A sorted batch that is read back from the file of batches.
private struct SpilledBatch {
    let file: OwnedFile
    var rest: Range<Int>
    private var buffer: [IndexRecord] = []
    private var position = 0

    init(file: OwnedFile, rest: Range<Int>) {
        self.file = file
        self.rest = rest
    }

    mutating func next() throws -> IndexRecord? {
        if position == buffer.count {
            let count = min(1024, rest.count)
            guard count > 0 else { return nil }
            let start = UInt64(rest.lowerBound * IndexRecord.size)
            buffer = try [IndexRecord](unsafeUninitializedCapacity: count) { records, filled in
                guard
                    file.read(
                        at: start,
                        into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(records)[..<(count * IndexRecord.size)])
                    )
                else {
                    throw StoreFailure(.temporary, "the index's temporary file cannot be read")
                }
                filled = count
            }
            rest = rest.lowerBound + count..<rest.upperBound
            position = 0
        }
        position += 1
        return buffer[position - 1]
    }
}
