import CMicroHTTPD
import Glibc

/// Checks a request's head, as libmicrohttpd left it in its buffer, for ambiguity (request smuggling).
///
/// libmicrohttpd before 1.0 ends texts at a NUL, and joins a folded line to the name of the line before it, not to its value: a header
/// that a proxy takes for a length may be invisible to it. It parses in place, so everything it reports must be in the buffer as it was
/// sent: method, target, version and every name and value, separated only by what HTTP puts between them, up to the empty line. If any
/// byte is not accounted for, the head is refused.
struct RequestHead {
    typealias Header = (name: UnsafePointer<CChar>, value: UnsafePointer<CChar>?)

    /// Where libmicrohttpd found the target, and what followed it, when it had parsed only the first line.
    struct Line {
        let target: UnsafePointer<CChar>
        let version: UnsafePointer<CChar>
    }

    private(set) var headers: [Header]
    /// Why the request must be refused; nil if it need not be.
    private(set) var refusal: String?
    /// The announced length of the body; nil if there is none.
    private(set) var declaredLength: Int?
    private(set) var isChunked = false
    private(set) var host: UnsafePointer<CChar>?
    /// Bytes of the connection's memory that the head uses.
    private(set) var memory = 0

    private var next: UnsafePointer<CChar>?
    private var lengths = 0
    private var hosts = 0

    /// Whether this version of libmicrohttpd parses as described above; later ones refuse such heads themselves.
    static let isReadInPlace: Bool = {
        let parts = MHD_get_version().map { String(cString: $0).split(separator: ".").map { Int($0) ?? 0 } } ?? []
        return parts.count >= 3 && parts[0] == 0 && parts[1] == 9 && parts[2] <= 77
    }()

    /// The size of a header's record in the connection's memory.
    private static let recordSize = 64
    private static let longestMethod = 32
    private static let longestHost = 300

    /// `former`: a list of headers that nobody needs any more, for its memory.
    init(
        _ connection: OpaquePointer, method: UnsafePointer<CChar>?, version: UnsafePointer<CChar>?, line: Line?, former: consuming [Header]
    ) {
        headers = consume former
        headers.removeAll(keepingCapacity: true)
        headers.reserveCapacity(12)
        let isHTTP10 = version.map { strcmp($0, "HTTP/1.0") == 0 } ?? true
        if let method { check(method: method) }
        if Self.isReadInPlace {
            if let method, let version, let line, method + strlen(method) + 1 == line.target, version == line.version, version[8] == 0,
                version[9] == 0
            {
                next = version + 10
            } else {
                doubt("The request's first line is malformed.")
            }
        }
        withUnsafeMutablePointer(to: &self) { pointer in
            _ = MHD_get_connection_values_n(
                connection, .HEADER_KIND,
                { raw, _, name, nameLength, value, valueLength in
                    guard let raw, let name else { return .YES }
                    raw.assumingMemoryBound(to: RequestHead.self).pointee.take(name, nameLength, value, valueLength)
                    return .YES
                }, pointer)
        }
        let size = clinker_head_size(connection)
        memory = size + headers.count * Self.recordSize
        if Self.isReadInPlace, refusal == nil, let method, let next, next[0] != 0 || next[1] != 0 || next + 2 != method + size {
            doubt("The end of the request's head is not clear: a line is folded, or holds a NUL or a bare newline.")
        }
        if isChunked, isHTTP10 { doubt("HTTP/1.0 knows no Transfer-Encoding.") }
        if lengths > 1 || (lengths > 0 && isChunked) { doubt("The length of the body is given more than once.") }
        if hosts > 1 { doubt("There is more than one Host.") }
        if hosts == 0, !isHTTP10 { doubt("There is no Host.") }
    }

    /// The first problem is reported.
    private mutating func doubt(_ reason: String) { if refusal == nil { refusal = reason } }

    private mutating func check(method: UnsafePointer<CChar>) {
        let length = strlen(method)
        if length > Self.longestMethod || !Self.isToken(method, length) { doubt("The method is malformed.") }
    }

    private mutating func take(_ name: UnsafePointer<CChar>, _ nameLength: Int, _ value: UnsafePointer<CChar>?, _ valueLength: Int) {
        headers.append((name: name, value: value))
        // Malformed heads are not examined further.
        guard refusal == nil else { return }
        if Self.isReadInPlace {
            guard next == name, let value, name[nameLength] == 0 else {
                return doubt("A header's line is folded, or holds a NUL or a bare newline.")
            }
            var position = name + nameLength + 1
            while position.pointee == 0x20 || position.pointee == 0x09 { position += 1 }
            guard position == value, value[valueLength] == 0, value[valueLength + 1] == 0 else {
                return doubt("A header's line is folded, or holds a NUL or a bare newline.")
            }
            next = value + valueLength + 2
        }
        guard Self.isToken(name, nameLength) else { return doubt("A header's name is malformed.") }
        guard let value else { return }
        var all: UInt8 = 0
        for index in 0..<valueLength {
            let byte = UInt8(bitPattern: value[index])
            guard byte >= 0x20 && byte != 0x7F || byte == 0x09 else { return doubt("A header's value holds a control character.") }
            all |= byte
        }
        if all & 0x80 != 0, String(validatingCString: value) == nil { return doubt("A header is not UTF-8.") }
        // The relevant names have different lengths, so the length selects the candidate.
        switch nameLength {
        case 4: if strcasecmp(name, "Host") == 0 { take(host: value, valueLength) }
        case 6: single("Origin", name, value)
        case 12:
            single("X-Auth-Token", name, value)
            single("Content-Type", name, value)
        case 13:
            single("Authorization", name, value)
            single("Last-Event-ID", name, value)
        case 14: if strcasecmp(name, "Content-Length") == 0 { take(length: value, valueLength) }
        case 15: single("X-Service-Token", name, value)
        case 17: if strcasecmp(name, "Transfer-Encoding") == 0 { take(encoding: value) }
        default: break
        }
    }

    /// Of two different values of such a header a proxy in front may have checked the other one. The header itself is among `headers`.
    private mutating func single(_ known: StaticString, _ name: UnsafePointer<CChar>, _ value: UnsafePointer<CChar>) {
        let text = UnsafeRawPointer(known.utf8Start).assumingMemoryBound(to: CChar.self)
        guard strcasecmp(name, text) == 0 else { return }
        for other in headers where strcasecmp(other.name, text) == 0 && other.value.map({ strcmp($0, value) != 0 }) ?? true {
            return doubt("The header \(known) is given more than once, with different values.")
        }
    }

    private mutating func take(host value: UnsafePointer<CChar>, _ length: Int) {
        hosts += 1
        host = value
        guard length <= Self.longestHost else { return doubt("The Host is too long.") }
        guard HostAndPort.isValid(UnsafeBufferPointer(start: value, count: length)) else { return doubt("The Host is malformed.") }
    }

    private mutating func take(length value: UnsafePointer<CChar>, _ length: Int) {
        lengths += 1
        guard let number = Self.length(value, length) else { return doubt("The Content-Length is not a number.") }
        declaredLength = number
    }

    private mutating func take(encoding value: UnsafePointer<CChar>) {
        if isChunked { doubt("The length of the body is given more than once.") }
        isChunked = true
        if strcasecmp(value, "chunked") != 0 { doubt("The only Transfer-Encoding served is chunked.") }
    }

    /// A number of digits only.
    static func length(_ value: UnsafePointer<CChar>, _ length: Int) -> Int? {
        guard (1...18).contains(length) else { return nil }
        var number = 0
        for index in 0..<length {
            let byte = value[index]
            guard byte >= 0x30 && byte <= 0x39 else { return nil }
            number = number * 10 + Int(byte - 0x30)
        }
        return number
    }

    private static func isToken(_ text: UnsafePointer<CChar>, _ length: Int) -> Bool {
        for index in 0..<length {
            switch UInt8(bitPattern: text[index]) {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"),
                UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "^"),
                UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
                continue
            default: return false
            }
        }
        return length > 0
    }
}

extension RequestHead {
    /// The path and query of a target; nil if it is neither a path nor a URL of this host. An absolute URL must name the host of `Host`.
    func pathAndQuery(of target: String, method: UnsafePointer<CChar>?) -> String? {
        let bytes = target.utf8
        if bytes.first == UInt8(ascii: "/") { return target }
        if target == "*" { return method.map { strcmp($0, "OPTIONS") == 0 } ?? false ? target : nil }
        guard let scheme = ["http://", "https://"].first(where: { target.prefix($0.utf8.count).lowercased() == $0 }) else { return nil }
        let rest = target.utf8.dropFirst(scheme.utf8.count)
        let authority = rest.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        guard let host, !authority.isEmpty, String(Substring(authority)).lowercased() == String(cString: host).lowercased() else {
            return nil
        }
        let path = String(Substring(rest.dropFirst(authority.count)))
        return path.utf8.first == UInt8(ascii: "/") ? path : "/" + path
    }
}
