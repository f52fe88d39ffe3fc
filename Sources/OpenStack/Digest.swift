import CGnuTLS

/// SHA-256 of a secret, used as the key of caches, so that tokens are not kept in memory.
struct Digest: Hashable, Sendable {
    private let a, b, c, d: UInt64

    /// 64 bits of it.
    var number: UInt64 { a }

    init(_ text: String) {
        var text = text
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        text.withUTF8 { bytes in
            withUnsafeMutableBytes(of: &words) { _ = gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes.baseAddress, bytes.count, $0.baseAddress) }
        }
        (a, b, c, d) = words
    }
}
