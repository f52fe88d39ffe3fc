extension Repository {
    /// The backups that use something that is damaged; also those whose trees cannot be read. To be asked for before `discard`, which takes
    /// out of the index what is to be looked for.
    public func snapshots(using damages: [RepositoryDamage], control: TransferControl = TransferControl()) throws -> [RepositorySnapshot] {
        var damaged = Set(damages.compactMap(\.chunk))
        let packs = Set(damages.filter { $0.chunk == nil }.compactMap(\.pack))
        if !packs.isEmpty {
            let objects = SealedObjects(store, keys)
            func add(_ pack: IndexedPack) {
                guard packs.contains(pack.id) else { return }
                for blob in pack.blobs { damaged.insert(blob.id) }
            }
            let names = try objects.list(.index).map(\.name)
            // What a damaged part of the index named is found as `loadIndex` finds it.
            let unreadable = try IndexRewriting(objects: objects).forEachPack(of: names, add)
            if !unreadable.isEmpty { _ = try forEachUnindexedPack(loadIndex(readsHeaders: false), add) }
        }
        let index = try loadIndex()
        let search = DamageSearch(damaged, index, BlobReader(store, keys), control)
        // A snapshot that cannot be read belongs to nobody that could be told.
        return try snapshots(onDamage: { _, _ in }).filter { try search.isDamaged($0.tree) && isWhatItsTagsSay($0, index) }
    }

    /// Whether a snapshot's tags are those of the backup that its record is of: whoever works with restic may write any. Of a record that
    /// cannot be read nobody knows better.
    private func isWhatItsTagsSay(_ snapshot: RepositorySnapshot, _ index: BlobIndex) throws -> Bool {
        guard let backupID = snapshot.backupID else { return true }
        do {
            let record = try ImageMap(self, index, snapshot: snapshot.id).record.get()
            return record.backupID == backupID && record.projectID == snapshot.projectID
        } catch let error as RepositoryError where error.kind == .damaged { return true } catch let error as RepositoryError
            where error.kind == .unsupported || error.kind == .notFound
        { return false }
    }
}

/// Looks through the trees of backups for damaged blobs. Most trees are shared: each is read once.
private final class DamageSearch {
    private let damaged: Set<Digest>
    private let index: BlobIndex
    private let reader: BlobReader
    private let control: TransferControl
    private var known: [Digest: Bool] = [:]

    init(_ damaged: Set<Digest>, _ index: BlobIndex, _ reader: BlobReader, _ control: TransferControl) {
        self.damaged = damaged
        self.index = index
        self.reader = reader
        self.control = control
    }

    /// Whether a tree, or anything below it, is damaged.
    func isDamaged(_ tree: Digest, depth: Int = 0) throws -> Bool {
        if let known = known[tree] { return known }
        guard !control.isCancelled else { throw RepositoryError(.cancelled, "cancelled") }
        // Ours are three deep; a stranger's are not searched without end.
        guard depth < 100, !damaged.contains(tree) else { return true }
        var found = false
        var below: [Digest] = []
        do {
            guard let location = try index.find(tree, .tree) else { throw RepositoryError.damaged("tree \(tree) is in no index") }
            try TreeNode.scan(try reader.read(location, atMost: Trees.limit), tree: tree) { chunk in
                if damaged.contains(chunk) { found = true }
            } node: { node in
                if let subtree = node.subtree { below.append(subtree) }
            }
        } catch let error as RepositoryError where error.kind == .damaged { found = true }
        for subtree in below where !found { found = try isDamaged(subtree, depth: depth + 1) }
        known[tree] = found
        return found
    }
}
