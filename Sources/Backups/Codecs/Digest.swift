import CCrypto

/// A SHA-256 hash: the name of a chunk, a pack or another object of a backup.
public struct Digest: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The bytes as big-endian words, so that digests compare as their texts do.
    let words: (UInt64, UInt64, UInt64, UInt64)

    /// The length in bytes.
    public static let size = 32
    static let zero = Digest(words: (0, 0, 0, 0))

    init(words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

    /// - Parameter bytes: at least 32 bytes; the first 32 are used.
    init(_ bytes: UnsafeRawBufferPointer) {
        func word(_ index: Int) -> UInt64 { UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)) }
        words = (word(0), word(1), word(2), word(3))
    }

    /// - Parameter bytes: 32 of them.
    init(_ bytes: [UInt8]) {
        precondition(bytes.count == Self.size)
        self = bytes.withUnsafeBytes { Digest($0) }
    }

    /// Reads 64 hexadecimal digits in lower case; nil for anything else.
    public init?(hex text: String) {
        var text = text
        guard let digest = text.withUTF8({ Digest(hexadecimal: UnsafeRawBufferPointer($0)) }) else { return nil }
        self = digest
    }

    /// Reads 64 hexadecimal digits in lower case; nil for anything else.
    init?(hexadecimal bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 64 else { return nil }
        var values: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        func word(_ start: Int) -> UInt64? {
            var value: UInt64 = 0
            for byte in bytes[start..<start + 16] {
                let digit: UInt8
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte &- UInt8(ascii: "0")
                case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte &- UInt8(ascii: "a") &+ 10
                default: return nil
                }
                value = value << 4 | UInt64(digit)
            }
            return value
        }
        guard let a = word(0), let b = word(16), let c = word(32), let d = word(48) else { return nil }
        values = (a, b, c, d)
        words = values
    }

    /// The hash of the slices one after the other.
    public static func sha256(_ slices: UnsafeRawBufferPointer...) -> Digest {
        let hash = SHA256()
        for slice in slices { hash.update(slice) }
        return hash.finish()
    }

    static func sha256(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { sha256($0) } }

    /// Writes the 32 bytes.
    func write(to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: words.0.bigEndian, as: UInt64.self)
        target.storeBytes(of: words.1.bigEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(of: words.2.bigEndian, toByteOffset: 16, as: UInt64.self)
        target.storeBytes(of: words.3.bigEndian, toByteOffset: 24, as: UInt64.self)
    }

    /// The 32 bytes.
    public var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            write(to: buffer.baseAddress!)
            count = 32
        }
    }

    /// Writes 64 hexadecimal digits.
    func writeHex(to target: UnsafeMutablePointer<UInt8>) {
        var position = 0
        func put(_ word: UInt64) {
            for shift in stride(from: 60, through: 0, by: -4) {
                let digit = UInt8(truncatingIfNeeded: word >> UInt64(shift)) & 15
                target[position] = digit < 10 ? UInt8(ascii: "0") &+ digit : UInt8(ascii: "a") &- 10 &+ digit
                position &+= 1
            }
        }
        put(words.0)
        put(words.1)
        put(words.2)
        put(words.3)
    }

    /// 64 hexadecimal digits in lower case.
    public var hex: String {
        String(unsafeUninitializedCapacity: 64) {
            writeHex(to: $0.baseAddress!)
            return 64
        }
    }

    public var description: String { hex }

    public static func == (a: Digest, b: Digest) -> Bool {
        a.words.0 == b.words.0 && a.words.1 == b.words.1 && a.words.2 == b.words.2 && a.words.3 == b.words.3
    }

    public static func < (a: Digest, b: Digest) -> Bool {
        if a.words.0 != b.words.0 { return a.words.0 < b.words.0 }
        if a.words.1 != b.words.1 { return a.words.1 < b.words.1 }
        if a.words.2 != b.words.2 { return a.words.2 < b.words.2 }
        return a.words.3 < b.words.3
    }

    public func hash(into hasher: inout Hasher) {
        // The bytes are evenly distributed already.
        hasher.combine(words.0)
    }
}

/// SHA-256 of bytes that arrive in pieces. One thread at a time.
public final class SHA256 {
    private let context: HashContext
    private nonisolated(unsafe) static let algorithm = EVP_MD_fetch(nil, "SHA256", nil)

    /// Begins an empty hash.
    public init() { context = HashContext(Self.algorithm) }

    /// Adds bytes.
    public func update(_ bytes: UnsafeRawBufferPointer) { context.update(bytes) }

    /// The hash of what was added; the next one begins.
    public func finish() -> Digest { context.finish(32) { Digest($0) } }

    /// The hash of one buffer.
    func of(_ bytes: UnsafeRawBufferPointer) -> Digest {
        update(bytes)
        return finish()
    }
}
