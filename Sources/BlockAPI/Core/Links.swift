import HTTPServer
import JSON

/// URLs of answers: with the project's id exactly if the request's had it.
struct Links: Sendable {
    /// What stands before the collection in the two links of a resource, as it is written: lists write it for every row. The URLs begin with
    /// `http://host/v3/project/`, and with the same without the version.
    private let beforeSelf, beforeBookmark: String
    private static let selfHead = #"[{"rel":"self","href":""#
    private static let bookmarkHead = #""},{"rel":"bookmark","href":""#
    private static let end: StaticString = #""}]"#

    init(_ request: HTTPRequest, publicEndpoint: String, projectSegment: Substring?) {
        let base = Base(request, publicEndpoint: publicEndpoint)
        beforeSelf = Links.prefix(Links.selfHead, base, "/v3/", projectSegment)
        beforeBookmark = Links.prefix(Links.bookmarkHead, base, "/", projectSegment)
    }

    /// Joins the parts, with a slash after the project, in one allocation: this is done for every request.
    private static func prefix(_ head: String, _ base: Base, _ version: String, _ project: Substring?) -> String {
        var text = ""
        text.reserveCapacity(head.utf8.count + base.length + version.utf8.count + (project?.utf8.count ?? 0) + 1)
        text += head
        text += base.scheme
        text += base.host
        text += base.path
        text += version
        if let project {
            PercentEncoding.encode(project, into: &text)
            text += "/"
        }
        return text
    }

    /// What stands before every path of ours: the public endpoint, or what the client, or the proxy in front of us, reached. In parts,
    /// which are short enough to need no memory.
    struct Base {
        /// `http://`, or empty where `host` has it.
        let scheme: String
        let host: String
        let path: String

        init(_ request: HTTPRequest, publicEndpoint: String) {
            guard publicEndpoint.isEmpty else {
                let hasSlash = publicEndpoint.utf8.last == UInt8(ascii: "/")
                (scheme, host, path) = ("", hasSlash ? String(publicEndpoint.dropLast()) : publicEndpoint, "")
                return
            }
            let given = request.forwarded?.host ?? request.header("Host") ?? ""
            host = Links.isHost(given) ? given : "localhost"
            scheme = request.scheme
            path = request.forwarded?.prefix ?? ""
        }

        var length: Int { scheme.utf8.count + host.utf8.count + path.utf8.count }
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
    func write(_ collection: StaticString, _ id: UnsafeBufferPointer<UInt8>, _ writer: inout JSONWriter) {
        writer.raw(beforeSelf)
        writer.more(collection)
        writer.more(id)
        writer.more(beforeBookmark)
        writer.more(collection)
        writer.more(id)
        writer.more(Links.end)
    }

    /// The `next` link of a page: the request's query with another marker.
    func writeNext(_ key: StaticString, path: String, request: HTTPRequest, marker: String, _ writer: inout JSONWriter) {
        var url = ""
        url.reserveCapacity(beforeSelf.utf8.count + path.utf8.count + request.rawQuery.utf8.count + marker.utf8.count + 16)
        url += beforeSelf[beforeSelf.utf8.index(beforeSelf.startIndex, offsetBy: Links.selfHead.utf8.count)...]
        url += path
        url += "?"
        for item in request.query where item.name != "marker" {
            PercentEncoding.encodeQuery(item.name, into: &url)
            url += "="
            PercentEncoding.encodeQuery(item.value, into: &url)
            url += "&"
        }
        url += "marker="
        PercentEncoding.encode(marker[...], into: &url)
        writer.key(key)
        writer.beginArray()
        writer.beginObject()
        writer.member("rel", "next")
        writer.member("href", url)
        writer.endObject()
        writer.endArray()
    }
}
