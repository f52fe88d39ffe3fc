import Glibc
import JSON

/// `/healthcheck` for load balancers, as oslo.middleware answers it: 200 (HEAD: 204), or 503 while a file disables the
/// service.
public struct HealthcheckMiddleware: AdmittingMiddleware {
    private let disablingFile: String
    public static let route = Route("healthcheck")

    /// Why the service is not healthy though no file disables it; nil if it is. Called at every check, so it must be fast.
    private let trouble: @Sendable () -> String?

    public init(disablingFile: String, trouble: @escaping @Sendable () -> String? = { nil }) {
        self.disablingFile = disablingFile
        self.trouble = trouble
    }

    public func admit(_ request: HTTPRequest) -> Admission {
        guard request.rawPath == "/healthcheck", request.method == "GET" || request.method == "HEAD" else { return .pass }
        request.route = Self.route
        return .answer(response(to: request))
    }

    private func response(to request: HTTPRequest) -> HTTPResponse {
        let isDisabled = !disablingFile.isEmpty && access(disablingFile, F_OK) == 0
        let problem = isDisabled ? "DISABLED BY FILE" : trouble()
        if request.method == "HEAD" { return HTTPResponse(status: problem == nil ? 204 : 503, contentType: nil) }
        let reason = problem ?? "OK"
        let status = problem == nil ? 200 : 503
        guard request.header("Accept")?.contains("application/json") ?? false else {
            return HTTPResponse(status: status, body: .text(reason), contentType: "text/plain; charset=UTF-8")
        }
        return .json(status) { writer in
            writer.beginObject()
            writer.member("detailed", false)
            writer.key("reasons")
            writer.beginArray()
            writer.string(reason)
            writer.endArray()
            writer.endObject()
        }
    }
}
