/// `/healthcheck` for load balancers, as oslo.middleware answers it: 200 (HEAD: 204), or 503 while a check fails.
public struct HealthcheckMiddleware: AdmittingMiddleware {
    private let checks: Healthcheck
    public static let route = Route("healthcheck")

    /// Version of the program, shown with details of the process and of each check; nil: neither is shown.
    public var detailedVersion: String?
    /// Addresses that are answered; empty for all.
    public var allowed: [AddressRange] = []
    /// Whether requests that came through a proxy are not answered.
    public var ignoresProxied = false
    /// Why the service is not healthy though no check fails; nil if it is. Called at every request, so it must be fast.
    private let trouble: @Sendable () -> String?

    public init(_ checks: Healthcheck, trouble: @escaping @Sendable () -> String? = { nil }) {
        self.checks = checks
        self.trouble = trouble
    }

    public func admit(_ request: HTTPRequest) -> Admission {
        guard request.rawPath == "/healthcheck", request.method == "GET" || request.method == "HEAD", isAnswered(request) else {
            return .pass
        }
        request.route = Self.route
        return .answer(response(to: request))
    }

    private static let proxyHeaders: [StaticString] = [
        "X-Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Prefix",
    ]

    /// To others the path is one of those that do not exist.
    private func isAnswered(_ request: HTTPRequest) -> Bool {
        guard allowed.isEmpty || allowed.contains(where: { $0.contains(request.remoteAddress) }) else { return false }
        return !ignoresProxied || Self.proxyHeaders.allSatisfy { (request.header($0) ?? "").isEmpty }
    }

    private func response(to request: HTTPRequest) -> HTTPResponse {
        var results = checks.run()
        if results.allSatisfy(\.isHealthy), let reason = trouble() { results = [Healthcheck.Result(isHealthy: false, reason: reason)] }
        let isHealthy = results.allSatisfy(\.isHealthy)
        if request.method == "HEAD" { return HTTPResponse(status: isHealthy ? 204 : 503, contentType: nil) }
        let type = AcceptedTypes(request.header("Accept")).best(of: HealthcheckBody.types) ?? HealthcheckBody.types[0]
        return HealthcheckBody(results: results, details: detailedVersion.map { HealthcheckBody.Details(version: $0) })
            .response(isHealthy ? 200 : 503, as: type)
    }
}
