public import Primitives

/// Where a message broker is: oslo.messaging's `transport_url`,
/// `rabbit://user:password@host:port,user:password@host2:port/virtual_host?option=value`.
public struct TransportURL: Sendable, Equatable {
    public struct Host: Sendable, Equatable {
        public var name: String
        public var port: Int?
        public var user: String?
        public var password: Secret?
    }

    /// What a URL breaks, to be put after the option's name. It never holds what may be a password.
    public struct Problem: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    public let hosts: [Host]
    public let virtualHost: String
    /// Options of `[oslo_messaging_rabbit]` that the URL sets instead.
    public let query: [(name: String, value: String)]

    /// More than any cluster has.
    public static let mostHosts = 32
    public static let longest = 8192

    public static func == (a: TransportURL, b: TransportURL) -> Bool {
        a.hosts == b.hosts && a.virtualHost == b.virtualHost && a.query.elementsEqual(b.query, by: { $0 == $1 })
    }

    public init(parsing text: String) throws(Problem) {
        guard text.utf8.count <= Self.longest else { throw Problem(description: "is longer than \(Self.longest) bytes") }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
            throw Problem(description: "holds a space or a control character: write it as %20, for example")
        }
        let bytes = Array(text.utf8)
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), bytes[colon...].starts(with: Array("://".utf8)) else {
            throw Problem(description: "has no scheme: it begins with rabbit://")
        }
        let scheme = String(decoding: bytes[..<colon], as: UTF8.self)
        guard ["rabbit", "kombu"].contains(scheme.lowercased()) else {
            throw Problem(description: "scheme: '\(scheme.prefix(32))' is not served, only rabbit is")
        }
        var rest = bytes[(colon + 3)...]
        if rest.contains(UInt8(ascii: "#")) { throw Problem(description: "holds '#', which begins a fragment: write it as %23") }
        var query = ArraySlice<UInt8>()
        if let mark = rest.firstIndex(of: UInt8(ascii: "?")) {
            query = rest[(mark + 1)...]
            rest = rest[..<mark]
        }
        var path: ArraySlice<UInt8> = []
        if let slash = rest.firstIndex(of: UInt8(ascii: "/")) {
            path = rest[(slash + 1)...]
            rest = rest[..<slash]
        }
        var hosts: [Host] = []
        for part in rest.split(separator: UInt8(ascii: ",")) {
            hosts.append(try Self.host(part, number: hosts.count + 1))
            guard hosts.count <= Self.mostHosts else { throw Problem(description: "hosts: there are more than \(Self.mostHosts)") }
        }
        if hosts.isEmpty { hosts = [Host(name: "localhost")] }
        self.hosts = hosts
        let virtualHost = try Self.decoded(path, "virtual host")
        guard virtualHost.utf8.count <= 255 else { throw Problem(description: "virtual host: is longer than 255 bytes") }
        self.virtualHost = virtualHost.isEmpty ? "/" : virtualHost
        var options: [(name: String, value: String)] = []
        for part in query.split(separator: UInt8(ascii: "&")) {
            guard let sign = part.firstIndex(of: UInt8(ascii: "=")) else {
                throw Problem(description: "query: an option has no value")
            }
            let name = try Self.decoded(part[..<sign], "query")
            options.append((name: name, value: try Self.decoded(part[(sign + 1)...], "query: \(name.prefix(64))")))
        }
        self.query = options
    }

    private static func host(_ text: ArraySlice<UInt8>, number: Int) throws(Problem) -> Host {
        let member = "host \(number)"
        var place = text
        var host = Host(name: "")
        if let at = text.lastIndex(of: UInt8(ascii: "@")) {
            place = text[(at + 1)...]
            let account = text[..<at]
            if let colon = account.firstIndex(of: UInt8(ascii: ":")) {
                host.user = try decoded(account[..<colon], "\(member): user")
                host.password = Secret(try decoded(account[(colon + 1)...], "\(member): password"))
            } else {
                host.user = try decoded(account, "\(member): user")
            }
        }
        var port = ArraySlice<UInt8>()
        var hasPort = false
        if place.first == UInt8(ascii: "[") {
            guard let end = place.firstIndex(of: UInt8(ascii: "]")) else {
                throw Problem(description: "\(member): the address has no closing bracket")
            }
            host.name = String(decoding: place[(place.startIndex + 1)..<end], as: UTF8.self)
            let behind = place[(end + 1)...]
            guard behind.isEmpty || behind.first == UInt8(ascii: ":") else {
                throw Problem(description: "\(member): only a port may follow the address")
            }
            hasPort = !behind.isEmpty
            port = behind.dropFirst()
        } else if let colon = place.firstIndex(of: UInt8(ascii: ":")) {
            host.name = String(decoding: place[..<colon], as: UTF8.self)
            port = place[(colon + 1)...]
            hasPort = true
        } else {
            host.name = String(decoding: place, as: UTF8.self)
        }
        guard !host.name.isEmpty else { throw Problem(description: "\(member): the name is missing") }
        guard host.name.utf8.count <= 255, host.name.utf8.allSatisfy({ ($0 > 0x2A && $0 < 0x7F && $0 != 0x2F) || $0 == 0x25 }) else {
            // It may be the rest of a password with an @ or a /.
            throw Problem(description: "\(member): the name is none; is a password written without %40 for @ and %2F for /?")
        }
        if hasPort {
            guard let number = Int(String(decoding: port, as: UTF8.self)), (1...65535).contains(number) else {
                throw Problem(description: "\(member): the port is no number between 1 and 65535")
            }
            host.port = number
        }
        return host
    }

    /// Without percent-encoding; what is no such encoding stays, as Python's does.
    private static func decoded(_ bytes: ArraySlice<UInt8>, _ member: String) throws(Problem) -> String {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var index = bytes.startIndex
        while index < bytes.endIndex {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.endIndex, let high = hex(bytes[index + 1]),
                let low = hex(bytes[index + 2])
            {
                result.append(high << 4 | low)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        guard !result.contains(0) else { throw Problem(description: "\(member): holds a NUL") }
        guard let text = String(validating: result, as: UTF8.self) else { throw Problem(description: "\(member): is no UTF-8") }
        return text
    }

    private static func hex(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
