import Glibc

extension ImageBackup {
    /// Writes the backup over a volume, all of it: what the volume has behind the backup's end is zeroes afterwards. Ceph keeps the checksums of
    /// what is read. Blocks the calling thread; the work is done on threads of its own.
    ///
    /// - Throws: `RestoreFailure` if something may have been written.
    public func restore(from store: any ImageStore, to target: any BlockTarget, control: TransferControl = TransferControl()) throws
        -> ImageBackupSummary
    {
        let place = try place(in: store)
        let source = try store.open(place.image.name, at: place.snapshot, since: nil)
        control.advance { $0.total = target.size }
        let copy = ImageCopy(source, to: target, targetIsZero: target.isZero, control)
        // An image that has grown since is larger than what it was made of, by zeroes.
        let size = min(source.size, target.size)
        do {
            try copy.run(
                ImagePieces(size: target.size) { span in
                    let known = span.clamped(to: 0..<max(size, span.lowerBound))
                    let data = known.isEmpty ? [] : try source.data(in: known)
                    let pieces = data.map { ImagePieces.Piece(range: $0, work: .copy) }
                    guard !target.isZero else { return pieces }
                    return (pieces + data.gaps(in: span).map { ImagePieces.Piece(range: $0, work: .zero) })
                        .sorted { $0.range.lowerBound < $1.range.lowerBound }
                })
            try target.flush()
        } catch {
            throw RestoreFailure(cause: error, completeUpTo: 0, writtenBytes: copy.result.written)
        }
        return ImageBackupSummary(read: copy.result.read, written: copy.result.written)
    }

    /// What is kept of the volume beside its bytes; nil if nothing is.
    public func volumeMetadata(in objects: any ObjectStore) throws -> String? {
        guard let size = try objects.size(of: metadataName) else { return nil }
        guard size <= 16 << 20 else { throw ImageBackupFailure(.damaged, "\(metadataName) has \(size) bytes") }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        let count = try bytes.withUnsafeMutableBytes { try objects.get(metadataName, at: 0, into: $0) }
        guard let text = String(validating: bytes.prefix(count), as: UTF8.self) else {
            throw ImageBackupFailure(.damaged, "\(metadataName) is not UTF-8")
        }
        return text
    }

    /// Reads all of the backup. What cannot be read is told; what keeps the rest from being read is thrown, as a store that does not answer:
    /// it says nothing of the backup.
    ///
    /// - Parameter isFault: whether what a read has failed with says that the store has lost these bytes.
    public func verify(
        in store: any ImageStore, control: TransferControl = TransferControl(),
        isFault: @escaping @Sendable (any Error) -> Bool = { _ in false }
    ) throws -> (checkedBytes: UInt64, faults: [(range: Range<UInt64>?, reason: String)]) {
        let place: Place
        do { place = try self.place(in: store) } catch let failure as ImageBackupFailure where failure.kind == .damaged {
            return (0, [(nil, failure.description)])
        }
        let source = try store.open(place.image.name, at: place.snapshot, since: nil)
        control.advance { $0.total = source.size }
        var copy = ImageCopy(source, to: nil, targetIsZero: true, control)
        copy.isFault = isFault
        try copy.run(
            ImagePieces(size: source.size) { span in try source.data(in: span).map { ImagePieces.Piece(range: $0, work: .copy) } })
        let faults = copy.result.faults.sorted { $0.range.lowerBound < $1.range.lowerBound }
        return (copy.result.read, faults.map { ($0.range, "image \(place.image.name) at \(place.snapshot ?? "its end"): \($0.reason)") })
    }

    /// The backup's bytes, readable at any place.
    public func open(in store: any ImageStore) throws -> any BlockSource {
        let place = try place(in: store)
        return try store.open(place.image.name, at: place.snapshot, since: nil)
    }

    // MARK: removal

    /// Removes the backup: its snapshot, the image with the last of its snapshots, the metadata and what attempts have noted. What is gone already is no error, and what
    /// is not a backup's stays.
    public func remove(from store: any ImageStore, _ objects: any ObjectStore) throws {
        let isNamed = try namedImage() != nil
        for name in try imageNames() {
            guard let image = try store.image(name) else { continue }
            let own = image.snapshots.filter { Self.backupID(ofSnapshot: $0) == id }
            // One without snapshots is the backup's by its own name; by that of the full backup which it names, where a removal of the last of
            // them died before the image went; or it is Cinder's copy of a snapshot.
            let fullID = Self.parse(image: name)?.backupID
            let isLeft = image.snapshots.isEmpty && (fullID == nil ? !isNamed && isOfSnapshot : isNamed)
            guard !own.isEmpty || fullID == id || isLeft else { continue }
            for snapshot in own { try store.removeSnapshot(snapshot, of: name) }
            // Of backups that were imported without what they rest on, several may be removed at the same time.
            if try store.image(name)?.snapshots.isEmpty == true { try store.remove(name) }
            // Another one of that backup's cannot be, unless Cinder began an image of its own before it copied a snapshot.
            if !own.isEmpty || !isOfSnapshot { break }
        }
        try objects.remove([metadataName])
        try missedChangeNote(in: objects).remove()
    }

    // MARK: what is there

    /// What a store holds of backups in images.
    public struct Found: Sendable, Equatable {
        public let backupID: String
        public let image: String
    }

    /// The backups of a store: all that have snapshots, and those whose image has none and is named for them.
    public static func all(in store: any ImageStore) throws -> [Found] {
        var found: [Found] = []
        for image in try store.images() {
            guard let parts = parse(image: image.name) else { continue }
            let ids = image.snapshots.compactMap { backupID(ofSnapshot: $0) }
            if ids.isEmpty, let id = parts.backupID { found.append(Found(backupID: id, image: image.name)) }
            for id in ids { found.append(Found(backupID: id, image: image.name)) }
        }
        return found
    }
}
