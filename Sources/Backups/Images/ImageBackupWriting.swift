import Glibc

/// What writing or reading a backup in an image came to.
public struct ImageBackupSummary: Sendable, Equatable {
    /// What the store has of a backup that was written: its snapshot, so that it counts as made whatever its state is set to.
    public var objects = 0
    /// Bytes read from the volume, or from the image.
    public var read: UInt64 = 0
    /// Bytes written to the image, or to the volume.
    public var written: UInt64 = 0
    /// Where the volume's driver had said that nothing changed, and something had: the whole volume was compared then.
    public var missedChange: UInt64?
}

extension ImageBackup {
    /// Writes the backup: its image or what changed in that of its parent, then its snapshot, then the metadata. It may be repeated wherever an
    /// attempt has died. Blocks the calling thread; the work is done on threads of its own.
    ///
    /// - Parameters:
    ///   - objects: the same store.
    ///   - parent: what the volume's changes are known since; nil for a full backup.
    ///   - newer: ids of backups of the volume that are of a later moment, the latest first: of a snapshot there may be such ones.
    ///   - damagedParts: what cannot be read from the parent. It is written anew, whether it changed or not.
    ///   - sampledShare: of what the driver says did not change, the share that is compared all the same.
    public func write(
        of source: any BlockSource, to store: any ImageStore, _ objects: any ObjectStore, after parent: ImageBackup?,
        newer: [String] = [], damagedParts: [Range<UInt64>] = [], volumeMetadata: String, sampledShare: Double = 0.001,
        control: TransferControl = TransferControl()
    ) throws -> ImageBackupSummary {
        guard let name = try namedImage() else { throw ImageBackupFailure.invalid("service_metadata of backup \(id) names no image") }
        control.advance { $0.total = source.size }
        var summary = ImageBackupSummary()
        if let parent {
            let note = missedChangeNote(in: objects)
            let trust = ChangeTrust(
                note: note, missed: try note.read(), sampledShare: sampledShare, damagedParts: [Range<UInt64>]().union(damagedParts))
            // An attempt that died behind its snapshot has copied all.
            if try find(in: store) == nil {
                summary = try writeIncrement(of: source, to: store, name, after: parent, trust, control)
            } else {
                summary.missedChange = trust.missed?.offset
            }
            try Self.revert(name, toNewestOf: newer, in: store, control)
        } else if try find(in: store) == nil {
            summary = try writeFull(of: source, to: store, name, control)
        }
        if !volumeMetadata.isEmpty {
            var text = volumeMetadata
            try text.withUTF8 { try objects.put(metadataName, [UnsafeRawBufferPointer($0)], sha256: nil) }
        }
        summary.objects = 1
        return summary
    }

    /// How far an increment relies on what the volume's driver calls unchanged.
    private struct ChangeTrust {
        let note: MissedChangeNote
        /// What an attempt has found: the driver is not asked.
        let missed: MissedChange?
        let sampledShare: Double
        /// What is written without a look at the parent, ascending and apart from each other.
        let damagedParts: [Range<UInt64>]
    }

    private static func gibibytes(_ bytes: UInt64) -> Int { Int(bytes / 1_073_741_824 + (bytes % 1_073_741_824 == 0 ? 0 : 1)) }

    private func writeFull(of source: any BlockSource, to store: any ImageStore, _ name: String, _ control: TransferControl) throws
        -> ImageBackupSummary
    {
        guard Self.parse(image: name)?.backupID == id else {
            throw ImageBackupFailure.invalid("\(name) is no image of backup \(id)'s own: it cannot be made there")
        }
        // What an attempt has left of a full backup may be of a volume that was another.
        if let left = try store.image(name) {
            guard left.snapshots.isEmpty else {
                throw ImageBackupFailure.invalid("image \(name) has the snapshot \(left.snapshots[0]), and none of backup \(id)")
            }
            try store.remove(name)
        }
        try store.make(name, gibibytes: Self.gibibytes(source.size))
        let summary = try Self.copy(from: source, to: store.openForWriting(name), control)
        try store.makeSnapshot(snapshotName, of: name)
        return summary
    }

    private static func copy(from source: any BlockSource, to target: any BlockTarget, _ control: TransferControl) throws
        -> ImageBackupSummary
    {
        let copy = ImageCopy(source, to: target, targetIsZero: true, control)
        try copy.run(
            ImagePieces(size: source.size) { span in try source.data(in: span).map { ImagePieces.Piece(range: $0, work: .copy) } })
        try target.flush()
        return ImageBackupSummary(read: copy.result.read, written: copy.result.written)
    }

    private func writeIncrement(
        of source: any BlockSource, to store: any ImageStore, _ name: String, after parent: ImageBackup, _ trust: ChangeTrust,
        _ control: TransferControl
    ) throws -> ImageBackupSummary {
        let place = try parent.place(in: store)
        guard let base = place.snapshot, place.image.name == name else {
            throw ImageBackupFailure.invalid(
                "backup \(parent.id) has no snapshot in image \(name), so nothing can be made on top of it: make a full backup")
        }
        let size = Self.gibibytes(source.size)
        // What another attempt has left, or a backup that is gone: the image is what the parent is, before what changed is written to it.
        if try Self.hasChanged(name, since: base, in: store, control) {
            try store.revert(name, to: base, gibibytes: max(size, Self.gibibytes(place.image.size)))
        }
        try store.grow(name, gibibytes: size)
        let summary = try compareAndCopy(source, to: store, name, since: base, trust, control)
        try store.makeSnapshot(snapshotName, of: name)
        return summary
    }

    /// Cinder makes its next increment on top of the volume's latest backup, and writes it over what the image is now: that must be what this
    /// backup was.
    private static func revert(_ image: String, toNewestOf newer: [String], in store: any ImageStore, _ control: TransferControl) throws {
        guard !newer.isEmpty, let found = try store.image(image) else { return }
        var snapshots: [String: String] = [:]
        for snapshot in found.snapshots { if let id = backupID(ofSnapshot: snapshot) { snapshots[id] = snapshot } }
        guard let newest = newer.lazy.compactMap({ snapshots[$0] }).first else { return }
        if try hasChanged(image, since: newest, in: store, control) {
            try store.revert(image, to: newest, gibibytes: gibibytes(found.size))
        }
    }

    private static func hasChanged(_ image: String, since base: String, in store: any ImageStore, _ control: TransferControl) throws
        -> Bool
    {
        let now = try store.open(image, at: nil, since: base)
        var position: UInt64 = 0
        while position < now.size {
            let span = position..<min(now.size, position + ImagePieces.spanSize)
            guard let changes = try now.changes(in: span) else { return true }
            if !changes.isEmpty { return true }
            // Of a large image this may take longer than a driver's call.
            control.reportLife()
            position = span.upperBound
        }
        return false
    }

    private func compareAndCopy(
        _ source: any BlockSource, to store: any ImageStore, _ name: String, since base: String, _ trust: ChangeTrust,
        _ control: TransferControl
    ) throws -> ImageBackupSummary {
        let before = try store.open(name, at: base, since: nil)
        let target = try store.openForWriting(name)
        func run(_ plan: @escaping @Sendable (Range<UInt64>) throws -> [ImagePieces.Piece]) throws -> ImageCopy.Counts {
            var copy = ImageCopy(source, to: target, targetIsZero: false, control)
            copy.base = before
            // Should the process die or the copy fail from here on, whoever repeats it knows.
            copy.onMissedChange = { [note = trust.note] offset in
                control.noteMissedChange(at: offset)
                try note.put(MissedChange(offset: offset))
            }
            try copy.run(ImagePieces(size: source.size, plan: plan))
            return copy.result
        }
        @Sendable func everything(_ span: Range<UInt64>) throws -> [ImagePieces.Piece] {
            let known = span.clamped(to: 0..<max(before.size, span.lowerBound))
            let data = try source.data(in: span).union(known.isEmpty ? [] : before.data(in: known))
            let damaged = trust.damagedParts.parts(in: span)
            return Self.pieces((damaged, .copy), (data.subtracting(damaged, in: span), .compare))
        }
        let share = trust.sampledShare
        @Sendable func changed(_ span: Range<UInt64>) throws -> [ImagePieces.Piece] {
            // What is new of a volume that grew is no change that a driver would list.
            let known = span.clamped(to: 0..<max(before.size, span.lowerBound))
            guard let changes = known.isEmpty ? [] : try source.changes(in: known) else { return try everything(span) }
            let grown = known.upperBound < span.upperBound ? [known.upperBound..<span.upperBound] : []
            let copied = changes.union(grown).union(trust.damagedParts.parts(in: span))
            return Self.pieces((copied, .copy), (Self.samples(of: copied.gaps(in: known), share: share), .check))
        }
        var summary = ImageBackupSummary()
        summary.missedChange = trust.missed?.offset
        if let missed = trust.missed {
            control.noteMissedChange(at: missed.offset)
        } else {
            let counts = try run(changed)
            summary = ImageBackupSummary(read: counts.read, written: counts.written, missedChange: counts.missedChange)
            if counts.missedChange != nil { control.advance { $0.done = 0 } }
        }
        if summary.missedChange != nil {
            let counts = try run(everything)
            summary.read += counts.read
            summary.written += counts.written
        }
        // Of a snapshot that is older than the parent and smaller, nothing may stay of what the parent has behind its end.
        if source.size < target.size, try !store.open(name, at: nil, since: nil).data(in: source.size..<target.size).isEmpty {
            try target.zero(source.size..<target.size)
        }
        try target.flush()
        return summary
    }

    private static func pieces(_ lists: (ranges: [Range<UInt64>], work: ImagePieces.Work)...) -> [ImagePieces.Piece] {
        lists.flatMap { list in list.ranges.map { ImagePieces.Piece(range: $0, work: list.work) } }
            .sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    /// A share of some ranges, in blocks.
    private static func samples(of ranges: [Range<UInt64>], share: Double) -> [Range<UInt64>] {
        let block: UInt64 = 65_536
        guard share > 0 else { return [] }
        var samples: [Range<UInt64>] = []
        for range in ranges {
            var position = range.lowerBound
            while position < range.upperBound {
                // The distance to the next one, so that a large range costs no more than its samples.
                let skipped = share >= 1 ? 0 : UInt64(-log(1 - Double.random(in: 0..<1)) / share * Double(block))
                let (start, overflows) = position.addingReportingOverflow(skipped)
                guard !overflows, start < range.upperBound else { break }
                samples.append(start..<min(range.upperBound, start + block))
                position = start + block
            }
        }
        return samples
    }
}
