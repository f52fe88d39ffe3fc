import CGnuTLS
public import Primitives

/// The word by which whoever has it takes a volume over. It is shown once, and kept as a hash with a salt of its own.
public struct TransferKey: Sendable {
    public let word: Secret
    let salt, hash: Secret

    private static let saltBytes = 16

    /// A new one, of that many hexadecimal digits.
    public init(digits: Int) {
        let salt = Self.random(Self.saltBytes)
        let word = String(Self.hex(Self.random((digits + 1) / 2)).prefix(digits))
        self.word = Secret(word)
        self.salt = Secret(Self.hex(salt))
        hash = Secret(Self.hex(Self.hash(word, Self.hex(salt))))
    }

    /// Whether it is the word of which salt and hash were kept; takes as long whatever differs.
    static func isRight(_ word: Secret, salt: Secret, hash: Secret) -> Bool {
        let (given, kept) = (Array(hex(self.hash(word.reveal(), salt.reveal())).utf8), Array(hash.reveal().utf8))
        return given.count == kept.count && gnutls_memcmp(given, kept, kept.count) == 0
    }

    /// From the system's source for keys.
    private static func random(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    private static func hash(_ word: String, _ salt: String) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        let (word, salt) = (Array(word.utf8), Array(salt.utf8))
        let status = gnutls_hmac_fast(GNUTLS_MAC_SHA256, salt, salt.count, word, word.count, &digest)
        precondition(status == 0, "the system has no SHA-256")
        return digest
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
