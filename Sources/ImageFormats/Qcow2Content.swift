/// The content of qcow2 files whose header was found good: whether it is there. QEMU reads zeroes where a file ends too early.
struct Qcow2Content {
    private let file: any ImageFile
    private let cluster, tables, entries: UInt64
    private let clusterBits: UInt64
    /// Bytes of an entry of a table.
    private let entrySize: Int

    /// Bytes that are read at once.
    private static let most: UInt64 = 64 << 10
    /// The bits of an entry that are an offset.
    private static let offsetBits: UInt64 = 0x00FF_FFFF_FFFF_FE00

    init(_ file: any ImageFile) throws {
        self.file = file
        let head = try file.take(72, at: 0, "header")
        clusterBits = head.big(20, 4)
        cluster = 1 << clusterBits
        let isExtended = head.big(4, 4) == 3 ? try file.take(80, at: 0, "header").big(72, 8) & 16 != 0 : false
        entrySize = isExtended ? 16 : 8
        tables = head.big(40, 8)
        let span = cluster * (cluster / UInt64(entrySize))
        let size = head.big(24, 8)
        entries = min(head.big(36, 4), size / span + (size % span == 0 ? 0 : 1))
    }

    /// Throws where a table, or a cluster that a table names, begins behind the file's end. What is read is no more than the file: a table that
    /// is named often is read once.
    func requireAll() throws {
        var used: [UInt64] = []
        try forEach(entries, of: 8, at: tables) { entry in
            let offset = entry & Self.offsetBits
            if offset != 0 { used.append(offset) }
        }
        used.sort()
        var last: UInt64 = 0
        for table in used where table != last {
            last = table
            guard table % cluster == 0 else { throw ImageRefusal("a table of the image lies at \(table)") }
            try requireInside(table)
            try forEach(cluster / UInt64(entrySize), of: entrySize, at: table) { entry in
                if let offset = content(of: entry) { try requireInside(offset) }
            }
        }
    }

    /// Where what an entry stands for begins in the file; nil where it is nothing, or zeroes.
    private func content(of entry: UInt64) -> UInt64? {
        let isCompressed = entry & 1 << 62 != 0
        // Its lower bits are the offset, the others its length.
        if isCompressed { return entry & (1 << (62 - (clusterBits - 8)) - 1) }
        let offset = entry & Self.offsetBits
        return offset == 0 || entrySize == 8 && entry & 1 != 0 ? nil : offset
    }

    /// The last cluster of a file may be shorter than others.
    private func requireInside(_ offset: UInt64) throws(ImageRefusal) {
        guard offset < file.size else { throw ImageRefusal("the image's content lies behind its end: it is truncated") }
    }

    /// The first numbers of so many entries.
    private func forEach(_ count: UInt64, of size: Int, at offset: UInt64, _ body: (UInt64) throws -> Void) throws {
        var position: UInt64 = 0
        let end = count * UInt64(size)
        while position < end {
            let (from, isTooFar) = offset.addingReportingOverflow(position)
            guard !isTooFar, from < file.size else { return }
            let bytes = try file.read(Int(min(Self.most, end - position, file.size - from)), at: from)
            guard bytes.count >= size else { return }
            for start in stride(from: 0, to: bytes.count - size + 1, by: size) { try body(bytes.big(start, 8)) }
            position += UInt64(bytes.count / size * size)
        }
    }
}
