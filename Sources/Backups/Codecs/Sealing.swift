import CCrypto

/// The keys of AES-256-CTR with Poly1305-AES, as restic uses them.
struct SealingKeys: Sendable, Equatable {
    static let encryptionSize = 32
    static let macSize = 16

    var encryption: [UInt8]
    /// The AES key of Poly1305-AES.
    var macKey: [UInt8]
    /// The other half, `r`, with the bits cleared that Poly1305 wants cleared.
    var macR: [UInt8]

    /// From 64 bytes of a key derivation: encryption, `k`, `r`. Nil if a length is wrong.
    init?(encryption: [UInt8], macKey: [UInt8], macR: [UInt8]) {
        guard encryption.count == Self.encryptionSize, macKey.count == Self.macSize, macR.count == Self.macSize else { return nil }
        self.encryption = encryption
        self.macKey = macKey
        self.macR = Self.clamped(macR)
    }

    /// New random keys.
    static func random() -> SealingKeys {
        guard let keys = SealingKeys(encryption: randomBytes(32), macKey: randomBytes(16), macR: randomBytes(16)) else {
            fatalError("unreachable: the lengths are right")
        }
        return keys
    }

    private static func clamped(_ r: [UInt8]) -> [UInt8] {
        var r = r
        for index in [3, 7, 11, 15] { r[index] &= 15 }
        for index in [4, 8, 12] { r[index] &= 252 }
        return r
    }
}

/// Bytes from libcrypto's random generator.
func randomBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard RAND_bytes(&bytes, Int32(count)) == 1 else { fatalError("libcrypto has no random bytes") }
    return bytes
}

/// Encrypts and authenticates: 16 bytes of initialization vector, the cipher text, 16 bytes of Poly1305-AES. One thread at a time:
/// every thread has its own.
final class Sealer {
    /// What sealing adds to the size.
    static let overhead = 32
    private static let vectorSize = 16

    private let cipher, block: OpaquePointer
    private let mac: OpaquePointer
    /// `r` and room for the encrypted vector: the one-time key of Poly1305.
    private let oneTimeKey = UnsafeMutableRawBufferPointer.allocate(byteCount: 32, alignment: 16)

    init(_ keys: SealingKeys) {
        guard let cipher = EVP_CIPHER_CTX_new(), let block = EVP_CIPHER_CTX_new(), let algorithm = EVP_MAC_fetch(nil, "POLY1305", nil),
            let mac = EVP_MAC_CTX_new(algorithm)
        else { fatalError("libcrypto has no AES or no Poly1305") }
        EVP_MAC_free(algorithm)
        self.cipher = cipher
        self.block = block
        self.mac = mac
        oneTimeKey.copyBytes(from: keys.macR)
        guard EVP_EncryptInit_ex(cipher, EVP_aes_256_ctr(), nil, keys.encryption, nil) == 1,
            EVP_EncryptInit_ex(block, EVP_aes_128_ecb(), nil, keys.macKey, nil) == 1, EVP_CIPHER_CTX_set_padding(block, 0) == 1
        else { fatalError("libcrypto refuses the keys") }
    }

    deinit {
        EVP_CIPHER_CTX_free(cipher)
        EVP_CIPHER_CTX_free(block)
        EVP_MAC_CTX_free(mac)
        OPENSSL_cleanse(oneTimeKey.baseAddress, oneTimeKey.count)
        oneTimeKey.deallocate()
    }

    private func authenticate(_ vector: UnsafeRawPointer, _ text: UnsafeRawPointer, _ count: Int, into tag: UnsafeMutableRawPointer) {
        var written: Int32 = 0
        var size = 0
        let key = oneTimeKey.baseAddress!.assumingMemoryBound(to: UInt8.self)
        EVP_EncryptUpdate(block, key + 16, &written, vector.assumingMemoryBound(to: UInt8.self), 16)
        EVP_MAC_init(mac, key, 32, nil)
        EVP_MAC_update(mac, text.assumingMemoryBound(to: UInt8.self), count)
        EVP_MAC_final(mac, tag.assumingMemoryBound(to: UInt8.self), &size, 16)
    }

    private func crypt(_ vector: UnsafeRawPointer, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ count: Int) {
        EVP_EncryptInit_ex(cipher, nil, nil, nil, vector.assumingMemoryBound(to: UInt8.self))
        var written: Int32 = 0
        EVP_EncryptUpdate(
            cipher, target.assumingMemoryBound(to: UInt8.self), &written, source.assumingMemoryBound(to: UInt8.self), Int32(count))
    }

    /// Seals bytes into a buffer that is 32 bytes larger.
    func seal(_ plain: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        precondition(target.count == plain.count + Self.overhead && plain.count < Int(Int32.max))
        let vector = target.baseAddress!
        guard RAND_bytes(vector.assumingMemoryBound(to: UInt8.self), 16) == 1 else { fatalError("libcrypto has no random bytes") }
        let text = vector + Self.vectorSize
        if let source = plain.baseAddress, plain.count > 0 { crypt(vector, source, text, plain.count) }
        authenticate(vector, text, plain.count, into: text + plain.count)
    }

    /// The sealed bytes.
    func seal(_ plain: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: plain.count + Self.overhead) { buffer, count in
            seal(plain, into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: plain.count + Self.overhead))
            count = plain.count + Self.overhead
        }
    }

    /// Checks and decrypts bytes in place.
    ///
    /// - Returns: the part of the buffer that holds the plain bytes; nil if they are not what was sealed with these keys.
    func open(_ sealed: UnsafeMutableRawBufferPointer) -> UnsafeMutableRawBufferPointer? {
        guard sealed.count >= Self.overhead, sealed.count < Int(Int32.max), let vector = sealed.baseAddress else { return nil }
        let count = sealed.count - Self.overhead
        let text = vector + Self.vectorSize
        let matches = withUnsafeTemporaryAllocation(byteCount: 16, alignment: 16) { tag in
            authenticate(vector, text, count, into: tag.baseAddress!)
            return CRYPTO_memcmp(tag.baseAddress, text + count, 16) == 0
        }
        guard matches else { return nil }
        if count > 0 { crypt(vector, text, text, count) }
        return UnsafeMutableRawBufferPointer(start: text, count: count)
    }

    /// The plain bytes; nil if they are not what was sealed with these keys.
    func open(_ sealed: [UInt8]) -> [UInt8]? {
        var sealed = sealed
        return sealed.withUnsafeMutableBytes { buffer in open(buffer).map { Array($0) } }
    }
}
