import HTTPServer
import JSON

/// URLs of answers: with the project's id exactly if the request's had it.
struct Links: Sendable {
    /// `http://host/v3/project/`
    let selfPrefix: String
    /// The same without the version.
    let bookmarkPrefix: String

    init(_ request: HTTPRequest, publicEndpoint: String, projectSegment: Substring?) {
        let base = Links.base(request, publicEndpoint: publicEndpoint)
        let project = projectSegment.map { PercentEncoding.encode(String($0)) }
        selfPrefix = Links.prefix(base, "/v3/", project)
        bookmarkPrefix = Links.prefix(base, "/", project)
    }

    /// Joins the parts, with a slash after the project, in one allocation: this is done for every request.
    private static func prefix(_ base: String, _ version: String, _ project: String?) -> String {
        var text = ""
        text.reserveCapacity(base.utf8.count + version.utf8.count + (project?.utf8.count ?? 0) + 1)
        text += base
        text += version
        if let project {
            text += project
            text += "/"
        }
        return text
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

    /// `self` and `bookmark` of one resource, as an array.
    func write(_ collection: String, _ id: UnsafeBufferPointer<UInt8>, _ writer: inout JSONWriter) {
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
    func writeNext(_ key: StaticString, path: String, request: HTTPRequest, marker: String, _ writer: inout JSONWriter) {
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
