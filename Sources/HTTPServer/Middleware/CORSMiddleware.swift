/// Cross-origin requests (https://fetch.spec.whatwg.org/#http-cors-protocol): preflights are answered here, allowed
/// origins are named on answers. OPTIONS is answered 200 on every path, as Cinder's pipeline does.
public struct CORSMiddleware: Middleware {
    private let origins: [String]

    public init(allowedOrigins: [String]) { origins = allowedOrigins }

    public func handle(_ request: HTTPRequest, next: Responder) async throws -> HTTPResponse {
        let isPreflight = request.method == "OPTIONS" && request.refusal == nil
        guard !origins.isEmpty || isPreflight else { return try await next(request) }
        var response = isPreflight ? HTTPResponse(status: 200, contentType: nil) : try await next(request)
        if let origin = request.header("Origin"), let allowed = origins.first(where: { $0 == "*" || $0 == origin }) {
            response.headers.append((name: "Access-Control-Allow-Origin", value: allowed))
            response.headers.append((name: "Vary", value: "Origin"))
            if isPreflight {
                response.headers.append((name: "Access-Control-Allow-Methods", value: "GET, PUT, POST, DELETE, PATCH, HEAD"))
                response.headers.append(
                    (
                        name: "Access-Control-Allow-Headers",
                        value:
                            "X-Auth-Token, OpenStack-API-Version, Content-Type, X-OpenStack-Request-ID, If-Match, Idempotency-Key, Last-Event-ID"
                    ))
                response.headers.append((name: "Access-Control-Max-Age", value: "3600"))
            } else {
                response.headers.append(
                    (
                        name: "Access-Control-Expose-Headers", value: "x-openstack-request-id, OpenStack-API-Version, Etag"
                    ))
            }
        }
        return response
    }
}
