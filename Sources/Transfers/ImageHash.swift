import CCrypto
import DriverHost

/// A hash of an image's bytes, by the name that the image service has for its kind. One thread at a time.
final class ImageHash: @unchecked Sendable {
    let name: String
    private let context: OpaquePointer

    /// What libcrypto calls each kind that is taken.
    private static let kinds = [
        "md5": "MD5", "sha1": "SHA1", "sha224": "SHA224", "sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512",
        "sha3_224": "SHA3-224", "sha3_256": "SHA3-256", "sha3_384": "SHA3-384", "sha3_512": "SHA3-512",
        "blake2b": "BLAKE2B-512", "blake2s": "BLAKE2S-256",
    ]

    init(_ name: String) throws {
        guard let kind = Self.kinds[name] else {
            throw DriverFailure(.invalid, "the image's hash of kind \(name.prefix(64)) cannot be verified: it is not known here")
        }
        self.name = name
        guard let algorithm = EVP_MD_fetch(nil, kind, nil) else {
            throw DriverFailure(.unsupported, "libcrypto offers no \(kind) here")
        }
        defer { EVP_MD_free(algorithm) }
        guard let context = EVP_MD_CTX_new() else { throw DriverFailure(.retry, "libcrypto has no memory for a hash") }
        self.context = context
        guard EVP_DigestInit_ex2(context, algorithm, nil) == 1 else { throw DriverFailure(.error, "libcrypto cannot begin a hash") }
    }

    deinit { EVP_MD_CTX_free(context) }

    func update(_ bytes: UnsafeRawBufferPointer) { EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) }

    /// The hash in hexadecimal digits; once.
    func finish() -> String {
        var bytes = [UInt8](repeating: 0, count: 64)
        var count: UInt32 = 0
        EVP_DigestFinal_ex(context, &bytes, &count)
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.prefix(Int(count)).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
