import Glibc

/// What the index objects of a repository say, kept in a directory of this machine, so that a process does not read all of them each
/// time. It may vanish at any moment, and several processes may use it: a file is made without a name, gets its name when it is complete,
/// and never changes. What does not fit the store's list of index objects, or is not whole, is removed and made anew.
struct IndexCache: Sendable {
    let directory: String
    /// How many files there are at most.
    private static let fileLimit = 6
    private static let suffix = ".index"

    /// - Parameter directory: is made if it is missing.
    /// - Returns: nil if it cannot be used.
    init?(_ directory: String, repository: Digest) {
        self.directory = directory + "/" + repository.hex
        for path in [directory, self.directory] where mkdir(path, 0o700) != 0 && errno != EEXIST { return nil }
    }

    /// The files that say what some of these index objects say, each object in one of them only.
    func files(of names: Set<Digest>) -> [IndexFile] {
        var found: [IndexFile] = []
        for path in paths() {
            guard let file = IndexFile(path), file.names.allSatisfy({ names.contains($0) }) else {
                unlink(path)
                continue
            }
            found.append(file)
        }
        // Two processes may have made files of the same objects.
        var covered: Set<Digest> = []
        var chosen: [IndexFile] = []
        for file in found.sorted(by: { ($0.names.count, $0.part.path ?? "") > ($1.names.count, $1.part.path ?? "") }) {
            if file.names.contains(where: { covered.contains($0) }) {
                remove(file)
            } else {
                covered.formUnion(file.names)
                chosen.append(file)
            }
        }
        return chosen
    }

    private func paths() -> [String] {
        guard let listing = opendir(directory) else { return [] }
        defer { closedir(listing) }
        var found: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name.utf8.count == 64 + Self.suffix.utf8.count, name.hasSuffix(Self.suffix) { found.append(directory + "/" + name) }
        }
        return found
    }

    private func remove(_ file: IndexFile) { if let path = file.part.path { unlink(path) } }

    /// Keeps what was collected of index objects; nil if that is not possible.
    func save(_ names: [Digest], _ builder: IndexPartBuilder) throws -> IndexFile? {
        try name(
            names,
            IndexFile.write(
                in: directory, names: names, expected: (builder.live.count, builder.marked.count), livePacks: [.memory(builder.livePacks)],
                markedPacks: [.memory(builder.markedPacks)], live: builder.live.drain, marked: builder.marked.drain))
    }

    private func name(_ names: [Digest], _ file: OwnedFile) throws -> IndexFile? {
        let hash = SHA256()
        for name in names.sorted() { name.bytes.withUnsafeBytes { hash.update($0) } }
        let path = directory + "/" + hash.finish().hex + Self.suffix
        guard fsync(file.descriptor) == 0 else { return nil }
        // AT_SYMLINK_FOLLOW: the file itself, not the name under /proc.
        guard linkat(AT_FDCWD, "/proc/self/fd/\(file.descriptor)", AT_FDCWD, path, 0x400) == 0 || errno == EEXIST else { return nil }
        return IndexFile(path)
    }

    /// Merges small files while there are too many, so that a look-up asks few of them and little is written again and again.
    func compacted(_ files: [IndexFile]) throws -> [IndexFile] {
        var files = files.sorted { $0.count < $1.count }
        while files.count > Self.fileLimit {
            var chosen = 1
            var sum = files[0].count
            while chosen < files.count, chosen < 2 || files[chosen].count <= 4 * sum {
                sum += files[chosen].count
                chosen += 1
            }
            guard let merged = try merged(Array(files[..<chosen])) else { return files }
            for file in files[..<chosen] where file.part.path != merged.part.path { remove(file) }
            files.removeFirst(chosen)
            files.append(merged)
            files.sort { $0.count < $1.count }
        }
        return files
    }

    private func merged(_ files: [IndexFile]) throws -> IndexFile? {
        func records(_ runs: [IndexRun], _ tables: [PackTable], _ each: (IndexRecord) throws -> Void) throws {
            var readers = runs.map { $0.reader() }
            var bases: [UInt32] = []
            var next: UInt32 = 0
            for table in tables {
                bases.append(next)
                next += UInt32(table.count)
            }
            try merge(
                runs.count,
                next: { input in
                    guard var record = try readers[input].next() else { return nil }
                    record.pack += bases[input]
                    return record
                }, each)
        }
        let parts = files.map(\.part)
        let names = files.flatMap(\.names)
        let expected = parts.reduce((live: 0, marked: 0)) { ($0.live + $1.live.count, $0.marked + $1.marked.count) }
        return try name(
            names,
            IndexFile.write(
                in: directory, names: names, expected: expected, livePacks: parts.map(\.livePacks), markedPacks: parts.map(\.markedPacks),
                live: { try records(parts.map(\.live), parts.map(\.livePacks), $0) },
                marked: { try records(parts.map(\.marked), parts.map(\.markedPacks), $0) }))
    }
}
