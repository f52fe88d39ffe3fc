/// An object of a chunked backup as its metadata lists it.
struct ChunkedObject: Sendable {
    /// What the name ends with.
    var number: Int
    /// Of its first byte in the volume.
    var offset: UInt64
    /// Bytes of the volume.
    var length: UInt64
    var compression: ChunkedCompression
    /// Of the bytes of the volume.
    var md5: MD5.Value

    var end: UInt64 { offset + length }
    var range: Range<UInt64> { offset..<end }
}

/// Limits of what is read: a file within them is worked on in bounded memory.
enum ChunkedLimits {
    /// Objects of one backup: 64 TiB in pieces of 32 MiB, and as many again.
    static let objects = 4 << 20
    /// Bytes of the volume in one object: Cinder writes 2 GB.
    static let objectLength: UInt64 = 16 << 30
    /// Bytes of a volume.
    static let volume: UInt64 = 1 << 50
    /// Bytes that one hash covers.
    static let block: ClosedRange<UInt64> = 512...16 << 20
    /// Hashes of one object, which are in memory while it is restored.
    static let hashes: UInt64 = 1 << 20
    /// Of the text with the volume's metadata.
    static let volumeMetadata = 16 << 20
    static let extraMetadata = 1 << 20
    /// Of a name or description.
    static let text = 4096
}
