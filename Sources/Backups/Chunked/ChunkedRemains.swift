extension ChunkedBackup {
    /// Removes all of a backup's objects, the metadata first: what is left after a crash is no backup, and is removed by another call. What
    /// is gone already counts as removed.
    ///
    /// - Parameter wasWhole: false of a backup that failed. Where its container was refused it has written nothing, and nothing is left of it.
    /// - Returns: how many objects there were.
    public func delete(from store: any ObjectStore, wasWhole: Bool = true) throws(ChunkedFailure) -> Int {
        guard wasWhole || hasContainer else { return 0 }
        do {
            try check()
            try store.remove([metadataName])
            return try removeAll(from: store) { number, suffix in
                number != nil
                    || [Self.metadataSuffix, Self.hashFileSuffix, Self.missedChangeSuffix].contains { suffix.elementsEqual($0.utf8) }
            }
        } catch {
            throw ChunkedFailure.of(error)
        }
    }

    /// Removes the objects that hold bytes of the volume, but those of some numbers.
    func removeObjects(from store: any ObjectStore, except numbers: Set<Int>) throws {
        _ = try removeAll(from: store) { number, _ in number.map { !numbers.contains($0) } ?? false }
    }

    /// Removes what bears this backup's name and is chosen by its number, if it has one, and the end of its name.
    private func removeAll(from store: any ObjectStore, _ isChosen: (Int?, Substring.UTF8View) -> Bool) throws -> Int {
        var names: [String] = []
        var count = 0
        // Names are collected and removed by turns, since a store may not like its objects to go while it lists them.
        var last = ""
        repeat {
            names = []
            try store.list(wholePrefix, after: last) { name, _ in
                last = name
                guard name.utf8.starts(with: wholePrefix.utf8) else { return true }
                let suffix = name.utf8.dropFirst(wholePrefix.utf8.count)
                if isChosen(Self.number(ofSuffix: suffix), suffix) { names.append(name) }
                return names.count < 1000
            }
            try store.remove(names)
            count += names.count
        } while names.count == 1000
        return count
    }

    /// The beginning of an object's name that all objects of its backup have; nil if it is no name of this format.
    public static func prefix(ofObject name: String) -> String? { Remains.split(name)?.0 }

    /// Objects of a store that no metadata names: of a backup that was interrupted, or left behind by one that was deleted. Everything in
    /// the container counts that is named as Cinder's format names it; a backup that is being written now counts, too.
    ///
    /// - Parameters:
    ///   - container: a folder or bucket; empty for the whole store.
    ///   - each: gets the name and the size of an object; false ends the search.
    public static func unnamed(
        in container: String, of store: any ObjectStore, _ each: (String, UInt64) -> Bool
    ) throws(ChunkedFailure) {
        do {
            var group = Remains()
            var isEnded = false
            func finish() throws {
                for (name, size) in try group.unnamed(in: store) where !isEnded { isEnded = !each(name, size) }
                group = Remains()
            }
            var failure: (any Error)?
            try store.list(container.isEmpty ? "" : container + "/", after: "") { name, size in
                guard let (prefix, suffix) = Remains.split(name) else { return true }
                do {
                    // A backup's names follow one another in a listing, but for those of copies and of longer prefixes in between: who is
                    // come to a second time is asked for its metadata a second time.
                    if prefix != group.prefix { try finish() }
                    group.prefix = prefix
                    try group.add(suffix, size)
                } catch { failure = error }
                return failure == nil && !isEnded
            }
            if let failure { throw failure }
            try finish()
        } catch {
            throw ChunkedFailure.of(error)
        }
    }
}

/// The names of one prefix in a listing.
private struct Remains {
    enum Suffix { case number(Int), metadata, hashFile, missedChange }

    var prefix = ""
    private var objects: [(number: Int, size: UInt64)] = []
    private var hashFileSize: UInt64?
    /// Of a note beside a complete backup, which Cinder does not restore then.
    private var noteSize: UInt64?

    /// The prefix and what follows; nil if it is no name of this format.
    static func split(_ name: String) -> (String, Suffix)? {
        for (text, suffix) in [
            (ChunkedBackup.metadataSuffix.utf8, Suffix.metadata), (ChunkedBackup.hashFileSuffix.utf8, .hashFile),
            (ChunkedBackup.missedChangeSuffix.utf8, .missedChange),
        ]
        where name.utf8.suffix(text.count).elementsEqual(text) {
            return (String(name.utf8.dropLast(text.count)) ?? "", suffix)
        }
        guard let dash = name.utf8.lastIndex(of: UInt8(ascii: "-")), let number = ChunkedBackup.number(ofSuffix: name.utf8[dash...]) else {
            return nil
        }
        return (String(name.utf8[..<dash]) ?? "", .number(number))
    }

    mutating func add(_ suffix: Suffix, _ size: UInt64) throws {
        switch suffix {
        case .metadata: break
        case .hashFile: hashFileSize = size
        case .missedChange: noteSize = size
        case .number(let number):
            guard objects.count < ChunkedLimits.objects else {
                throw ChunkedFailure.damaged("\(prefix) has more than \(ChunkedLimits.objects) objects")
            }
            objects.append((number, size))
        }
    }

    func unnamed(in store: any ObjectStore) throws -> [(String, UInt64)] {
        guard !objects.isEmpty || hashFileSize != nil || noteSize != nil else { return [] }
        // Not what the listing says: it may have come by the metadata before this, or not yet.
        let numbers = try ChunkedMetadata.numbers(prefix, in: store)
        let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/"))
        let start = slash.map { prefix.utf8.index(after: $0) } ?? prefix.startIndex
        let backup = ChunkedBackup(
            id: "", volumeID: "", container: slash.map { String(prefix[..<$0]) } ?? "", prefix: String(prefix[start...]), createdAt: "")
        var result = objects.filter { numbers?.contains($0.number) != true }.map { (backup.objectName($0.number), $0.size) }
        if numbers == nil, let hashFileSize { result.append((prefix + ChunkedBackup.hashFileSuffix, hashFileSize)) }
        if let noteSize { result.append((prefix + ChunkedBackup.missedChangeSuffix, noteSize)) }
        return result
    }
}

extension ChunkedMetadata {
    /// The numbers of the objects that a prefix's metadata names, whoever's it is; nil: there is none.
    fileprivate static func numbers(_ prefix: String, in store: any ObjectStore) throws -> Set<Int>? {
        do { return try numbers(JSONStream(store, prefix + ChunkedBackup.metadataSuffix)) } catch let failure as StoreFailure
            where failure.kind == .notFound
        { return nil }
    }

    private static func numbers(_ stream: JSONStream) throws -> Set<Int> {
        var numbers = Set<Int>()
        try stream.object { member in
            guard member == "objects" else { return try stream.skip() }
            try stream.array {
                try stream.object { name in
                    guard numbers.count < ChunkedLimits.objects else {
                        throw stream.fault("objects has more than \(ChunkedLimits.objects) members")
                    }
                    if let dash = name.utf8.lastIndex(of: UInt8(ascii: "-")),
                        let number = ChunkedBackup.number(ofSuffix: name.utf8[dash...])
                    {
                        numbers.insert(number)
                    }
                    try stream.skip()
                }
            }
        }
        try stream.finish()
        return numbers
    }
}
