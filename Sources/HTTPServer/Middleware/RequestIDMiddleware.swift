import Primitives

/// Generates the request's id, accepts the caller's global request id, and adds the id to the response.
public struct RequestIDMiddleware: AdmittingMiddleware, CompletingMiddleware {
    public init() {}

    public func admit(_ request: HTTPRequest) -> Admission {
        request.requestID = UUID.random(prefix: "req-")
        if let given = request.header("X-OpenStack-Request-ID"), Self.isRequestID(given) { request.globalRequestID = given }
        return .pass
    }

    public func complete(_ response: inout HTTPResponse, of request: HTTPRequest) {
        response.headers.append((name: "x-openstack-request-id", value: request.requestID))
        if request.reachedController { response.headers.append((name: "x-compute-request-id", value: request.requestID)) }
    }

    /// Whether the text is `req-` and a UUID: other texts must not get into logs and messages as an id.
    static func isRequestID(_ text: String) -> Bool {
        text.hasPrefix("req-") && text.utf8.count == 40 && UUID.isUUIDLike(String(text.dropFirst(4)))
    }
}
