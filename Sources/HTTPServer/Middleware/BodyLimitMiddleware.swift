/// Refuses bodies above the limit (before they are read, if their length is announced) and requests whose framing is ambiguous.
public struct BodyLimitMiddleware: Middleware {
    private let limit: Int

    public init(limit: Int) { self.limit = limit }

    public func handle(_ request: HTTPRequest, next: Responder) async throws -> HTTPResponse {
        if let reason = request.refusal { throw HTTPError(400, reason, isPlain: true, headers: [(name: "Connection", value: "close")]) }
        if request.bodyIsTooLarge || (request.declaredLength ?? 0) > limit {
            throw HTTPError(
                413, "Request is too large. Larger than max_request_body_size (\(limit)).", isPlain: true,
                headers: [(name: "Connection", value: "close")])
        }
        return try await next(request)
    }
}
