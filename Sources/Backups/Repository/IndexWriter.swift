import Primitives

/// Writes index objects for packs that have been stored. Any thread.
final class IndexWriter: Sendable {
    private struct State {
        var packs: [IndexedPack] = []
        var blobs = 0
        var flushedAt = Timestamp.monotonic()
    }

    private let objects: Unchecked<SealedObjects>
    private let interval: Double
    /// Also serializes the use of `objects`.
    private let state = Guarded(State())

    /// - Parameter interval: seconds after which the packs that were added are written with the next one, however few they are.
    init(_ store: any ObjectStore, _ keys: SealingKeys, interval: Double) {
        objects = Unchecked(SealedObjects(store, keys))
        self.interval = interval
    }

    /// Adds a pack that is in the store.
    func add(_ pack: IndexedPack) throws {
        try state.withLock { state in
            state.packs.append(pack)
            state.blobs += pack.blobs.count
            if state.blobs >= IndexObject.blobLimit || Timestamp.monotonic() - state.flushedAt >= interval { try write(&state) }
        }
    }

    /// Writes what was added. It is in the index on return.
    func flush() throws { try state.withLock { state in try write(&state) } }

    private func write(_ state: inout State) throws {
        state.flushedAt = Timestamp.monotonic()
        guard !state.packs.isEmpty else { return }
        _ = try IndexObject.text(state.packs).withUnsafeBytes { try objects.value.save(.index, $0) }
        state.packs = []
        state.blobs = 0
    }
}
