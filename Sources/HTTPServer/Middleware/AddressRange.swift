import Glibc

/// A range of network addresses, as `10.0.0.0/8` or `fd00::/8` names it; an address alone is a range of one.
public struct AddressRange: Sendable, Equatable {
    private let bytes: [UInt8]
    private let length: Int

    /// nil if the text is none, or has bits behind its length.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let bytes = Self.address(String(parts[0])) else { return nil }
        var length = bytes.count * 8
        if parts.count == 2 {
            guard parts[1].utf8.count <= 3, let given = Int(parts[1]), (0...length).contains(given) else { return nil }
            length = given
        }
        self.bytes = bytes
        self.length = length
        guard (length..<bytes.count * 8).allSatisfy({ bytes[$0 / 8] & (0x80 >> UInt8($0 % 8)) == 0 }) else { return nil }
    }

    public func contains(_ address: String) -> Bool {
        guard let other = Self.address(address), other.count == bytes.count else { return false }
        let whole = length / 8
        guard other[..<whole] == bytes[..<whole] else { return false }
        let rest = length % 8
        return rest == 0 || (other[whole] ^ bytes[whole]) & ~(0xFF >> UInt8(rest)) == 0
    }

    private static func address(_ text: String) -> [UInt8]? {
        for (family, size) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: size)
            if inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }
}
