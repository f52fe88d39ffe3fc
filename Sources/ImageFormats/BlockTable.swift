/// Where a file keeps the blocks of its disk: a table with an entry for each of them.
struct BlockTable {
    /// Where the table begins in the file.
    let offset: UInt64
    /// Bytes of an entry.
    let entrySize: Int
    let isBig: Bool
    /// Bytes of a block, and of the disk.
    let block, size: UInt64
    /// Bytes that lie before a block's content.
    var lead: UInt64 = 0
    /// After so many blocks comes an entry of something else.
    var chunk = UInt64.max
    /// Where in the file the block of an entry begins; nil where the file has none.
    let place: (UInt64) -> UInt64?

    private var blocks: UInt64 { size / block + (size % block == 0 ? 0 : 1) }
    /// Entries up to that of the last block.
    var entries: UInt64 { blocks + (blocks == 0 ? 0 : (blocks - 1) / chunk) }

    /// Throws where a block that is named does not lie within the file, up to the disk's end. What is read is the table alone.
    func requireAll(in file: any ImageFile) throws {
        try file.requireInside(offset, entries * UInt64(entrySize), "table of blocks")
        var (index, untilOther): (UInt64, UInt64) = (0, chunk)
        try file.forEachEntry(entries, of: entrySize, at: offset, isBig: isBig, "table of blocks") { entry in
            guard untilOther > 0 else {
                untilOther = chunk
                return
            }
            untilOther -= 1
            defer { index += 1 }
            guard let start = place(entry) else { return }
            try file.requireInside(start, lead + min(block, size - index * block), "block \(index)")
        }
    }
}

extension ImageFile {
    /// Reads so many numbers of a table, which is not held as a whole.
    func forEachEntry(
        _ count: UInt64, of size: Int, at offset: UInt64, isBig: Bool, _ what: String, _ body: (UInt64) throws -> Void
    ) throws {
        let most: UInt64 = 64 << 10
        let end = count * UInt64(size)
        for position in stride(from: 0, to: end, by: Int(most)) {
            let piece = Int(min(most, end - position))
            let bytes = try take(piece, at: offset + position, what)
            for start in stride(from: 0, to: piece, by: size) { try body(isBig ? bytes.big(start, size) : bytes.little(start, size)) }
        }
    }
}
