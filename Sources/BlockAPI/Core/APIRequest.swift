import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// A request after routing: the operation's parameters, the checked body, who asks.
struct APIRequest: Sendable {
    let http: HTTPRequest
    let service: BlockAPI
    let version: Int
    /// The parameters of the path, in order, decoded.
    let parameters: [String]
    let body: JSON
    let identity: Identity
    let caller: Caller
    let policies: Policies
    /// What stands before a resource's name in links.
    let links: Links

    /// Reads what an index finds: on this thread, and not without end.
    nonisolated(nonsending) func database<T: Sendable>(_ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await service.database.read(.seconds(service.longReads.patience), body)
    }

    /// Reads what may be long. What is short is read on this thread; what turns out not to be, or need not even be tried while
    /// others wait for long reads, takes its turn among them. The closure may so be called twice.
    ///
    /// `isShort`: an index serves it, whatever the tables hold.
    nonisolated(nonsending) func list<T: Sendable>(isShort: Bool, _ body: @escaping @Sendable (any Connection) throws -> T) async throws
        -> T
    {
        if isShort || service.longReads.isIdle {
            do {
                return try await service.database.read(.steps(isShort ? Self.shortSteps : Self.triedSteps), body)
            } catch let error as DatabaseError where error.kind == .tooLong {}
        }
        // Each user's turns are its own: one who asks for much keeps nobody of his project waiting.
        return try await service.longReads.read(for: caller.projectID + " " + caller.userID, body)
    }

    /// Steps of the database within which the longest page that an index serves is read.
    private static let shortSteps = 2_000_000
    /// Steps that are tried on a thread that others wait for, milliseconds.
    private static let triedSteps = 100_000

    /// Makes a change. The closure may be run again: it decides and writes, and what the client is answered is made afterwards of what
    /// it returns.
    nonisolated(nonsending) func change<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        try await service.database.write(body)
    }

    func query(_ name: String) -> String? { http.queryValue(name) }

    /// Refuses a request that names neither or both of a host and a cluster, which the version may not know yet.
    func oneOf(host: String, cluster: String, since first: Int) throws(HTTPError) {
        guard host.isEmpty == (version >= first ? cluster.isEmpty : true) else { return }
        throw .badRequest(
            "Invalid input received: " + (version >= first ? "One and only one of cluster and host must be set." : "Host field is missing.")
        )
    }

    /// Whether the caller asks for, and may see, all projects.
    func wantsAllProjects() throws(HTTPError) -> Bool { identity.isAdmin ? try flag("all_tenants") : false }
}

/// URLs of answers: with the project's id exactly if the request's had it.
struct Links: Sendable {
    /// `http://host/v3/project/`
    let selfPrefix: String
    /// The same without the version.
    let bookmarkPrefix: String

    init(_ request: HTTPRequest, publicEndpoint: String, projectSegment: Substring?) {
        let base = Links.base(request, publicEndpoint: publicEndpoint)
        let project = projectSegment.map { PercentEncoding.encode(String($0)) + "/" } ?? ""
        selfPrefix = base + "/v3/" + project
        bookmarkPrefix = base + "/" + project
    }

    /// What stands before every path of ours: the public endpoint, or what the client, or the proxy in front of us, reached.
    static func base(_ request: HTTPRequest, publicEndpoint: String) -> String {
        var base = publicEndpoint
        if base.isEmpty {
            let given = request.forwarded?.host ?? request.header("Host") ?? ""
            let host = isHost(given) ? given : "localhost"
            guard let forwarded = request.forwarded else { return "http://" + host }
            return forwarded.scheme + "://" + host + forwarded.prefix
        }
        if base.utf8.last == UInt8(ascii: "/") { base.removeLast() }
        return base
    }

    /// A client's own words go into links only if they can be a host and a port.
    private static func isHost(_ text: String) -> Bool {
        text.utf8.withContiguousStorageIfAvailable { bytes in
            for byte in bytes {
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "["), UInt8(ascii: "]"):
                    continue
                default: return false
                }
            }
            return !bytes.isEmpty
        } ?? false
    }

    func write(_ collection: String, _ id: UnsafeBufferPointer<UInt8>, _ writer: inout JSONWriter) {
        writer.key("links")
        writer.beginArray()
        writer.beginObject()
        writer.member("rel", "self")
        writer.key("href")
        writer.plain(selfPrefix, collection, id)
        writer.endObject()
        writer.beginObject()
        writer.member("rel", "bookmark")
        writer.key("href")
        writer.plain(bookmarkPrefix, collection, id)
        writer.endObject()
        writer.endArray()
    }

    /// The `next` link of a page: the request's query with another marker.
    func writeNext(_ key: String, path: String, request: HTTPRequest, marker: String, _ writer: inout JSONWriter) {
        var query = request.query.filter { $0.name != "marker" }.map {
            "\(PercentEncoding.encodeQuery($0.name))=\(PercentEncoding.encodeQuery($0.value))"
        }
        query.append("marker=" + PercentEncoding.encode(marker))
        writer.key(key)
        writer.beginArray()
        writer.beginObject()
        writer.member("rel", "next")
        writer.member("href", selfPrefix + path + "?" + query.joined(separator: "&"))
        writer.endObject()
        writer.endArray()
    }
}

extension HTTPResponse {
    /// An object of one member.
    static func json(of key: String, _ value: JSON) -> HTTPResponse {
        .json { writer in
            writer.beginObject()
            writer.key(key)
            writer.value(value)
            writer.endObject()
        }
    }
}
