/// The content of a sparse vmdk file: a table of tables, which name where each grain of the disk is.
struct VMDKContent {
    private let file: any ImageFile
    /// In sectors.
    private let capacity, grain, tables: UInt64
    private let entries: UInt64
    private let hasZeroes, isCompressed, hasMarkers: Bool

    /// - Parameter head: the header that counts, which is sound.
    init(_ file: any ImageFile, _ head: [UInt8]) {
        self.file = file
        (capacity, grain, tables, entries) = (head.little(12, 8), head.little(20, 8), head.little(56, 8), head.little(44, 4))
        let flags = head.little(8, 4)
        (hasZeroes, isCompressed, hasMarkers) = (flags & 4 != 0, flags & 1 << 16 != 0, flags & 1 << 17 != 0)
    }

    /// Throws where a table, or a grain that a table names, does not lie within the file, up to the disk's end. What is read is no more than
    /// the file has: tables do not overlap.
    func requireAll() throws {
        let first = try bytes(ofSectors: tables, "table of tables")
        let span = grain * entries
        let count = (capacity - 1) / span + 1
        try file.requireInside(first, count * 4, "table of tables")
        // A table takes whole sectors.
        let cost = (entries * 4 + 511) / 512
        var budget = file.size / 512 + 1
        var index: UInt64 = 0
        var last: UInt64 = 0
        try file.forEachEntry(count, of: 4, at: first, isBig: false, "table of tables") { table in
            defer { index += 1 }
            guard table != 0 else { return }
            let (offset, start) = (table * 512, index * span)
            let used = min(entries, (capacity - start - 1) / grain + 1)
            try file.requireInside(offset, used * 4, "table \(index) of grains")
            guard cost <= budget else { throw ImageRefusal("the image's tables of grains are larger than the image: some are named twice") }
            budget -= cost
            var sector = start
            try file.forEachEntry(used, of: 4, at: offset, isBig: false, "table of grains") { entry in
                defer { sector += grain }
                guard entry != 0, !(hasZeroes && entry == 1) else { return }
                let length = isCompressed ? 1 : min(grain, capacity - sector) * 512
                try file.requireInside(entry * 512, length, "grain \(sector / grain)")
                last = max(last, entry * 512)
            }
        }
        // Of compressed grains their own words tell the length; only the last one can lack something.
        if isCompressed, hasMarkers, last > 0 {
            let length = try file.take(12, at: last, "last grain").little(8, 4)
            try file.requireInside(last, 12 + length, "last grain")
        }
    }
}
