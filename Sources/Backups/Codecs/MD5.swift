import CCrypto

/// MD5 of bytes that arrive in pieces: Cinder's format names objects' contents by it. One thread at a time.
final class MD5 {
    /// The 16 bytes of a hash, as big-endian words.
    struct Value: Sendable, Equatable {
        var high: UInt64
        var low: UInt64

        /// 32 hexadecimal digits in lower case.
        var hex: String {
            let digits = Array("0123456789abcdef".utf8)
            return String(unsafeUninitializedCapacity: 32) { text in
                for index in 0..<32 {
                    let word = index < 16 ? high : low
                    text[index] = digits[Int(word >> UInt64(60 - index % 16 * 4) & 15)]
                }
                return 32
            }
        }

        init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

        /// Nil if the text is not 32 hexadecimal digits in lower case.
        init?(hex text: String) {
            let bytes = Array(text.utf8)
            guard bytes.count == 32 else { return nil }
            (high, low) = (0, 0)
            for (index, byte) in bytes.enumerated() {
                let digit: UInt64
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt64(byte - UInt8(ascii: "0"))
                case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt64(byte - UInt8(ascii: "a") + 10)
                default: return nil
                }
                if index < 16 { high = high << 4 | digit } else { low = low << 4 | digit }
            }
        }

        /// The words A, B, C and D of the algorithm.
        init(words: [UInt32]) {
            high = UInt64(words[0].byteSwapped) << 32 | UInt64(words[1].byteSwapped)
            low = UInt64(words[2].byteSwapped) << 32 | UInt64(words[3].byteSwapped)
        }

        fileprivate init(_ bytes: UnsafeRawBufferPointer) {
            high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
            low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    private let context: HashContext
    private nonisolated(unsafe) static let algorithm = EVP_MD_fetch(nil, "MD5", nil)

    /// Begins an empty hash.
    init() { context = HashContext(Self.algorithm) }

    /// A hash that goes on from where another one is.
    init(copying other: MD5) { context = HashContext(copying: other.context) }

    func update(_ bytes: UnsafeRawBufferPointer) { context.update(bytes) }

    /// The hash of what was added; the next one begins.
    func finish() -> Value { context.finish(16) { Value($0) } }

    static func of(_ bytes: UnsafeRawBufferPointer) -> Value {
        let hash = MD5()
        hash.update(bytes)
        return hash.finish()
    }
}
