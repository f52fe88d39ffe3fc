import Glibc
import JSON
import Primitives

/// One request as the chain sees it. Header texts live as long as the request; the URI is kept as it was sent, so that
/// encoded slashes and NULs stay visible.
public final class HTTPRequest: @unchecked Sendable {
    public let method: String
    /// The path before any decoding, without the query.
    public let rawPath: String
    /// The query before any decoding, without the question mark.
    public let rawQuery: String
    public internal(set) var body: [UInt8] = []
    /// Set if the request must be refused whatever it asks for: ambiguous framing, an impossible URI.
    public internal(set) var refusal: String?
    /// The length that the client announced, if it did.
    public internal(set) var declaredLength: Int?
    /// Whether the body outgrew the limit while it came in.
    public internal(set) var bodyIsTooLarge = false
    /// The client's address: the connection's, or what a proxy that is believed said of it.
    public internal(set) var remoteAddress: String
    /// What a proxy in front said of the request; nil where none is believed.
    public internal(set) var forwarded: Forwarded?
    /// The connection's socket while the request is not answered; -1 for requests made in memory.
    private let descriptor: Int32
    let startedAt: Double

    // What the chain adds on its way.
    /// `req-<uuid>`, made here.
    public internal(set) var requestID = ""
    /// The id that the caller gave, if any.
    public internal(set) var globalRequestID: String?
    /// Who asks, once known.
    public var identity: Identity?
    /// What answers, for logs and metrics.
    public var route = Route.none
    /// Whether a controller was reached: such answers carry x-compute-request-id.
    public var reachedController = false
    /// The API version as it goes into the answer's headers.
    public var apiVersionHeader: StaticText?

    /// Whether the texts of the headers are the request's to free.
    private var ownsHeaders = false
    private let headers: [(name: UnsafePointer<CChar>, value: UnsafePointer<CChar>?)]

    init(
        method: String, uri: String, headers: [(name: UnsafePointer<CChar>, value: UnsafePointer<CChar>?)], remoteAddress: String,
        descriptor: Int32 = -1
    ) {
        self.method = method
        if let question = uri.utf8.firstIndex(of: UInt8(ascii: "?")) {
            rawPath = String(uri[..<question])
            rawQuery = String(uri[uri.index(after: question)...])
        } else {
            rawPath = uri
            rawQuery = ""
        }
        self.headers = headers
        self.remoteAddress = remoteAddress
        self.descriptor = descriptor
        startedAt = Timestamp.monotonic()
    }

    /// A request made in memory, for tests.
    public convenience init(method: String, uri: String, headers: [(String, String)] = [], body: [UInt8] = []) {
        let copies = headers.map { (name: UnsafePointer(strdup($0.0)!), value: UnsafePointer<CChar>(strdup($0.1))) }
        self.init(method: method, uri: uri, headers: copies, remoteAddress: "127.0.0.1")
        self.body = body
        declaredLength = body.isEmpty ? nil : body.count
        ownsHeaders = true
    }

    deinit {
        guard ownsHeaders else { return }
        for header in headers {
            free(UnsafeMutablePointer(mutating: header.name))
            free(UnsafeMutablePointer(mutating: header.value))
        }
    }

    /// Whether the client has closed its end and waits for no answer. To be asked only until the request is answered.
    public var isAbandoned: Bool {
        guard descriptor >= 0 else { return false }
        var entry = pollfd(fd: descriptor, events: Self.peerHasClosed, revents: 0)
        return poll(&entry, 1, 0) > 0 && Int32(entry.revents) & (Int32(Self.peerHasClosed) | POLLHUP | POLLERR | POLLNVAL) != 0
    }

    /// POLLRDHUP, which is Linux's alone.
    private static let peerHasClosed: Int16 = 0x2000

    /// The parts of the path between slashes, empty ones included.
    public var segments: [Substring] {
        let utf8 = rawPath.utf8
        var parts: [Substring] = []
        parts.reserveCapacity(8)
        var start = utf8.startIndex
        utf8.withContiguousStorageIfAvailable { bytes in
            var last = 0
            for position in 0..<bytes.count where bytes[position] == UInt8(ascii: "/") {
                let end = utf8.index(start, offsetBy: position - last)
                parts.append(rawPath[start..<end])
                start = utf8.index(after: end)
                last = position + 1
            }
        }
        parts.append(rawPath[start...])
        return parts
    }

    /// The first header of the name, in any case of letters.
    public func header(_ name: StaticString) -> String? {
        for header in headers where strcasecmp(header.name, UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)) == 0 {
            return header.value.map { String(cString: $0) } ?? ""
        }
        return nil
    }

    /// Every header line of the name as the one list that they are, separated by commas; nil if there is none.
    public func list(_ name: StaticString) -> String? {
        var result: String?
        for header in headers where strcasecmp(header.name, UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)) == 0 {
            let line = header.value.map { String(cString: $0) } ?? ""
            result = result.map { $0 + "," + line } ?? line
        }
        return result
    }

    /// The query's items, decoded; `+` is a space, invalid encodings stay as they are.
    public lazy var query: [(name: String, value: String)] =
        rawQuery.isEmpty
        ? []
        : rawQuery.parts(at: "&").map { item in
            let parts = item.parts(at: "=", maxSplits: 1, omittingEmpty: false)
            return (name: PercentEncoding.decodeQuery(parts[0]), value: parts.count > 1 ? PercentEncoding.decodeQuery(parts[1]) : "")
        }

    public func queryValue(_ name: String) -> String? { rawQuery.isEmpty ? nil : query.last { $0.name == name }?.value }
}

/// A text known at compile time or made once, shared by reference: headers that repeat in every answer.
public final class StaticText: Sendable {
    public let text: String
    public init(_ text: String) { self.text = text }
}

public enum PercentEncoding {
    /// Decodes %XX; nil if the result is not UTF-8 or an escape is broken.
    public static func decode(_ text: some StringProtocol) -> String? {
        let hasEscape = text.utf8.withContiguousStorageIfAvailable {
            memchr($0.baseAddress ?? UnsafePointer(bitPattern: 1)!, 0x25, $0.count) != nil
        }
        guard hasEscape ?? true else { return String(text) }
        var bytes: [UInt8] = []
        var iterator = text.utf8.makeIterator()
        while let byte = iterator.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = iterator.next().flatMap(digit), let low = iterator.next().flatMap(digit) else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    static func decodeQuery(_ text: some StringProtocol) -> String {
        let spaced =
            text.utf8.contains(UInt8(ascii: "+"))
            ? String(decoding: text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }, as: UTF8.self) : String(text)
        return decode(spaced) ?? spaced
    }

    /// Encodes for a query value: letters, digits and `-_.~` stay.
    public static func encode(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }

    /// Encodes for a query, where a blank is a `+`.
    public static func encodeQuery(_ text: String) -> String {
        text.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false).map { encode(String($0) ?? "") }.joined(
            separator: "+")
    }

    /// Whether every escape that there is leads to UTF-8.
    public static func isText(_ text: String) -> Bool {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return true }
        var bytes: [UInt8] = []
        let given = Array(text.utf8)
        var position = 0
        while position < given.count {
            if given[position] == UInt8(ascii: "%"), position + 2 < given.count, let high = digit(given[position + 1]),
                let low = digit(given[position + 2])
            {
                bytes.append(high << 4 | low)
                position += 3
            } else {
                bytes.append(given[position])
                position += 1
            }
        }
        return String(validating: bytes, as: UTF8.self) != nil
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// Who asks: what an authenticator found out. One object: what handles a request passes it on often.
public final class Identity: Sendable {
    public let userID: String
    /// The project the caller works in; nil for a system scope.
    public let projectID: String?
    public let roles: [String]
    public let isAdmin: Bool
    /// The domain that a token is scoped to.
    public let domainID: String?
    public let userDomainID: String?
    public let projectDomainID: String?
    public let isSystemScoped: Bool
    /// Whether the URL's project is taken where none is known.
    public let takesProjectFromURL: Bool
    /// Roles of the service that passes the request on for its user, if it gave a token of its own.
    public let serviceRoles: [String]
    /// Whether the caller may end the connection of an instance without the compute service being asked: a service that brought its
    /// own token, or, where no identity service could name one, who runs this service.
    public let mayUnbind: Bool

    public init(
        userID: String, projectID: String?, roles: [String], isAdmin: Bool = false, domainID: String? = nil, userDomainID: String? = nil,
        projectDomainID: String? = nil, isSystemScoped: Bool = false, takesProjectFromURL: Bool = false, serviceRoles: [String] = [],
        mayUnbind: Bool = false
    ) {
        self.userID = userID
        self.projectID = projectID
        self.roles = roles
        self.isAdmin = isAdmin
        self.domainID = domainID
        self.userDomainID = userDomainID
        self.projectDomainID = projectDomainID
        self.isSystemScoped = isSystemScoped
        self.takesProjectFromURL = takesProjectFromURL
        self.serviceRoles = serviceRoles
        self.mayUnbind = mayUnbind
    }

    /// The same in a project, as an administrator or not.
    public func working(in projectID: String?, isAdmin: Bool) -> Identity {
        if projectID == self.projectID, isAdmin == self.isAdmin { return self }
        return Identity(
            userID: userID, projectID: projectID, roles: roles, isAdmin: isAdmin, domainID: domainID, userDomainID: userDomainID,
            projectDomainID: projectDomainID, isSystemScoped: isSystemScoped, takesProjectFromURL: takesProjectFromURL,
            serviceRoles: serviceRoles, mayUnbind: mayUnbind)
    }
}
