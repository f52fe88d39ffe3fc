import Glibc

/// Addresses in texts.
enum IPAddress {
    static func isLiteral(_ text: String) -> Bool {
        var bytes = in6_addr()
        // The closure: a text that is passed as it is would be copied first.
        return text.withCString { inet_pton(AF_INET, $0, &bytes) == 1 || inet_pton(AF_INET6, $0, &bytes) == 1 }
    }

    /// The host of `host:port`, without an IPv6 address's brackets.
    static func withoutPort(_ text: String) -> String {
        let bytes = text.utf8
        if bytes.first == UInt8(ascii: "["), let end = bytes.firstIndex(of: UInt8(ascii: "]")) {
            return String(text[bytes.index(after: bytes.startIndex)..<end])
        }
        guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")) else { return text }
        return String(text[..<colon])
    }
}

/// What a Host is made of (RFC 9110, 7.2): a name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
enum HostAndPort {
    /// A Host may be empty: then the client says that it asks nobody by name.
    static func isValid(_ text: UnsafeBufferPointer<CChar>) -> Bool {
        guard let first = text.first else { return true }
        var position = 0
        if first == CChar(UInt8(ascii: "[")) {
            guard let end = text.firstIndex(of: CChar(UInt8(ascii: "]"))), isAddress(UnsafeBufferPointer(rebasing: text[1..<end])) else {
                return false
            }
            position = end + 1
        } else {
            while position < text.count, isOfName(UInt8(bitPattern: text[position])) { position += 1 }
            guard position > 0 else { return false }
        }
        if position == text.count { return true }
        let digits = text[(position + 1)...]
        return text[position] == CChar(UInt8(ascii: ":")) && digits.count <= 5 && digits.allSatisfy { (0x30...0x39).contains($0) }
    }

    /// An IPv6 address, perhaps with a zone behind a percent sign.
    private static func isAddress(_ text: UnsafeBufferPointer<CChar>) -> Bool {
        let address = text.prefix { $0 != CChar(UInt8(ascii: "%")) }
        let zone = text[address.endIndex...]
        guard zone.isEmpty || zone.count > 1, zone.allSatisfy({ isOfName(UInt8(bitPattern: $0)) }) else { return false }
        var bytes = in6_addr()
        return (Array(address) + [0]).withUnsafeBufferPointer { inet_pton(AF_INET6, $0.baseAddress!, &bytes) == 1 }
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "%"):
            true
        default: false
        }
    }
}
