/// Recognizes the forms of Keystone's tokens. A text of another form is refused without asking Keystone.
enum TokenForm {
    /// A limit above the length of any Keystone token.
    static let longest = 8192

    static func isPossible(_ token: String) -> Bool {
        var token = token
        return token.withUTF8 { bytes in
            guard bytes.count <= longest else { return false }
            return isFernet(bytes) || isSigned(bytes) || (bytes.count == 32 && bytes.allSatisfy(isHexadecimal))
        }
    }

    /// Fernet: URL-safe base64 of a version (0x80), eight bytes of time, a 16-byte vector, blocks of 16 bytes, and a 32-byte signature. The
    /// first bytes of the time are zero until 2106.
    private static func isFernet(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard bytes.starts(with: "gAAAAA".utf8) else { return false }
        let digits = bytes.prefix { $0 != UInt8(ascii: "=") }
        guard bytes.count - digits.count <= 2, bytes[digits.count...].allSatisfy({ $0 == UInt8(ascii: "=") }), digits.allSatisfy(isDigit)
        else { return false }
        let length = digits.count * 3 / 4
        return digits.count % 4 != 1 && length >= 73 && (length - 57) % 16 == 0
    }

    /// JWS: three parts, the first of which is a JSON object.
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
