import Glibc

/// Scheme, host and path prefix of the original request at the proxy, used for links.
public final class Forwarded: Sendable {
    public let scheme: String
    /// nil if the proxy gave none.
    public let host: String?
    /// The path prefix that the proxy removed: empty, or with a leading and without a trailing slash.
    public let prefix: String

    init(scheme: String, host: String?, prefix: String) {
        self.scheme = scheme
        self.host = host
        self.prefix = prefix
    }
}

/// Applies a trusted proxy's headers as oslo.middleware does with `enable_proxy_headers_parsing`: `Forwarded` (RFC 7239), or the
/// `X-Forwarded` headers. Any client can send them, so this check is only used behind a proxy that sets them.
public struct ProxyHeaders: RequestCheck {
    private let takesAddressAlone: Bool

    /// - Parameter takesAddressAlone: Only the client's address is taken, from `X-Forwarded-For`: Cinder's `use_forwarded_for`.
    public init(takesAddressAlone: Bool = false) { self.takesAddressAlone = takesAddressAlone }

    public func check(_ request: HTTPRequest) {
        guard !takesAddressAlone else {
            if let address = Self.forwardedFor(request).flatMap(Self.address) { request.remoteAddress = address }
            return
        }
        var proto: String?
        var host: String?
        var address: String?
        if let text = request.list("Forwarded") {
            let proxies = Self.elements(text)
            proto = proxies.first?["proto"]
            host = proxies.first?["host"]
            // The last element comes from the nearest proxy; earlier ones may be forged.
            address = proxies.last?["for"]
        } else {
            proto = Self.list(request.list("X-Forwarded-Proto")).first
            host = Self.list(request.list("X-Forwarded-Host")).last
            address = Self.forwardedFor(request)
        }
        let prefix = request.header("X-Forwarded-Prefix").flatMap(Self.prefix)
        if proto != nil || host != nil || prefix != nil {
            let scheme = proto?.lowercased() ?? (request.isEncrypted ? "https" : "")
            request.forwarded = Forwarded(
                scheme: scheme == "https" ? "https" : "http", host: host.flatMap { Self.isHost($0) ? $0 : nil }, prefix: prefix ?? "")
        }
        if let address = address.flatMap(Self.address) { request.remoteAddress = address }
    }

    /// Set by the nearest proxy: what stands before it in the list may be forged.
    private static func forwardedFor(_ request: HTTPRequest) -> String? { list(request.list("X-Forwarded-For")).last }

    private static func list(_ text: String?) -> [String] {
        text.map { $0.split(separator: ",").map { trimmed($0) }.filter { !$0.isEmpty } } ?? []
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        let blanks: Set<UInt8> = [0x20, 0x09]
        let bytes = text.utf8.drop { blanks.contains($0) }
        return String(decoding: bytes.reversed().drop { blanks.contains($0) }.reversed(), as: UTF8.self)
    }

    /// Parses the elements of a `Forwarded` header, in order; quoted values may contain separators.
    static func elements(_ text: String) -> [[String: String]] {
        var elements: [[String: String]] = []
        var pairs: [String: String] = [:]
        var name: [UInt8]?
        var part: [UInt8] = []
        var isQuoted = false
        var isEscaped = false
        func endPair() {
            if let name {
                pairs[trimmed(String(decoding: name, as: UTF8.self)).lowercased()] = trimmed(String(decoding: part, as: UTF8.self))
            }
            name = nil
            part = []
        }
        for byte in text.utf8 {
            switch byte {
            case _ where isEscaped:
                part.append(byte)
                isEscaped = false
            case UInt8(ascii: "\\") where isQuoted: isEscaped = true
            case UInt8(ascii: "\""): isQuoted.toggle()
            case _ where isQuoted: part.append(byte)
            case UInt8(ascii: "=") where name == nil:
                name = part
                part = []
            case UInt8(ascii: ";"): endPair()
            case UInt8(ascii: ","):
                endPair()
                elements.append(pairs)
                pairs = [:]
            default: part.append(byte)
            }
        }
        endPair()
        elements.append(pairs)
        return elements
    }

    private static func isHost(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 255 && !text.utf8.contains(UInt8(ascii: "%"))
            && text.withCString { HostAndPort.isValid(UnsafeBufferPointer(start: $0, count: strlen($0))) }
    }

    /// Returns the path if it can be put into a link unchanged.
    private static func prefix(_ text: String) -> String? {
        let bytes = Array(text.utf8)
        guard bytes.count <= 255, bytes.first == UInt8(ascii: "/"), !bytes.starts(with: Array("//".utf8)) else { return nil }
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                continue
            default: return nil
            }
        }
        return String(decoding: bytes.last == UInt8(ascii: "/") ? bytes.dropLast() : bytes[...], as: UTF8.self)
    }

    /// The address of `for`: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`. Names and obfuscated identifiers are ignored.
    private static func address(_ text: String) -> String? {
        if IPAddress.isLiteral(text) { return text }
        let host = IPAddress.withoutPort(text)
        return IPAddress.isLiteral(host) ? host : nil
    }
}
