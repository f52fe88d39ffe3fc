import Primitives

/// Finds a backup's snapshot by what is certain of it: its absence from a listing says less than its presence.
extension Repository {
    /// Seconds before the second look into a store whose listings may lag.
    public static let listingPause = 2.0

    /// - Returns: the snapshot of a backup; nil if it is not listed, after a second look where the store's listings may lag.
    /// - Throws: `.damaged` if it is not listed and a snapshot cannot be read, which may be its own.
    public func find(backup id: String, pause seconds: Double = listingPause) throws -> RepositorySnapshot? {
        let (found, unreadable) = try look(for: id, seconds)
        if found == nil, let unreadable { throw unreadable }
        return found
    }

    private func look(for id: String, _ seconds: Double) throws -> (found: RepositorySnapshot?, unreadable: RepositoryError?) {
        var unreadable: RepositoryError?
        func look() throws -> RepositorySnapshot? {
            unreadable = nil
            // A snapshot of another backup that cannot be read says nothing of one that can.
            return try snapshots { _, error in unreadable = unreadable ?? error }.first { $0.backupID == id }
        }
        if let found = try look() { return (found, nil) }
        guard !store.traits.listsConsistently else { return (nil, unreadable) }
        pause(seconds)
        return (try look(), unreadable)
    }

    /// Snapshots and parts of the index that are not what was written.
    public func damagedObjects() throws -> [RepositoryError] {
        var found: [RepositoryError] = []
        _ = try snapshots { _, error in if error.kind == .damaged { found.append(error) } }
        // As they lie in the store, not as the cache knows them.
        let index = try BlobIndex.load(SealedObjects(store, keys), temporaryDirectory: options.temporaryDirectory)
        return found + index.unreadable.map(\.error)
    }

    /// Deletes the snapshot of a backup, which is not among those that can be read: those that cannot, if no other backup's is among them.
    ///
    /// - Parameter others: all other backups that have a snapshot here.
    /// - Returns: what was deleted; nothing if one of the others is not found either. The last of them that is deleted takes all with it.
    public func deleteUnreadable(besides others: some Sequence<String>) throws -> [Digest] {
        let lock = try takeReadingLock(nil)
        defer { lock?.release() }
        var unreadable: [Digest] = []
        let readable = Set(try snapshots { id, error in if error.kind == .damaged { unreadable.append(id) } }.compactMap(\.backupID))
        guard store.traits.listsConsistently, others.allSatisfy({ readable.contains($0) }) else { return [] }
        try store.remove(unreadable.map { ObjectKind.snapshots.name($0) })
        return unreadable
    }

    /// The snapshot of a backup that was made.
    ///
    /// - Throws: `.damaged` if it is certain that the repository lost it; `.notFound` if that is not known.
    func snapshot(ofBackup id: String, pause seconds: Double) throws -> RepositorySnapshot {
        let (found, unreadable) = try look(for: id, seconds)
        if let found { return found }
        guard store.traits.listsConsistently else {
            throw RepositoryError(
                .notFound,
                "the project's repository does not list backup \(id), and the store's listings may lag: it is not known whether it is lost")
        }
        if let unreadable {
            throw RepositoryError.damaged("the project's repository does not hold backup \(id), and \(unreadable.description)")
        }
        // The configuration was read: the store is there. That is not enough: where a share is not mounted, another backup may just have
        // made a repository in the empty folder. Every complete backup leaves an index, so a repository without any is not yet, or no
        // longer, the one that held this backup.
        guard try hasIndex() else {
            throw RepositoryError(
                .notFound, "the project's repository has neither backup \(id) nor any index: it may not be the one that held the backup")
        }
        throw RepositoryError.damaged("the project's repository does not hold backup \(id)")
    }

    /// Whether it has an index, as every repository has that a backup was made in.
    public func hasIndex() throws -> Bool { try store.hasObject(under: ObjectKind.index.rawValue + "/") }

    /// Verifies a backup that was made.
    ///
    /// - Returns: what is certain: where listings may lag, what the index does not name is no damage.
    /// - Throws: `.damaged` if the snapshot is lost; `.notFound` if it is not known whether something is; what keeps it from reading.
    public func verify(
        backup id: String, pause seconds: Double = listingPause, control: TransferControl = TransferControl()
    ) throws -> VerifyResult {
        let snapshot = try snapshot(ofBackup: id, pause: seconds)
        var result = try verify(snapshot.id, control: control)
        guard !store.traits.listsConsistently, result.damages.contains(where: { $0.pack == nil }) else { return result }
        pause(seconds)
        control.advance { $0.done = 0 }
        result = try verify(snapshot.id, control: control)
        // What was damaged in a pack that the index names was read by its name.
        guard let first = result.damages.first(where: { $0.pack == nil }) else { return result }
        result.damages.removeAll { $0.pack == nil }
        guard result.isGood else { return result }
        throw RepositoryError(
            .notFound, "the index does not name all of backup \(id), and the store's listings may lag: \(first.description)")
    }

    /// Whether a store may hold backups of a repository that cannot be opened: it has anything but the keys that are left by a creation
    /// that did not finish.
    public static func mayHoldBackups(_ store: any ObjectStore) throws -> Bool {
        var isUsed = false
        try store.list("", after: "") { name, _ in
            isUsed = !name.hasPrefix(ObjectKind.keys.rawValue + "/")
            return !isUsed
        }
        return isUsed
    }
}

extension ObjectStore {
    /// Whether the listing has an object whose name begins with the prefix.
    func hasObject(under prefix: String) throws(StoreFailure) -> Bool {
        var isFound = false
        try list(prefix, after: "") { _, _ in
            isFound = true
            return false
        }
        return isFound
    }
}
