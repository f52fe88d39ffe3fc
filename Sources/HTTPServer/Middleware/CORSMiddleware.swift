/// Cross-origin requests (https://fetch.spec.whatwg.org/#http-cors-protocol): preflight requests are answered here, and
/// responses to allowed origins name them. OPTIONS is answered 200 on every path, as Cinder's pipeline does.
public struct CORSMiddleware: AdmittingMiddleware, CompletingMiddleware {
    private let origins: [String]

    public init(allowedOrigins: [String]) { origins = allowedOrigins }

    public func admit(_ request: HTTPRequest) -> Admission {
        Self.isPreflight(request) ? .answer(HTTPResponse(status: 200, contentType: nil)) : .pass
    }

    private static func isPreflight(_ request: HTTPRequest) -> Bool { request.method == "OPTIONS" && request.refusal == nil }

    public func complete(_ response: inout HTTPResponse, of request: HTTPRequest) {
        guard !origins.isEmpty else { return }
        if let origin = request.header("Origin"), let allowed = origins.first(where: { $0 == "*" || $0 == origin }) {
            response.headers.append((name: "Access-Control-Allow-Origin", value: allowed))
            response.headers.append((name: "Vary", value: "Origin"))
            if Self.isPreflight(request) {
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
    }
}
