/// What answers a request.
public typealias Responder = @Sendable (HTTPRequest) async throws -> HTTPResponse

/// One concern on a request's way in and its answer's way out.
public protocol Middleware: Sendable {
    func handle(_ request: HTTPRequest, next: Responder) async throws -> HTTPResponse
}

extension [any Middleware] {
    /// The chain, first middleware outermost, built once.
    public func chain(to responder: @escaping Responder) -> Responder {
        reversed().reduce(responder) { next, middleware in { try await middleware.handle($0, next: next) } }
    }
}
