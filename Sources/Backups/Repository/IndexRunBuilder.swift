import Glibc

/// Sorts any number of records with bounded memory.
final class IndexRunBuilder {
    /// How many records are sorted in memory; 12 MiB.
    static let batchSize = 1 << 18

    private let directory: String
    private let batchSize: Int
    private var batch: [IndexRecord] = []
    /// Sorted batches, one after the other, in a file without a name.
    private var spill: Int32 = -1
    private var spilled: [Range<Int>] = []

    /// - Parameter directory: where temporary files without a name are made when there are many records.
    init(temporaryFilesIn directory: String, batchSize: Int = IndexRunBuilder.batchSize) {
        self.directory = directory
        self.batchSize = batchSize
    }

    deinit { if spill >= 0 { close(spill) } }

    func add(_ record: IndexRecord) throws {
        if batch.isEmpty { batch.reserveCapacity(min(batchSize, 4096)) }
        batch.append(record)
        if batch.count == batchSize { try flush() }
    }

    private func flush() throws {
        batch.sort(by: IndexRecord.precedes)
        if spill < 0 { spill = try temporaryFile(directory) }
        let start = spilled.last?.upperBound ?? 0
        try batch.withUnsafeBytes { try writeAll(spill, $0) }
        spilled.append(start..<start + batch.count)
        batch.removeAll(keepingCapacity: true)
    }

    func finish() throws -> IndexRun {
        guard spill >= 0 else {
            batch.sort(by: IndexRecord.precedes)
            var unique: [IndexRecord] = []
            unique.reserveCapacity(batch.count)
            for record in batch where unique.last.map({ !$0.isSameBlob(record) }) ?? true { unique.append(record) }
            batch = []
            return IndexRun(sorted: unique)
        }
        if !batch.isEmpty { try flush() }
        batch = []
        return try merge()
    }

    private func merge() throws -> IndexRun {
        var inputs = spilled.map { SpilledBatch(file: spill, rest: $0) }
        var heads: [IndexRecord?] = []
        for index in inputs.indices { heads.append(try inputs[index].next()) }
        var fan = IndexRun.Fan(spilled.last?.upperBound ?? 0)
        let file = try temporaryFile(directory)
        var output: [IndexRecord] = []
        var count = 0
        var last: IndexRecord?
        do {
            while let least = leastIndex(heads), let record = heads[least] {
                heads[least] = try inputs[least].next()
                if let last, last.isSameBlob(record) { continue }
                last = record
                fan.add(record.id)
                count += 1
                output.append(record)
                if output.count == 4096 {
                    try output.withUnsafeBytes { try writeAll(file, $0) }
                    output.removeAll(keepingCapacity: true)
                }
            }
            try output.withUnsafeBytes { try writeAll(file, $0) }
        } catch {
            close(file)
            throw error
        }
        return IndexRun(file: file, count: count, fan: fan)
    }

    private func leastIndex(_ heads: [IndexRecord?]) -> Int? {
        var least: Int?
        for (index, head) in heads.enumerated() {
            guard let head else { continue }
            if let current = least, let best = heads[current], !IndexRecord.precedes(head, best) { continue }
            least = index
        }
        return least
    }
}

/// A sorted batch that is read back from the file of batches.
private struct SpilledBatch {
    let file: Int32
    var rest: Range<Int>
    private var buffer: [IndexRecord] = []
    private var position = 0

    init(file: Int32, rest: Range<Int>) {
        self.file = file
        self.rest = rest
    }

    mutating func next() throws -> IndexRecord? {
        if position == buffer.count {
            let count = min(1024, rest.count)
            guard count > 0 else { return nil }
            let start = off_t(rest.lowerBound * IndexRecord.size)
            buffer = try [IndexRecord](unsafeUninitializedCapacity: count) { records, filled in
                guard pread(file, records.baseAddress, count * IndexRecord.size, start) == count * IndexRecord.size else {
                    throw RepositoryError(.invalid, "the index's temporary file cannot be read")
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

private func temporaryFile(_ directory: String) throws -> Int32 {
    // O_TMPFILE is a macro that Swift does not see.
    let file = open(directory, 0o20000000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw StoreFailure.last("cannot make a temporary file in \(directory)") }
    return file
}

private func writeAll(_ file: Int32, _ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
        let count = write(file, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 {
            if errno == EINTR { continue }
            throw StoreFailure.last("cannot write the index's temporary file")
        }
        done += count
    }
}
