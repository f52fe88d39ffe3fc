/// `/metrics` for Prometheus.
public struct MetricsMiddleware: AdmittingMiddleware {
    private let write: @Sendable () async throws -> String
    public static let route = Route("metrics")

    /// - Parameter write: returns the metrics; it may read the database.
    public init(_ write: @escaping @Sendable () async throws -> String) { self.write = write }

    public func admit(_ request: HTTPRequest) throws -> Admission {
        guard request.rawPath == "/metrics", request.method == "GET" else { return .pass }
        request.route = Self.route
        return .waiting { [write] in
            HTTPResponse(status: 200, body: .text(try await write()), contentType: "text/plain; version=0.0.4; charset=utf-8")
        }
    }
}
