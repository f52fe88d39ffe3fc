/// What a blob is for; restic keeps both kinds in packs of their own.
enum BlobType: UInt8, Sendable {
    case data = 0
    case tree = 1

    var name: StaticString { self == .data ? "data" : "tree" }
}

/// A blob inside a pack.
struct PackedBlob: Equatable, Sendable {
    var id: Digest
    var type: BlobType
    var offset: UInt32
    /// Bytes in the pack, sealed.
    var length: UInt32
    /// Bytes before compression; 0 if the blob is not compressed.
    var plainLength: UInt32

    var isCompressed: Bool { plainLength != 0 }
}

/// The list of blobs at the end of a pack: entries, sealed, and the length of that in the last four bytes.
enum PackHeader {
    private static let plainEntry = 37
    private static let compressedEntry = 41
    /// The most bytes that a sealed header may have: 400,000 blobs.
    static let limit = 16 << 20

    static func size(of blobs: [PackedBlob]) -> Int { blobs.reduce(0) { $0 + ($1.isCompressed ? compressedEntry : plainEntry) } }

    /// The end of a pack: the sealed header and its length.
    static func seal(_ blobs: [PackedBlob], _ sealer: Sealer) -> [UInt8] {
        var header: [UInt8] = []
        header.reserveCapacity(size(of: blobs))
        for blob in blobs {
            header.append(blob.type.rawValue + (blob.isCompressed ? 2 : 0))
            append(blob.length, to: &header)
            if blob.isCompressed { append(blob.plainLength, to: &header) }
            header += blob.id.bytes
        }
        var end = header.withUnsafeBytes { sealer.seal($0) }
        append(UInt32(end.count), to: &end)
        return end
    }

    private static func append(_ value: UInt32, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Reads the opened header of a pack.
    ///
    /// - Parameter end: where the header begins in the pack: the blobs must fill the bytes before it exactly.
    static func parse(_ header: [UInt8], end: UInt64) throws -> [PackedBlob] {
        var blobs: [PackedBlob] = []
        var position = 0
        var offset: UInt64 = 0
        try header.withUnsafeBytes { bytes in
            func number(_ at: Int) -> UInt32 { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)) }
            while position < bytes.count {
                let kind = bytes[position]
                guard kind < 4, let type = BlobType(rawValue: kind & 1) else {
                    throw RepositoryError(.unsupported, "a pack has the unknown kind of blob \(kind)")
                }
                let isCompressed = kind >= 2
                let size = isCompressed ? compressedEntry : plainEntry
                guard bytes.count - position >= size else { throw RepositoryError.damaged("a pack's header ends early") }
                let length = number(position + 1)
                let plainLength = isCompressed ? number(position + 5) : 0
                guard length >= UInt32(Sealer.overhead), offset + UInt64(length) <= end, !isCompressed || plainLength > 0 else {
                    throw RepositoryError.damaged("a pack's header has a blob with an impossible length")
                }
                let id = Digest(UnsafeRawBufferPointer(rebasing: bytes[(position + size - 32)..<(position + size)]))
                blobs.append(PackedBlob(id: id, type: type, offset: UInt32(offset), length: length, plainLength: plainLength))
                offset += UInt64(length)
                position += size
            }
        }
        guard offset == end else { throw RepositoryError.damaged("the blobs of a pack do not fill it") }
        return blobs
    }

    /// Reads the list of blobs from the end of a pack in a store.
    static func load(_ pack: Digest, from store: any ObjectStore, _ sealer: Sealer) throws -> [PackedBlob] {
        let name = ObjectKind.pack(pack)
        guard let size = try store.size(of: name) else { throw RepositoryError.damaged("there is no pack \(pack)") }
        guard size >= 4 + UInt64(Sealer.overhead), size <= UInt64(UInt32.max) else {
            throw RepositoryError.damaged("pack \(pack) has the impossible size \(size)")
        }
        let length = try store.read(name, at: size - 4, count: 4)
        let count = UInt64(length[0]) | UInt64(length[1]) << 8 | UInt64(length[2]) << 16 | UInt64(length[3]) << 24
        guard count >= UInt64(Sealer.overhead), count <= UInt64(limit), count + 4 <= size else {
            throw RepositoryError.damaged("pack \(pack) has a header with the impossible length \(count)")
        }
        guard let header = sealer.open(try store.read(name, at: size - 4 - count, count: Int(count))) else {
            throw RepositoryError.damaged("the header of pack \(pack) is not what was written")
        }
        return try parse(header, end: size - 4 - count)
    }
}

extension ObjectStore {
    /// Exactly so many bytes of an object; the caller has checked the count.
    func read(_ name: String, at offset: UInt64, count: Int) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = try get(name, at: offset, into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count))
            guard filled == count else { throw RepositoryError.damaged("\(name) ends after \(offset + UInt64(filled)) bytes") }
        }
    }
}
