import JSON
import Primitives

extension ChunkedBackup {
    /// Backs a volume up. Objects come first, then the file of hashes, then the metadata: a backup that is not complete is never taken for
    /// one. Memory stays below 128 MB. Blocks the calling thread; the work is done on threads of its own.
    ///
    /// - Parameters:
    ///   - parent: the backup that this one becomes an increment of: only blocks whose hash differs from its are stored, and only what the
    ///     source says has changed is read. The volume may have grown.
    ///   - volumeMetadata: what is restored with the volume, as `ChunkedVolumeMetadata.text` makes it.
    ///   - extraMetadata: JSON for Cinder's member `extra_metadata`.
    ///   - control: watches, slows down and cancels.
    public func write(
        of source: any BlockSource, to store: any ObjectStore, after parent: ChunkedBackup? = nil, volumeMetadata: String? = nil,
        extraMetadata: String? = nil, options: ChunkedOptions = ChunkedOptions(), control: TransferControl = TransferControl()
    ) throws(ChunkedFailure) -> ChunkedSummary {
        do {
            try check()
            try options.check()
            guard parentID == parent?.id else { throw ChunkedFailure.invalid("parent_id is not that of the parent") }
            guard parent.map({ $0.volumeID == volumeID }) ?? true else { throw ChunkedFailure.invalid("the parent is of another volume") }
            guard source.size > 0, source.size <= ChunkedLimits.volume else {
                throw ChunkedFailure.invalid("a volume of \(source.size) bytes cannot be backed up")
            }
            // Cinder leaves empty ones out.
            let extra = try extraMetadata.map { try Self.parsed($0) }.flatMap {
                $0 == [:] || $0.isNull ? nil : PythonJSON.lines($0, depth: 1)
            }
            if options.isContinued, let summary = try completed(in: store) { return summary }
            // Without it nothing that rests on the parent can be restored.
            if let parent { _ = try ChunkedReader.metadata(parent, store) }
            let (objects, summary) = try writeObjects(of: source, to: store, after: parent, options, control)
            var metadata = ChunkedMetadata(
                backupID: id, volumeID: volumeID, parentID: parentID, name: name, description: description, createdAt: createdAt,
                volumeMetadata: volumeMetadata, extraMetadata: extra, missedChange: summary.missedChange)
            metadata.objects = objects.sorted { $0.offset < $1.offset }
            try metadata.write(self, to: store)
            // From here on the metadata tells of it.
            if summary.missedChange != nil { try missedChangeNote(in: store).remove() }
            return summary
        } catch {
            throw ChunkedFailure.of(error)
        }
    }

    /// What an attempt came to that died after its end; nil if there is no complete backup.
    private func completed(in store: any ObjectStore) throws -> ChunkedSummary? {
        let metadata: ChunkedMetadata
        do { metadata = try ChunkedMetadata.read(self, from: store) } catch let failure as StoreFailure where failure.kind == .notFound {
            return nil
        } catch let failure as ChunkedFailure where failure.kind == .damaged { return nil }
        try missedChangeNote(in: store).remove()
        return ChunkedSummary(objects: metadata.objectCount, missedChange: metadata.missedChange)
    }

    /// Writes all but the metadata.
    private func writeObjects(
        of source: any BlockSource, to store: any ObjectStore, after parent: ChunkedBackup?, _ options: ChunkedOptions,
        _ control: TransferControl
    ) throws -> (objects: [ChunkedObject], summary: ChunkedSummary) {
        var options = options
        var missed = parent == nil ? nil : try missedChangeNote(in: store).read()
        if missed == nil {
            do { return try ChunkedWriter(self, of: source, to: store, parent: parent, options, control).run() } catch let found
                as MissedChange
            {
                missed = found
                control.advance { $0.done = 0 }
                control.noteMissedChange(at: found.offset)
                options.isContinued = true
            }
        }
        // Everything is read and compared with the parent's hashes; what is stored already is not sent again.
        let writer = try ChunkedWriter(self, of: UnknownChanges(source), to: store, parent: parent, options, control)
        var (objects, summary) = try writer.run()
        summary.missedChange = missed?.offset
        // Objects of an attempt that relied on the list may be parts of longer ones now.
        try removeObjects(from: store, except: Set(objects.map(\.number)))
        return (objects, summary)
    }

    private static func parsed(_ extraMetadata: String) throws(ChunkedFailure) -> JSON {
        do { return try JSON(parsing: extraMetadata) } catch { throw .invalid("extra_metadata is not JSON: \(error)") }
    }
}

/// A source of which nothing is known but what is read.
private struct UnknownChanges: BlockSource {
    private let source: any BlockSource
    init(_ source: any BlockSource) { self.source = source }

    var size: UInt64 { source.size }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws { try source.read(at: offset, into: buffer) }
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] { try source.data(in: range) }
    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { nil }
}
