import HTTPServer
import JSON

/// Version discovery, answered to anybody in every auth mode: clients ask before they have a token.
enum Discovery {
    static let root = Route("versions:root")
    static let shown = Route("versions:show")

    /// Whether the path is one that everybody may ask for.
    static func isPublic(_ request: HTTPRequest) -> Bool {
        request.rawPath == "/" || request.rawPath.isEmpty || request.rawPath == APIDescription.path
    }

    static func respond(_ request: HTTPRequest, publicEndpoint: String) throws(HTTPError) -> HTTPResponse {
        switch (request.method, request.rawPath) {
        case ("GET", "/"), ("GET", ""), ("HEAD", "/"), ("HEAD", ""):
            request.route = root
            return versions(request, publicEndpoint: publicEndpoint, status: 300)
        default: throw HTTPError.noRoute
        }
    }

    /// `/v3` 302, `/v3/` and `/v3/{project_id}` 200.
    static func respondV3(_ request: HTTPRequest, publicEndpoint: String, hasSlash: Bool, project: Substring?) throws(HTTPError)
        -> HTTPResponse
    {
        guard request.method == "GET" || request.method == "HEAD" else { throw HTTPError.noRoute }
        request.route = shown
        if project == nil && !hasSlash {
            let base = Links.Base(request, publicEndpoint: publicEndpoint)
            return HTTPResponse(
                status: 302, headers: [(name: "Location", value: base.scheme + base.host + base.path + "/v3/")],
                contentType: "text/plain; charset=utf8")
        }
        return versions(request, publicEndpoint: publicEndpoint, status: 200)
    }

    /// The document around the one part that depends on the request: asked often, by everybody, so written once.
    private static let document: (before: String, after: String) = {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("versions")
        writer.beginArray()
        writer.beginObject()
        writer.member("id", "v3.0")
        writer.member("status", "CURRENT")
        writer.member("version", "3.\(APIVersion.latest)")
        writer.member("min_version", "3.0")
        writer.member("updated", "2023-08-31T00:00:00Z")
        writer.key("links")
        writer.beginArray()
        writer.beginObject()
        writer.member("rel", "describedby")
        writer.member("type", "text/html")
        writer.member("href", "https://docs.openstack.org/")
        writer.endObject()
        writer.beginObject()
        writer.member("rel", "self")
        writer.member("href", "<base>/v3/")
        writer.endObject()
        writer.endArray()
        writer.key("media-types")
        writer.beginArray()
        writer.beginObject()
        writer.member("base", "application/json")
        writer.member("type", "application/vnd.openstack.volume+json;version=3")
        writer.endObject()
        writer.endArray()
        writer.endObject()
        writer.endArray()
        writer.endObject()
        let parts = writer.takeString().split(separator: "<base>").map(String.init)
        return (parts[0], parts[1])
    }()

    private static func versions(_ request: HTTPRequest, publicEndpoint: String, status: Int) -> HTTPResponse {
        request.reachedController = true
        // A client that asks in a version's name hears that version; discovery itself is the same in all of them.
        request.apiVersionHeader = APIVersion.headers[(try? APIVersion.negotiate(request.list("OpenStack-API-Version"))) ?? 0]
        // Hosts were checked and the public endpoint is an operator's: neither needs an escape.
        var writer = JSONWriter(capacity: 480)
        let base = Links.Base(request, publicEndpoint: publicEndpoint)
        writer.raw(document.before)
        writer.more(base.scheme)
        writer.more(base.host)
        writer.more(base.path)
        writer.more(document.after)
        return HTTPResponse(status: status, body: .buffer(writer.take()))
    }
}
