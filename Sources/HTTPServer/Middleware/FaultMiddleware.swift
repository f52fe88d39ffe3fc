public import Logging

/// Turns thrown errors into responses. An error that is not an `HTTPError` is a bug or an internal failure: it is logged with the
/// request's id and answered with 500, without its text.
public struct FaultMiddleware: FaultAnsweringMiddleware, CompletingMiddleware {
    private let log: Logger
    private let translate: @Sendable (any Error) -> HTTPError?

    /// - Parameter translate: maps domain errors to HTTP errors; nil for errors it does not know.
    public init(log: Logger, translate: @escaping @Sendable (any Error) -> HTTPError? = { _ in nil }) {
        self.log = log
        self.translate = translate
    }

    public func response(to error: any Error, of request: HTTPRequest) -> HTTPResponse? {
        if let known = error as? HTTPError ?? translate(error) { return known.response() }
        log.error(
            "request failed: \(error)",
            metadata: ["request_id": "\(request.requestID)", "method": "\(request.method)", "path": "\(request.rawPath)"])
        return HTTPError(500, "The server has either erred or is incapable of performing the requested operation.").response()
    }

    public func complete(_ response: inout HTTPResponse, of request: HTTPRequest) {
        if let version = request.apiVersionHeader {
            response.headers.append((name: "OpenStack-API-Version", value: version.text))
            response.headers.append((name: "Vary", value: "OpenStack-API-Version"))
        }
    }
}
