import Glibc

/// A file of the index's cache: what certain index objects say, which are named in it. What it holds follows from those names alone,
/// since an object's name is its hash.
///
///     pages of records in use, pages of marked records
///     the names of the index objects; the packs in use; the marked packs
///     where the parts of both runs begin
///     a footer of 128 bytes: what it is, the counts, SHA-256 of everything after the pages
struct IndexFile {
    let names: [Digest]
    let part: IndexPart
    var count: Int { part.live.count + part.marked.count }

    private static let magic: UInt64 = 0x636c_6b69_6e64_7831
    private static let version: UInt64 = 1
    private static let footerSize = 128
    /// More names, packs or records than this are not believed.
    private static let countLimit: UInt64 = 1 << 31

    /// Nil if the file is not whole.
    init?(_ path: String) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        let file = OwnedFile(descriptor)
        let size = file.size
        guard size >= UInt64(Self.footerSize), size % 4 == 0 else { return nil }
        var footer = [UInt64](repeating: 0, count: Self.footerSize / 8)
        guard footer.withUnsafeMutableBytes({ file.read(at: size - UInt64(Self.footerSize), into: $0) }) else { return nil }
        guard footer[0] == Self.magic, footer[1] == Self.version, footer[2...8].allSatisfy({ $0 < Self.countLimit }),
            footer[13...].allSatisfy({ $0 == 0 })
        else { return nil }
        let (liveBits, markedBits) = (footer[2], footer[3])
        guard (4...20).contains(liveBits), (4...20).contains(markedBits) else { return nil }
        let counts = footer[4...8].map { Int($0) }
        let (liveCount, markedCount, nameCount, packCount, markedPackCount) = (counts[0], counts[1], counts[2], counts[3], counts[4])
        let pageBytes = IndexPages.byteCount(liveCount) + IndexPages.byteCount(markedCount)
        let fans = [1 << Int(liveBits) + 1, 1 << Int(markedBits) + 1]
        let tailBytes = UInt64((nameCount + packCount + markedPackCount) * Digest.size + (fans[0] + fans[1]) * 4)
        guard size == pageBytes + tailBytes + UInt64(Self.footerSize) else { return nil }
        guard Self.hash(file, pageBytes..<pageBytes + tailBytes, footer) == footer[9...12].map({ $0 }) else { return nil }

        let packStart = pageBytes + UInt64(nameCount * Digest.size)
        let fanStart = packStart + UInt64((packCount + markedPackCount) * Digest.size)
        var names: [Digest] = []
        var starts = fans.map { [UInt32](repeating: 0, count: $0) }
        do { try PackTable.file(file, start: pageBytes, count: nameCount).forEach { names.append($0) } } catch { return nil }
        guard starts[0].withUnsafeMutableBytes({ file.read(at: fanStart, into: $0) }),
            starts[1].withUnsafeMutableBytes({ file.read(at: fanStart + UInt64(fans[0] * 4), into: $0) }),
            let live = IndexRun(IndexPages(file: file, start: 0, count: liveCount), starts: starts[0], fanBits: liveBits),
            let marked = IndexRun(
                IndexPages(file: file, start: IndexPages.byteCount(liveCount), count: markedCount), starts: starts[1], fanBits: markedBits)
        else { return nil }
        self.names = names
        part = IndexPart(
            live: live, marked: marked, livePacks: .file(file, start: packStart, count: packCount),
            markedPacks: .file(file, start: packStart + UInt64(packCount * Digest.size), count: markedPackCount), path: path)
    }

    private static func hash(_ file: OwnedFile, _ range: Range<UInt64>, _ footer: [UInt64]) -> [UInt64]? {
        let hash = SHA256()
        let isRead = withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 16) { room in
            for start in stride(from: range.lowerBound, to: range.upperBound, by: room.count) {
                let part = UnsafeMutableRawBufferPointer(rebasing: room[..<Int(min(UInt64(room.count), range.upperBound - start))])
                guard file.read(at: start, into: part) else { return false }
                hash.update(UnsafeRawBufferPointer(part))
            }
            return true
        }
        guard isRead else { return nil }
        footer[..<9].withUnsafeBytes { hash.update($0) }
        let digest = hash.finish()
        return [digest.words.0, digest.words.1, digest.words.2, digest.words.3]
    }

    /// Writes a file without a name.
    ///
    /// - Parameters:
    ///   - live, marked: call their argument with every record once, in order.
    ///   - expected: how many records there may be of each.
    static func write(
        in directory: String, names: [Digest], expected: (live: Int, marked: Int), livePacks: [PackTable], markedPacks: [PackTable],
        live: ((IndexRecord) throws -> Void) throws -> Void, marked: ((IndexRecord) throws -> Void) throws -> Void
    ) throws -> OwnedFile {
        let file = try OwnedFile.temporary(in: directory)
        func pages(_ expected: Int, _ records: ((IndexRecord) throws -> Void) throws -> Void) throws -> IndexRun {
            let writer = IndexPages.Writer(file, at: 0)
            var fan = IndexRun.Fan(expected)
            try records { record in
                fan.add(record.id)
                try writer.append(record)
            }
            return IndexRun(try writer.finish(), fan: fan)
        }
        let runs = (live: try pages(expected.live, live), marked: try pages(expected.marked, marked))
        let tail = UInt64(lseek(file.descriptor, 0, SEEK_CUR))
        var digests: [Digest] = []
        func append(_ digest: Digest?) throws {
            if let digest { digests.append(digest) }
            guard digest == nil || digests.count == 2048 else { return }
            let bytes = digests.flatMap(\.bytes)
            try bytes.withUnsafeBytes { try file.append($0) }
            digests = []
        }
        for name in names { try append(name) }
        for table in livePacks + markedPacks { try table.forEach { try append($0) } }
        try append(nil)
        for run in [runs.live, runs.marked] { try run.starts.withUnsafeBytes { try file.append($0) } }
        func total(_ tables: [PackTable]) -> UInt64 { tables.reduce(0) { $0 + UInt64($1.count) } }
        var footer: [UInt64] = [
            magic, version, runs.live.fanBits, runs.marked.fanBits, UInt64(runs.live.count), UInt64(runs.marked.count),
            UInt64(names.count), total(livePacks), total(markedPacks),
        ]
        guard let digest = hash(file, tail..<UInt64(lseek(file.descriptor, 0, SEEK_CUR)), footer) else {
            throw StoreFailure(.temporary, "the index's temporary file cannot be read")
        }
        footer += digest
        footer += [UInt64](repeating: 0, count: footerSize / 8 - footer.count)
        try footer.withUnsafeBytes { try file.append($0) }
        return file
    }
}
