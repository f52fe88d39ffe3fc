import CGnuTLS

/// SHA-256 of a secret: what caches are keyed by, so that memory holds no tokens.
struct Digest: Hashable, Sendable {
    private let a, b, c, d: UInt64

    /// Some of its bits.
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
