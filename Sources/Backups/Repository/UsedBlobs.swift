/// Which blobs the snapshots of a repository need: a bit for every record of the index, so that ten million take two megabytes.
final class UsedBlobs {
    private struct Bits {
        var words: [UInt64]
        init(_ count: Int) { words = [UInt64](repeating: 0, count: (count + 63) / 64) }

        func has(_ index: Int) -> Bool { words[index / 64] >> UInt64(index % 64) & 1 == 1 }

        /// False if the bit was set before.
        mutating func set(_ index: Int) -> Bool {
            guard !has(index) else { return false }
            words[index / 64] |= 1 << UInt64(index % 64)
            return true
        }
    }

    private let index: BlobIndex
    private var live, marked: Bits
    /// The packs that are marked for removal but have what is needed and no other pack has.
    private(set) var neededMarkedPacks: Set<Digest> = []
    /// How many needed chunks are in no index, and the first of them.
    private(set) var missingCount = 0
    private(set) var firstMissing: Digest?
    /// The chunk seen last: runs of zeroes name the same one again and again.
    private var last: Digest?

    init(_ index: BlobIndex) {
        self.index = index
        live = Bits(index.liveCount)
        marked = Bits(index.markedCount)
    }

    /// Whether the blob is needed from this very pack: of several copies the index's own counts.
    func needs(_ blob: PackedBlob, in pack: Digest) throws -> Bool {
        guard let entry = try index.findLive(blob.id, blob.type) else { return false }
        return live.has(entry.number) && entry.location.pack == pack && entry.location.blob.offset == blob.offset
    }

    /// Marks everything that a snapshot's trees name.
    ///
    /// - Throws: if a tree cannot be read: what it names is unknown, and nothing may be removed.
    func add(_ snapshot: RepositorySnapshot, _ reader: BlobReader, _ control: TransferControl) throws {
        var rest = [snapshot.tree]
        while let tree = rest.popLast() {
            guard !control.isCancelled else { throw RepositoryError(.cancelled, "cancelled") }
            guard let location = try index.find(tree, .tree) else {
                throw RepositoryError.damaged("tree \(tree) of snapshot \(snapshot.id) is in no index")
            }
            guard try mark(tree, .tree) else { continue }
            try TreeNode.scan(try reader.read(location, atMost: Trees.limit), tree: tree) { chunk in
                if chunk == last { return }
                last = chunk
                _ = try mark(chunk, .data)
            } node: { node in
                if let subtree = node.subtree { rest.append(subtree) }
            }
        }
    }

    /// False if the blob was marked before or is missing.
    private func mark(_ id: Digest, _ type: BlobType) throws -> Bool {
        if let entry = try index.findLive(id, type) { return live.set(entry.number) }
        if let entry = try index.findMarked(id, type) {
            neededMarkedPacks.insert(entry.location.pack)
            return marked.set(entry.number)
        }
        missingCount += 1
        firstMissing = firstMissing ?? id
        return false
    }
}
