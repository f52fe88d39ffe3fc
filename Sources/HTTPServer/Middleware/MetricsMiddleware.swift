/// `/metrics` for Prometheus.
public struct MetricsMiddleware: Middleware {
    private let write: @Sendable () async throws -> String
    public static let route = Route("metrics")

    /// `write` gives the text; it may read the database.
    public init(_ write: @escaping @Sendable () async throws -> String) { self.write = write }

    public func handle(_ request: HTTPRequest, next: Responder) async throws -> HTTPResponse {
        guard request.rawPath == "/metrics", request.method == "GET" else { return try await next(request) }
        request.route = Self.route
        return HTTPResponse(status: 200, body: .text(try await write()), contentType: "text/plain; version=0.0.4; charset=utf-8")
    }
}
