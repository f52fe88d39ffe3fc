import HTTPServer
import JSON
import Primitives

/// `GET /openapi.json`: the API's description, made of its declarations; public, as version discovery is.
final class APIDescription: Sendable {
    static let route = Route("openapi:show")
    static let path = "/openapi.json"

    private let operations: [APIOperation]
    /// One text for each microversion that was asked for: there are no more than microversions.
    private let documents = Guarded<[Int: String]>([:])

    init(_ operations: [APIOperation]) { self.operations = operations }

    /// nil: something else was asked for.
    func respond(_ request: HTTPRequest) throws(HTTPError) -> HTTPResponse? {
        guard request.rawPath == Self.path, request.method == "GET" || request.method == "HEAD" else { return nil }
        request.route = Self.route
        for (name, _) in request.query where name != "microversion" {
            throw .badRequest("Invalid input received: \(name) is not known here, only microversion is.")
        }
        var version = APIVersion.latest
        if let asked = request.queryValue("microversion") {
            guard let known = APIVersion.all.first(where: { "3.\($0)" == asked }) else {
                throw .badRequest("Invalid input received: microversion must be one of 3.0 to 3.\(APIVersion.latest), not '\(asked)'.")
            }
            version = known
        }
        return HTTPResponse(status: 200, body: .text(document(version)))
    }

    /// The description of the API at a microversion, as JSON text.
    func document(_ version: Int) -> String {
        if let known = documents.withLock({ $0[version] }) { return known }
        let text = OpenAPIDocument(operations, version: version).json.text
        documents.withLock { $0[version] = text }
        return text
    }
}
