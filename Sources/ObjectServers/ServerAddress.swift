import DriverKit
import CDriver

/// The parts of a server's URL.
public struct ServerAddress: Sendable, Equatable {
    public let scheme: String
    /// The name or address, in brackets if it is one of IPv6, with the port unless it is the scheme's.
    public let host: String
    /// Without a slash at its end.
    public let path: String

    /// - Throws: BAD_CONFIGURATION for what is no URL of a server; what it says holds no credentials.
    public init(_ text: String, option: String) throws {
        func refusal(_ words: String) -> DriverError { DriverError(CLINKER_BAD_CONFIGURATION, "\(option) \(words)") }
        guard let end = text.firstRange(of: "://"), ["http", "https"].contains(text[..<end.lowerBound].lowercased()) else {
            throw refusal("must be a URL that begins with http:// or https://")
        }
        scheme = text[..<end.lowerBound].lowercased()
        let rest = text[end.upperBound...]
        guard rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !rest.contains("?"), !rest.contains("#") else {
            throw refusal("must be a URL without spaces, a query or a fragment")
        }
        let authority = rest.prefix { $0 != "/" }
        guard !authority.contains("@") else { throw refusal("must not hold credentials") }
        var name = authority.lowercased()
        let standard = scheme == "https" ? ":443" : ":80"
        if name.hasSuffix(standard) { name.removeLast(standard.count) }
        guard !name.isEmpty, !name.hasPrefix(":") else { throw refusal("names no host") }
        host = name
        var path = String(rest.dropFirst(authority.count))
        while path.hasSuffix("/") { path.removeLast() }
        self.path = path
    }

    public var text: String { "\(scheme)://\(host)\(path)" }
    /// Without the port.
    public var name: String {
        if host.hasPrefix("["), let end = host.firstIndex(of: "]") { return String(host[...end]) }
        return String(host.prefix { $0 != ":" })
    }
    public var isAddress: Bool { host.hasPrefix("[") || name.utf8.allSatisfy { $0 == UInt8(ascii: ".") || (0x30...0x39).contains($0) } }
}

/// Texts as parts of URLs.
public enum URLText {
    private static let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)

    /// All but letters, digits and `-._~` as `%XX`.
    ///
    /// - Parameter keepsSlash: whether `/` stays, as in a path.
    public static func quoted(_ text: String, keepsSlash: Bool = false) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            if plain.contains(byte) || (keepsSlash && byte == UInt8(ascii: "/")) {
                bytes.append(byte)
            } else {
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What `quoted` made of a text; nil if it is nothing that it makes.
    public static func plain(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
