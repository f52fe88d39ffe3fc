import Primitives

/// Packs sealed blobs and stores the packs on threads of its own. Any thread may add blobs.
///
/// All threads fill the same pack: each reserves a place in it and seals its blob right there, so that memory holds a few packs, however
/// many threads there are.
final class PackWriter: Sendable {
    /// A pack in memory.
    private final class OpenPack {
        let buffer: UnsafeMutableRawBufferPointer
        var used = 0
        var blobs: [PackedBlob] = []
        /// Places that were reserved and are not filled yet.
        var unfilled = 0
        var isClosed = false

        init(capacity: Int) { buffer = .allocate(byteCount: capacity, alignment: 64) }
        deinit { buffer.deallocate() }

        func reset() {
            used = 0
            blobs.removeAll(keepingCapacity: true)
            isClosed = false
        }
    }

    private struct State {
        var current: OpenPack?
        var free: [OpenPack] = []
        /// Packs that are complete or being completed but not in the store yet.
        var waiting: [OpenPack] = []
        var unstored = 0
        var isEnded = false
        var uploaders = 0
        var error: (any Error)?
        var storedBytes: UInt64 = 0
    }

    private let state: Monitor<State>
    private let store: any ObjectStore
    private let keys: SealingKeys
    private let packSize: Int
    private let index: IndexWriter
    private let control: TransferControl?

    /// - Parameters:
    ///   - buffers: how many packs are in memory.
    ///   - uploaders: how many packs are put at the same time.
    ///   - largestBlob: bytes of the largest sealed blob that will be added.
    init(
        _ store: any ObjectStore, _ keys: SealingKeys, packSize: Int, largestBlob: Int, buffers: Int = 3, uploaders: Int = 2,
        index: IndexWriter,
        control: TransferControl?
    ) {
        self.store = store
        self.keys = keys
        self.packSize = packSize
        self.index = index
        self.control = control
        var state = State()
        for _ in 0..<buffers { state.free.append(OpenPack(capacity: packSize + largestBlob)) }
        state.uploaders = uploaders
        self.state = Monitor(state)
        for number in 0..<uploaders {
            startThread("backup-put-\(number)") { [self] in upload() }
        }
    }

    /// Adds a blob. It is in the store and in the index after `finish`.
    ///
    /// - Parameters:
    ///   - bytes: what is stored: compressed, if `plainLength` is not 0.
    func add(_ id: Digest, _ type: BlobType, _ bytes: UnsafeRawBufferPointer, plainLength: Int, _ sealer: Sealer) throws {
        let length = bytes.count + Sealer.overhead
        let (pack, offset) = try state.wait { state -> (Unchecked<OpenPack>, Int)? in
            if let error = state.error { throw error }
            if state.current == nil {
                guard let free = state.free.popLast() else { return nil }
                state.current = free
                state.unstored += 1
            }
            guard let pack = state.current else { return nil }
            let offset = pack.used
            guard offset + length <= pack.buffer.count else { throw RepositoryError(.invalid, "a blob of \(length) bytes is too large") }
            pack.used += length
            pack.unfilled += 1
            pack.blobs.append(
                PackedBlob(id: id, type: type, offset: UInt32(offset), length: UInt32(length), plainLength: UInt32(plainLength)))
            if pack.used >= packSize {
                pack.isClosed = true
                state.current = nil
            }
            return (Unchecked(pack), offset)
        }
        sealer.seal(bytes, into: UnsafeMutableRawBufferPointer(rebasing: pack.value.buffer[offset..<offset + length]))
        state.withLock { state in
            pack.value.unfilled -= 1
            if pack.value.isClosed, pack.value.unfilled == 0 { state.waiting.append(pack.value) }
        }
    }

    /// Stores what was added, and waits for it and for its index.
    func flush() throws {
        state.withLock { state in
            guard let pack = state.current else { return }
            pack.isClosed = true
            state.current = nil
            if pack.unfilled == 0 { state.waiting.append(pack) }
        }
        try state.wait { state -> Void? in
            if let error = state.error { throw error }
            return state.unstored == 0 ? () : nil
        }
        try index.flush()
    }

    /// Bytes of the packs that were stored.
    var storedBytes: UInt64 { state.withLock { $0.storedBytes } }

    /// Ends the threads, after their current pack. What was not flushed may be lost.
    func end() {
        state.withLock { $0.isEnded = true }
        state.wait { state -> Void? in state.uploaders == 0 ? () : nil }
    }

    private func upload() {
        let sealer = Sealer(keys)
        while true {
            let next = state.wait { state -> Unchecked<OpenPack?>? in
                if state.isEnded { return Unchecked(nil) }
                return state.waiting.isEmpty ? nil : Unchecked(state.waiting.removeFirst())
            }
            guard let pack = next.value else { break }
            do {
                let size = try put(pack, sealer)
                control?.advance { $0.stored += size }
                state.withLock { $0.storedBytes += size }
            } catch {
                state.withLock { $0.error = $0.error ?? error }
            }
            pack.reset()
            state.withLock { state in
                state.free.append(pack)
                state.unstored -= 1
            }
        }
        state.withLock { $0.uploaders -= 1 }
    }

    private func put(_ pack: OpenPack, _ sealer: Sealer) throws -> UInt64 {
        let body = UnsafeRawBufferPointer(rebasing: pack.buffer[..<pack.used])
        let end = PackHeader.seal(pack.blobs, sealer)
        let name = try end.withUnsafeBytes { end in
            let name = Digest.sha256(body, end)
            try store.put(ObjectKind.pack(name), [body, end], sha256: name.bytes)
            return name
        }
        try store.checkStored(ObjectKind.pack(name), UInt64(body.count + end.count))
        try index.add(IndexedPack(id: name, blobs: pack.blobs))
        return UInt64(body.count + end.count)
    }
}
