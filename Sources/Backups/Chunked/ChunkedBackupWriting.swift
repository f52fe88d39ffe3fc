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
            let writer = try ChunkedWriter(self, of: source, to: store, parent: parent, options, control)
            let (objects, summary) = try writer.run()
            var metadata = ChunkedMetadata(
                backupID: id, volumeID: volumeID, parentID: parentID, name: name, description: description, createdAt: createdAt,
                volumeMetadata: volumeMetadata, extraMetadata: extra)
            metadata.objects = objects.sorted { $0.offset < $1.offset }
            try metadata.write(self, to: store)
            return summary
        } catch {
            throw ChunkedFailure.of(error)
        }
    }

    private static func parsed(_ extraMetadata: String) throws(ChunkedFailure) -> JSON {
        do { return try JSON(parsing: extraMetadata) } catch { throw .invalid("extra_metadata is not JSON: \(error)") }
    }
}
