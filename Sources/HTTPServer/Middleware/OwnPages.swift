import Glibc

/// Protects a `noauth` service, where everybody is an administrator, from web pages in a browser on the same machine. Against DNS
/// rebinding, requests with a foreign `Host` are refused; against cross-site requests, changes that come from another origin are refused.
public struct OwnPages: RequestCheck {
    private let publicHost: String
    private let publicOrigin: String
    private let allowedOrigins: [String]
    private let changesByGet: @Sendable (HTTPRequest) -> Bool

    /// - Parameters:
    ///   - publicEndpoint: the public URL of the service; empty if it has none.
    ///   - allowedOrigins: origins whose pages may send changes.
    ///   - changesByGet: whether a GET is a change.
    public init(publicEndpoint: String, allowedOrigins: [String], changesByGet: @escaping @Sendable (HTTPRequest) -> Bool = { _ in false })
    {
        let parts = publicEndpoint.split(separator: "/", omittingEmptySubsequences: false)
        let authority = parts.count > 2 && parts[1].isEmpty ? String(parts[2]) : ""
        publicHost = IPAddress.withoutPort(authority)
        publicOrigin = authority.isEmpty ? "" : "\(parts[0])//\(authority)"
        self.allowedOrigins = allowedOrigins
        self.changesByGet = changesByGet
    }

    public func check(_ request: HTTPRequest) throws(HTTPError) {
        let host = request.header("Host") ?? ""
        guard host.isEmpty || isOwn(host) else {
            throw HTTPError(
                421, "Without authentication only addresses, localhost and the host of public_endpoint are served as a Host.", isPlain: true
            )
        }
        guard isFromElsewhere(request, host) else { return }
        switch request.method {
        case "HEAD", "OPTIONS": break
        case "GET": if changesByGet(request) { throw Self.foreign }
        default: throw Self.foreign
        }
    }

    /// Whether a page of another origin sent it.
    private func isFromElsewhere(_ request: HTTPRequest, _ host: String) -> Bool {
        if let origin = request.header("Origin") { return !isOwn(origin, host) }
        return request.header("Sec-Fetch-Site").map { Self.isSame($0, "cross-site") } ?? false
    }

    private static let foreign = HTTPError(
        403, "Without authentication no page of another origin may change anything: see allowed_origin.", isPlain: true)

    private func isOwn(_ host: String) -> Bool {
        var name = IPAddress.withoutPort(host)
        if IPAddress.isLiteral(name) { return true }
        // A name that ends in a dot is the same name, written in full.
        if name.utf8.last == UInt8(ascii: ".") { name.removeLast() }
        return Self.isSame(name, "localhost") || (!publicHost.isEmpty && Self.isSame(name, publicHost))
    }

    private func isOwn(_ origin: String, _ host: String) -> Bool {
        Self.isSame(origin, "http://" + host) || Self.isSame(origin, "https://" + host)
            || (!publicOrigin.isEmpty && Self.isSame(origin, publicOrigin)) || allowedOrigins.contains(origin)
    }

    private static func isSame(_ first: String, _ second: String) -> Bool {
        first.withCString { first in second.withCString { strcasecmp(first, $0) == 0 } }
    }
}
