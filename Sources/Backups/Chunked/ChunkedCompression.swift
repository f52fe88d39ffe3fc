/// How the objects of a chunked backup are compressed: Cinder's `backup_compression_algorithm`.
public enum ChunkedCompression: String, Sendable, CaseIterable {
    case none, zlib, bz2, zstd

    /// - Parameter name: a name or alias that Cinder knows, in any case: `none`, `off`, `no`, `zlib`, `gzip`, `bz2`, `bzip2`, `zstd`.
    public init?(cinderName name: String) {
        switch name.lowercased() {
        case "none", "off", "no": self = .none
        case "zlib", "gzip": self = .zlib
        case "bz2", "bzip2": self = .bz2
        case "zstd": self = .zstd
        default: return nil
        }
    }

    /// Bytes that an encoder takes beside what goes in and comes out, where they are many.
    var encoderMemory: Int { self == .bz2 ? 8 << 20 : 0 }

    /// Nil where nothing is compressed.
    func encoder() -> (any StreamEncoder)? {
        switch self {
        case .none: nil
        case .zlib: DeflateEncoder()
        case .bz2: BZip2StreamEncoder()
        case .zstd: ZstdStreamEncoder()
        }
    }

    /// Nil where nothing is compressed.
    func decoder() -> (any StreamDecoder)? {
        switch self {
        case .none: nil
        case .zlib: InflateDecoder()
        case .bz2: BZip2Decoder()
        case .zstd: ZstdStreamDecoder()
        }
    }
}
