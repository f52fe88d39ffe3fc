/// What a token of Keystone's looks like: whatever looks otherwise is none, and nobody need be asked about it.
enum TokenForm {
    /// Longer than any token of Keystone's, shorter than what costs anything.
    static let longest = 8192

    static func isPossible(_ token: String) -> Bool {
        var token = token
        return token.withUTF8 { bytes in
            guard bytes.count <= longest else { return false }
            return isFernet(bytes) || isSigned(bytes) || (bytes.count == 32 && bytes.allSatisfy(isHexadecimal))
        }
    }

    /// Base64 for URLs of a version (0x80), eight bytes of time, sixteen of vector, blocks of sixteen, and thirty-two of signature. The
    /// time's first bytes are zero until 2106.
    private static func isFernet(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard bytes.starts(with: "gAAAAA".utf8) else { return false }
        let digits = bytes.prefix { $0 != UInt8(ascii: "=") }
        guard bytes.count - digits.count <= 2, bytes[digits.count...].allSatisfy({ $0 == UInt8(ascii: "=") }), digits.allSatisfy(isDigit)
        else { return false }
        let length = digits.count * 3 / 4
        return digits.count % 4 != 1 && length >= 73 && (length - 57) % 16 == 0
    }

    /// A JSON Web Signature: three parts, the first an object.
    private static func isSigned(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard bytes.starts(with: "eyJ".utf8) else { return false }
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 3 && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy(isDigit) }
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }
}
