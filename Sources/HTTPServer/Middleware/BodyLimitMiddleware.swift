/// A check of a request's head before it is handled. Checks must not block.
public protocol RequestCheck: Sendable {
    func check(_ request: HTTPRequest) throws(HTTPError)
}

/// Refuses bodies above the limit (before they are read, if their length is announced), queries with too many parameters, and requests
/// with ambiguous framing.
public struct BodyLimitMiddleware: AdmittingMiddleware {
    private static let mostQueryItems = 500
    private let limit: Int

    private let checks: [any RequestCheck]

    /// - Parameters:
    ///   - limit: the largest body in bytes.
    ///   - checks: run after the limits, in this order.
    public init(limit: Int, checks: [any RequestCheck] = []) {
        self.limit = limit
        self.checks = checks
    }

    public func admit(_ request: HTTPRequest) throws -> Admission {
        if let reason = request.refusal { throw HTTPError(400, reason, isPlain: true, headers: [(name: "Connection", value: "close")]) }
        if request.bodyIsTooLarge || (request.declaredLength ?? 0) > limit {
            throw HTTPError(
                413, "Request is too large. Larger than max_request_body_size (\(limit)).", isPlain: true,
                headers: [(name: "Connection", value: "close")])
        }
        if !request.rawQuery.isEmpty {
            var count = 1
            for byte in request.rawQuery.utf8 where byte == UInt8(ascii: "&") { count += 1 }
            guard count <= Self.mostQueryItems else {
                throw HTTPError(414, "The query has more than \(Self.mostQueryItems) items.", isPlain: true)
            }
        }
        for check in checks { try check.check(request) }
        return .pass
    }
}
