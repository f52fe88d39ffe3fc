import HTTPClient
import JSON
import Primitives

/// Selects an endpoint of a service in the catalogue.
struct Endpoint: Hashable, Sendable {
    let type, interface: String
    /// nil for the first region.
    let region: String?
}

/// What Keystone knows beside tokens: projects, and the services of its catalogue.
extension Keystone {
    /// Whether the project exists, asked with a user's token.
    public func knowsProject(_ id: String, token: Secret) async throws(Unavailable) -> Bool {
        guard id.utf8.allSatisfy({ $0 == 45 || $0 == 95 || (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) })
        else { return false }
        let answer = await Task(executorPreference: others) { () -> Result<Bool, Unavailable> in
            do throws(Unavailable) {
                let response = try self.exchange(
                    "GET", "/v3/projects/\(id)", headers: [(name: "X-Auth-Token", value: token.reveal())], body: nil)
                switch response.status {
                case 200: return .success(true)
                case 404: return .success(false)
                default: throw Unavailable(description: "Keystone answered \(response.status) about a project")
                }
            } catch { return .failure(error) }
        }.value
        return try answer.get()
    }

    /// Sends a request to a service of the catalogue, with Clinker's own token or a user's. `path` is appended to the endpoint's URL;
    /// with a body it is a POST, unless another method is named.
    func ask(
        _ service: Endpoint, _ path: String, _ body: JSON? = nil, method: String? = nil, headers: [(name: String, value: String)] = [],
        token: Secret? = nil,
        through client: HTTPClient, timeout: Double
    ) async throws(Unavailable) -> HTTPClient.Response {
        let answer = await Task(executorPreference: others) { () -> Result<HTTPClient.Response, Unavailable> in
            do throws(Unavailable) {
                return .success(
                    try self.askNow(
                        service, path, body, method: method, headers: headers, token: token, through: client, timeout: timeout))
            } catch { return .failure(error) }
        }.value
        return try answer.get()
    }

    private func askNow(
        _ service: Endpoint, _ path: String, _ body: JSON?, method: String?, headers: [(name: String, value: String)], token: Secret?,
        through client: HTTPClient, timeout: Double
    ) throws(Unavailable) -> HTTPClient.Response {
        // A refused user token is the user's problem; our own is renewed.
        var refusedOwn = token != nil
        while true {
            let mine = try ownToken()
            let url = try url(of: service, token: mine)
            var request = HTTPClient.Request(method ?? (body == nil ? "GET" : "POST"), url + path)
            request.body = body.map { Array($0.text.utf8) }
            request.headers =
                [(name: "X-Auth-Token", value: (token ?? mine).reveal()), (name: "Accept", value: "application/json")]
                + (body == nil ? [] : [(name: "Content-Type", value: "application/json")]) + headers
            request.timeout = timeout
            request.connectTimeout = min(timeout, connectTimeout)
            request.limit = 1 << 20
            let response: HTTPClient.Response
            do throws(HTTPClient.Failure) { response = try client.send(request) } catch {
                endpoints.withLock { $0[service] = nil }
                throw Unavailable(description: "\(service.type) at \(url): \(error)")
            }
            guard response.status == 401, !refusedOwn else { return response }
            refusedOwn = true
            own.withLock { if $0?.token == mine { $0 = nil } }
        }
    }

    /// The service's URL by the catalogue, which is read again now and then.
    func url(of service: Endpoint, token: Secret) throws(Unavailable) -> String {
        if let known = endpoints.withLock({ $0[service] }), known.until > Timestamp.monotonic() { return known.url }
        let response = try exchange("GET", "/v3/auth/catalog", headers: [(name: "X-Auth-Token", value: token.reveal())], body: nil)
        guard response.status == 200, let catalog = (try? JSON(parsing: response.body))?["catalog"]?.array else {
            throw Unavailable(description: "Keystone answered \(response.status) about the catalogue")
        }
        let found = catalog.first { $0["type"]?.string == service.type }?["endpoints"]?.array?.first {
            $0["interface"]?.string == service.interface && (service.region == nil || $0["region_id"]?.string == service.region)
        }
        guard var url = found?["url"]?.string else {
            throw Unavailable(
                description:
                    "the catalogue has no \(service.interface) endpoint of \(service.type)\(service.region.map { " in \($0)" } ?? "")")
        }
        while url.hasSuffix("/") { url.removeLast() }
        endpoints.withLock { $0[service] = (url: url, until: Timestamp.monotonic() + Self.catalogLife) }
        return url
    }

    /// The service does not answer where the catalogue said: it is asked again.
    func forget(_ service: Endpoint) { endpoints.withLock { $0[service] = nil } }

    /// Our own token is refused: the next use gets another one.
    func renew(_ refused: Secret) { own.withLock { if $0?.token == refused { $0 = nil } } }

    /// Seconds for which an endpoint is cached.
    private static let catalogLife = 300.0
}
