import Primitives

/// Gives every request an id of its own, takes over the caller's global one, and puts the id on every answer.
public struct RequestIDMiddleware: Middleware {
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

    /// `req-` and a UUID: nothing else may reach logs and messages under the name of an id.
    static func isRequestID(_ text: String) -> Bool {
        text.hasPrefix("req-") && text.utf8.count == 40 && UUID.isUUIDLike(String(text.dropFirst(4)))
    }
}
