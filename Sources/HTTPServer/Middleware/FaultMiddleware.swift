public import Logging

/// Turns errors into answers. What is not an `HTTPError` is our own failure: it is logged with the request's id and
/// answered 500 without its text.
public struct FaultMiddleware: Middleware {
    private let log: Logger
    private let translate: @Sendable (any Error) -> HTTPError?

    /// `translate` knows the errors of the domain.
    public init(log: Logger, translate: @escaping @Sendable (any Error) -> HTTPError? = { _ in nil }) {
        self.log = log
        self.translate = translate
    }

    public func handle(_ request: HTTPRequest, next: Responder) async throws -> HTTPResponse {
        var response: HTTPResponse
        do {
            response = try await next(request)
        } catch let error as HTTPError {
            response = error.response()
        } catch {
            if let known = translate(error) {
                response = known.response()
            } else {
                log.error(
                    "request failed: \(error)",
                    metadata: ["request_id": "\(request.requestID)", "method": "\(request.method)", "path": "\(request.rawPath)"])
                response = HTTPError(
                    500, "The server has either erred or is incapable of performing the requested operation."
                ).response()
            }
        }
        if let version = request.apiVersionHeader {
            response.headers.append((name: "OpenStack-API-Version", value: version.text))
            response.headers.append((name: "Vary", value: "OpenStack-API-Version"))
        }
        return response
    }
}
