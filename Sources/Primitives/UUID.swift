import CLinux
import Glibc

/// Random UUIDs (RFC 9562, version 4) in the one representation used everywhere: 36 lower-case characters.
public enum UUID {
    private static let pool = Guarded<RandomPool>(RandomPool())

    public static func random() -> String { random(prefix: "") }

    /// A prefix and a random UUID in one text.
    public static func random(prefix: StaticString) -> String {
        let before = prefix.utf8CodeUnitCount
        var bytes = pool.withLock { $0.take16() }
        return withUnsafeMutableBytes(of: &bytes) { raw in
            raw[6] = raw[6] & 0x0F | 0x40
            raw[8] = raw[8] & 0x3F | 0x80
            return String(unsafeUninitializedCapacity: 36 + before) { text in
                let digits: StaticString = "0123456789abcdef"
                for index in 0..<before { text[index] = prefix.utf8Start[index] }
                var out = before
                for index in 0..<16 {
                    if index == 4 || index == 6 || index == 8 || index == 10 {
                        text[out] = UInt8(ascii: "-")
                        out += 1
                    }
                    text[out] = digits.utf8Start[Int(raw[index] >> 4)]
                    text[out + 1] = digits.utf8Start[Int(raw[index] & 15)]
                    out += 2
                }
                return out
            }
        }
    }

    /// A UUID in any of the forms that OpenStack's `is_uuid_like` accepts: with or without dashes, any case.
    public static func isUUIDLike(_ text: String) -> Bool {
        var digits = 0
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"):
                digits += 1
            case UInt8(ascii: "-"): continue
            default: return false
            }
        }
        return digits == 32
    }
}

/// Random bytes fetched from the kernel a page at a time.
private struct RandomPool {
    var bytes = [UInt8](repeating: 0, count: 4096)
    var position = 4096

    mutating func take16() -> (UInt64, UInt64) {
        if position + 16 > bytes.count {
            refill()
            position = 0
        }
        defer { position += 16 }
        return bytes.withUnsafeBytes { raw in
            (raw.loadUnaligned(fromByteOffset: position, as: UInt64.self), raw.loadUnaligned(fromByteOffset: position + 8, as: UInt64.self))
        }
    }

    mutating func refill() {
        bytes.withUnsafeMutableBytes { raw in
            var filled = 0
            while filled < raw.count {
                let got = getrandom(raw.baseAddress! + filled, raw.count - filled, 0)
                if got > 0 { filled += got } else if errno != EINTR { preconditionFailure("getrandom failed: \(errno)") }
            }
        }
    }
}
