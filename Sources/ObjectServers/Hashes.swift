import CCrypto

/// Hashes of the bytes that are sent, by libcrypto.
public enum Hashes {
    public static func sha256(_ slices: [UnsafeRawBufferPointer]) -> [UInt8] { digest("SHA256", slices) }
    public static func md5(_ slices: [UnsafeRawBufferPointer]) -> [UInt8] { digest("MD5", slices) }

    public static func sha256(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { sha256([$0]) } }
    public static func md5(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { md5([$0]) } }

    private static func digest(_ algorithm: String, _ slices: [UnsafeRawBufferPointer]) -> [UInt8] {
        var value = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard let context = EVP_MD_CTX_new(), let kind = EVP_MD_fetch(nil, algorithm, nil) else {
            preconditionFailure("libcrypto has no \(algorithm)")
        }
        defer {
            EVP_MD_free(kind)
            EVP_MD_CTX_free(context)
        }
        EVP_DigestInit_ex2(context, kind, nil)
        for slice in slices where !slice.isEmpty { EVP_DigestUpdate(context, slice.baseAddress, slice.count) }
        EVP_DigestFinal_ex(context, &value, &count)
        return Array(value[..<Int(count)])
    }

    public static func hmacSHA256(key: [UInt8], _ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        var value = [UInt8](repeating: 0, count: 32)
        var count = 0
        guard EVP_Q_mac(nil, "HMAC", nil, "SHA256", nil, key, key.count, bytes, bytes.count, &value, value.count, &count) != nil else {
            preconditionFailure("libcrypto has no HMAC")
        }
        return value
    }

    public static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// The bytes of a hexadecimal text; nil if it is none.
    public static func bytes(ofHex text: some StringProtocol) -> [UInt8]? {
        let digits = text.utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == text.utf8.count, digits.count % 2 == 0 else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] * 16 + digits[$0 + 1]) }
    }

    public static func base64(_ bytes: [UInt8]) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let piece = bytes[start..<min(start + 3, bytes.count)]
            let bits = piece.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - piece.count))
            for index in 0..<4 { text.append(index <= piece.count ? letters[bits >> (18 - 6 * index) & 63] : UInt8(ascii: "=")) }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
