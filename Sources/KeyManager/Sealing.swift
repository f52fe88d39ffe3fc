import CCrypto

/// AES-256-GCM: what is opened is what was sealed, with the same words said about it.
struct Sealing {
    static let keySize = 32
    static let nonceSize = 12
    static let tagSize = 16

    private let key: [UInt8]

    /// nil where the key has another length.
    init?(_ key: [UInt8]) {
        guard key.count == Self.keySize else { return nil }
        self.key = key
    }

    static func random(_ count: Int) throws(KeyFailure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard RAND_priv_bytes(&bytes, Int32(count)) == 1 else { throw KeyFailure(.unavailable, "libcrypto has no random bytes") }
        return bytes
    }

    /// A nonce, the cipher text and a tag.
    func seal(_ bytes: [UInt8], about words: String) throws(KeyFailure) -> [UInt8] {
        let nonce = try Self.random(Self.nonceSize)
        guard let context = EVP_CIPHER_CTX_new() else { throw Self.failure }
        defer { EVP_CIPHER_CTX_free(context) }
        let said = Array(words.utf8)
        var text = [UInt8](repeating: 0, count: bytes.count)
        var tag = [UInt8](repeating: 0, count: Self.tagSize)
        var count: Int32 = 0
        guard EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1,
            EVP_EncryptUpdate(context, nil, &count, said, Int32(said.count)) == 1,
            EVP_EncryptUpdate(context, &text, &count, bytes, Int32(bytes.count)) == 1, Int(count) == bytes.count,
            EVP_EncryptFinal_ex(context, &tag, &count) == 1,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(Self.tagSize), &tag) == 1
        else { throw Self.failure }
        return nonce + text + tag
    }

    /// nil where it was not sealed so.
    func open(_ sealed: [UInt8], about words: String) -> [UInt8]? {
        guard sealed.count > Self.nonceSize + Self.tagSize, let context = EVP_CIPHER_CTX_new() else { return nil }
        defer { EVP_CIPHER_CTX_free(context) }
        let said = Array(words.utf8)
        let nonce = Array(sealed.prefix(Self.nonceSize))
        let text = Array(sealed.dropFirst(Self.nonceSize).dropLast(Self.tagSize))
        var tag = Array(sealed.suffix(Self.tagSize))
        var bytes = [UInt8](repeating: 0, count: text.count + Self.tagSize)
        var count: Int32 = 0
        var last: Int32 = 0
        guard EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1,
            EVP_DecryptUpdate(context, nil, &count, said, Int32(said.count)) == 1,
            EVP_DecryptUpdate(context, &bytes, &count, text, Int32(text.count)) == 1, Int(count) == text.count,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(Self.tagSize), &tag) == 1,
            EVP_DecryptFinal_ex(context, &tag, &last) == 1
        else { return nil }
        return Array(bytes.prefix(text.count))
    }

    static func digest(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        var digest = [UInt8](repeating: 0, count: 32)
        _ = EVP_Digest(bytes, bytes.count, &digest, nil, EVP_sha256(), nil)
        return digest
    }

    private static let failure = KeyFailure(.unavailable, "libcrypto could not seal a key")
}
