public import JSON

/// What a backup is of and how it is made.
public struct BackupRequest: Sendable {
    /// The backup's, the project's and the volume's ids: letters, digits, `-`, `_` and `.`.
    public var backupID, projectID, volumeID: String
    /// What shall be found in the backup's `volume.json` again.
    public var details: JSON
    /// The snapshot of the volume's last backup. What did not change since is taken from it without reading, where the source knows
    /// what changed. The backup does not need it afterwards.
    public var parent: Digest?
    /// Whether an earlier attempt on the same source, which has not changed since, was cut off: the packs that it stored last, which no
    /// index lists yet, are used instead of sent again, and what it has read is not read again.
    public var continues = false

    public init(backupID: String, projectID: String, volumeID: String, details: JSON = .null, parent: Digest? = nil) {
        self.backupID = backupID
        self.projectID = projectID
        self.volumeID = volumeID
        self.details = details
        self.parent = parent
    }

    /// Which rule the request breaks; nil if none.
    var fault: String? {
        for (name, text) in [("backup", backupID), ("project", projectID), ("volume", volumeID)] {
            let isWord = text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
            guard isWord, (1...255).contains(text.utf8.count) else {
                return "the \(name)'s id must have 1 to 255 letters, digits, '-', '_' and '.'"
            }
        }
        return nil
    }
}

/// What a backup has done.
public struct BackupResult: Sendable, Equatable {
    /// The backup in the repository.
    public var snapshot: Digest
    /// Bytes of the image.
    public var size: UInt64
    /// Bytes read from the source.
    public var readBytes: UInt64 = 0
    /// Bytes put into the store as packs.
    public var storedBytes: UInt64 = 0
    /// Chunks that the repository did not have.
    public var newChunks = 0
    /// Where the source said that nothing had changed but something had: the parent was not relied on and everything was read. The
    /// storage's list of changes cannot be trusted until somebody has found out why.
    public var missedChange: UInt64?
    /// Parts of the repository's index that are damaged, and how: what they alone named was found in the store, or is stored anew.
    public var unreadable: [String] = []
}

extension Repository {
    /// Backs up a volume or a snapshot.
    ///
    /// Nothing is visible before all is stored. An attempt that fails or is cut off leaves chunks behind that the next one uses and
    /// `prune` removes.
    public func backup(_ source: any BlockSource, _ request: BackupRequest, control: TransferControl = TransferControl()) throws
        -> BackupResult
    {
        if let fault = request.fault { throw RepositoryError(.invalid, fault) }
        try discardNoted(control)
        let lock = try takeLock(.work, control)
        defer { lock.release() }
        // What cannot be read is left for `prune`.
        if request.continues { _ = try adoptUnindexedPacks(loadIndex(readsHeaders: false)) }
        let writer = try BackupWriter(self, source, request, control, lock)
        defer { writer.end() }
        return try writer.run()
    }

    /// Puts packs that are in the store, but in no index, into the index: those of an attempt that was cut off, and those that a damaged
    /// part of the index named.
    ///
    /// - Returns: the packs whose headers cannot be read, and why.
    func adoptUnindexedPacks(_ index: BlobIndex) throws -> [(pack: Digest, error: any Error)] {
        let writer = IndexWriter(store, keys, interval: .infinity)
        let unreadable = try forEachUnindexedPack(index) { try writer.add($0) }
        try writer.flush()
        return unreadable
    }

    /// Calls the body with every pack that is in the store but not in the index, as its own header says.
    ///
    /// - Returns: the packs whose headers cannot be read, and why.
    func forEachUnindexedPack(_ index: BlobIndex, _ body: (IndexedPack) throws -> Void) throws -> [(pack: Digest, error: any Error)] {
        let known = Set(try index.packs).union(try index.markedPacks)
        let sealer = Sealer(keys)
        var unreadable: [(pack: Digest, error: any Error)] = []
        try forEachPack { pack, _ in
            guard !known.contains(pack) else { return }
            let blobs: [PackedBlob]
            do { blobs = try PackHeader.load(pack, from: store, sealer) } catch { return unreadable.append((pack, error)) }
            try body(IndexedPack(id: pack, blobs: blobs))
        }
        return unreadable
    }

    /// Calls the body with the name and the size of every pack in the store.
    func forEachPack(_ body: (Digest, UInt64) throws -> Void) throws {
        var after = "data/"
        while true {
            // The store's callback cannot throw, and may hold a connection: names are taken in portions.
            var portion: [(name: String, size: UInt64)] = []
            try store.list("data/", after: after) { name, size in
                portion.append((name, size))
                return portion.count < 4096
            }
            guard let last = portion.last else { return }
            for (name, size) in portion {
                guard let pack = Digest(hex: String(name.suffix(64))), name == ObjectKind.pack(pack) else { continue }
                try body(pack, size)
            }
            after = last.name
        }
    }
}
