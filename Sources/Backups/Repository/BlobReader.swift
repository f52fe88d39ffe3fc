/// Reads blobs from packs and believes nothing: authentication, size and hash are checked before the caller sees a byte. One thread at a
/// time: every thread has its own.
final class BlobReader {
    let store: any ObjectStore
    private let sealer: Sealer
    private let decompressor = ZstdDecompressor()
    private let hash = SHA256()
    private var buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)

    init(_ store: any ObjectStore, _ keys: SealingKeys) {
        self.store = store
        sealer = Sealer(keys)
    }

    deinit { buffer.deallocate() }

    /// Reads a blob that must have the buffer's size.
    func read(_ location: BlobIndex.Location, into target: UnsafeMutableRawBufferPointer) throws {
        let blob = location.blob
        let stored = blob.isCompressed ? Int(blob.plainLength) : Int(blob.length) - Sealer.overhead
        guard stored == target.count else { throw damaged(location, "has \(stored) bytes where \(target.count) belong") }
        let plain = try open(location, atMost: ZstdCompressor.bound(target.count) + Sealer.overhead)
        if blob.isCompressed {
            guard decompressor.decompress(UnsafeRawBufferPointer(plain), exactly: target) else {
                throw damaged(location, "does not decompress to \(target.count) bytes")
            }
        } else {
            target.copyMemory(from: UnsafeRawBufferPointer(plain))
        }
        guard hash.of(UnsafeRawBufferPointer(target)) == blob.id else { throw damaged(location, "has another hash") }
    }

    /// Reads a blob of any size up to a limit.
    func read(_ location: BlobIndex.Location, atMost limit: Int) throws -> [UInt8] {
        let blob = location.blob
        let stored = blob.isCompressed ? Int(blob.plainLength) : Int(blob.length) - Sealer.overhead
        guard stored <= limit else { throw damaged(location, "has \(stored) bytes, more than the \(limit) allowed") }
        let plain = UnsafeRawBufferPointer(try open(location, atMost: ZstdCompressor.bound(limit) + Sealer.overhead))
        let bytes = blob.isCompressed ? decompressor.decompress(plain, atMost: stored) : Array(plain)
        guard let bytes, bytes.count == stored else { throw damaged(location, "does not decompress to \(stored) bytes") }
        guard bytes.withUnsafeBytes({ hash.of($0) }) == blob.id else { throw damaged(location, "has another hash") }
        return bytes
    }

    /// The bytes of a blob as they are stored, compressed or not, after their content was checked: to be sealed into another pack.
    func readStored(_ location: BlobIndex.Location, atMost limit: Int) throws -> [UInt8] {
        let blob = location.blob
        let plain = UnsafeRawBufferPointer(try open(location, atMost: ZstdCompressor.bound(limit) + Sealer.overhead))
        if blob.isCompressed {
            let bytes = decompressor.decompress(plain, atMost: min(limit, Int(blob.plainLength)))
            guard let bytes, bytes.count == Int(blob.plainLength), bytes.withUnsafeBytes({ hash.of($0) }) == blob.id else {
                throw damaged(location, "does not decompress to what its hash says")
            }
        } else if hash.of(plain) != blob.id {
            throw damaged(location, "has another hash")
        }
        return Array(plain)
    }

    private func open(_ location: BlobIndex.Location, atMost limit: Int) throws -> UnsafeMutableRawBufferPointer {
        guard let plain = sealer.open(try fetch(location, atMost: limit)) else { throw damaged(location, "is not what was written") }
        return plain
    }

    private func fetch(_ location: BlobIndex.Location, atMost limit: Int) throws -> UnsafeMutableRawBufferPointer {
        let count = Int(location.blob.length)
        guard count >= Sealer.overhead, count <= limit else {
            throw damaged(location, "takes \(count) bytes, more than the \(limit) allowed")
        }
        if buffer.count < count {
            buffer.deallocate()
            buffer = .allocate(byteCount: count, alignment: 16)
        }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        do {
            let filled = try store.get(ObjectKind.pack(location.pack), at: UInt64(location.blob.offset), into: target)
            guard filled == count else { throw damaged(location, "is cut off: the pack ends after \(filled) of its \(count) bytes") }
        } catch let failure as StoreFailure where failure.kind == .notFound {
            throw damaged(location, "is missing: there is no such pack")
        }
        return target
    }

    private func damaged(_ location: BlobIndex.Location, _ what: String) -> RepositoryError {
        let kind = location.blob.type == .data ? "chunk" : "tree"
        return .damaged("\(kind) \(location.blob.id) in pack \(location.pack) at byte \(location.blob.offset) \(what)")
    }
}
