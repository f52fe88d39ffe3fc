/// The result of a request: its response, or work that waits for something and then returns the response.
public enum Answer: Sendable {
    case ready(HTTPResponse)
    case waiting(@Sendable () async throws -> HTTPResponse)

    /// The response, waited for where need be.
    public var response: HTTPResponse {
        get async throws {
            switch self {
            case .ready(let response): response
            case .waiting(let work): try await work()
            }
        }
    }
}

/// Answers a request. It runs on the connection's thread and must not block; work that has to wait is returned as `Answer.waiting`.
public typealias Responder = @Sendable (HTTPRequest) throws -> Answer

/// What a middleware says to a request on its way in.
public enum Admission: Sendable {
    case pass
    /// The response; nothing further in sees the request.
    case answer(HTTPResponse)
    /// The work gives the response; the request passes if it gives none, and is refused if it throws.
    case waiting(@Sendable () async throws -> HTTPResponse?)
}

/// One concern on a request's way in and its response's way out.
public protocol Middleware: Sendable {
    /// The way in. An error is answered by a middleware further out.
    func admit(_ request: HTTPRequest) throws -> Admission
    /// The response to an error from further in; nil if that is another's concern.
    func response(to error: any Error, of request: HTTPRequest) -> HTTPResponse?
    /// The way out: of responses from further in, and of this middleware's own.
    func complete(_ response: inout HTTPResponse, of request: HTTPRequest)
}

extension Middleware {
    public func admit(_ request: HTTPRequest) throws -> Admission { .pass }
    public func response(to error: any Error, of request: HTTPRequest) -> HTTPResponse? { nil }
    public func complete(_ response: inout HTTPResponse, of request: HTTPRequest) {}
}

extension [any Middleware] {
    /// Builds the chain; the first middleware is the outermost. The chain never throws.
    public func chain(to responder: @escaping Responder) -> Responder {
        let chain = MiddlewareChain(middlewares: self, responder: responder)
        return { chain.answer($0, from: 0) }
    }
}

/// Leads requests through the middlewares to the responder, and responses back. A request that waits for nothing needs no task.
private struct MiddlewareChain: Sendable {
    let middlewares: [any Middleware]
    let responder: Responder

    /// `start` is the first middleware that has not seen the request.
    func answer(_ request: HTTPRequest, from start: Int) -> Answer {
        var depth = start
        do {
            while depth < middlewares.count {
                switch try middlewares[depth].admit(request) {
                case .pass: depth += 1
                case .answer(let response): return .ready(completed(response, request, within: depth + 1))
                case .waiting(let admission):
                    return .waiting { [depth] in
                        do {
                            if let response = try await admission() { return completed(response, request, within: depth + 1) }
                        } catch { return refused(error, request, within: depth) }
                        return try await answer(request, from: depth + 1).response
                    }
                }
            }
            switch try responder(request) {
            case .ready(let response): return .ready(completed(response, request, within: depth))
            case .waiting(let work):
                return .waiting {
                    do {
                        return completed(try await work(), request, within: middlewares.count)
                    } catch { return refused(error, request, within: middlewares.count) }
                }
            }
        } catch { return .ready(refused(error, request, within: depth)) }
    }

    /// The response after the first `count` middlewares, from the innermost of them outwards.
    private func completed(_ response: HTTPResponse, _ request: HTTPRequest, within count: Int) -> HTTPResponse {
        var response = response
        var depth = count
        while depth > 0 {
            depth -= 1
            middlewares[depth].complete(&response, of: request)
        }
        return response
    }

    /// The response to an error that only the first `count` middlewares have not caused.
    private func refused(_ error: any Error, _ request: HTTPRequest, within count: Int) -> HTTPResponse {
        var depth = count
        while depth > 0 {
            depth -= 1
            if let response = middlewares[depth].response(to: error, of: request) { return completed(response, request, within: depth + 1) }
        }
        return completed(HTTPResponse(status: 500, contentType: nil), request, within: count)
    }
}
