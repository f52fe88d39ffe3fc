import CGnuTLS

/// MD5, for entity tags only: it tells versions of a text apart and protects nothing.
enum MD5 {
    static func hex(_ text: String) -> String {
        var digest = [UInt8](repeating: 0, count: 16)
        var text = text
        let status = text.withUTF8 { gnutls_hash_fast(GNUTLS_DIG_MD5, $0.baseAddress, $0.count, &digest) }
        // A system whose policy forbids MD5 still gets a tag.
        if status != 0 { return String(format(text)) }
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static func format(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
