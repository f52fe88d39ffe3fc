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

/// One concern on a request's way in and its response's way out: it conforms to those of the protocols below whose way it stands in.
public protocol Middleware: Sendable {}

public protocol AdmittingMiddleware: Middleware {
    /// The way in. An error is answered by a middleware further out.
    func admit(_ request: HTTPRequest) throws -> Admission
}

public protocol FaultAnsweringMiddleware: Middleware {
    /// The response to an error from further in; nil if that is another's concern.
    func response(to error: any Error, of request: HTTPRequest) -> HTTPResponse?
}

public protocol CompletingMiddleware: Middleware {
    /// The way out: of responses from further in, and of this middleware's own.
    func complete(_ response: inout HTTPResponse, of request: HTTPRequest)
}

extension [any Middleware] {
    /// Builds the chain; the first middleware is the outermost. The chain never throws.
    public func chain(to responder: @escaping Responder) -> Responder {
        let chain = MiddlewareChain(self, responder)
        return { chain.answer($0, from: 0) }
    }
}

/// Leads requests through the middlewares to the responder, and responses back. A request that waits for nothing needs no task.
private struct MiddlewareChain: Sendable {
    /// Headers that middlewares usually add: room for them is made at once.
    private static let addedHeaders = 6

    private let responder: Responder
    /// The number of middlewares.
    private let depth: Int
    /// Those that do something on each way, each with the number of those further out: the outermost first on the way in, the innermost
    /// first on the way out.
    private let admitting: [(depth: Int, middleware: any AdmittingMiddleware)]
    private let completing: [(depth: Int, middleware: any CompletingMiddleware)]
    private let answeringFaults: [(depth: Int, middleware: any FaultAnsweringMiddleware)]

    init(_ middlewares: [any Middleware], _ responder: @escaping Responder) {
        self.responder = responder
        depth = middlewares.count
        admitting = middlewares.enumerated().compactMap { depth, one in (one as? any AdmittingMiddleware).map { (depth, $0) } }
        completing = middlewares.enumerated().reversed().compactMap { depth, one in (one as? any CompletingMiddleware).map { (depth, $0) } }
        answeringFaults = middlewares.enumerated().reversed().compactMap { depth, one in
            (one as? any FaultAnsweringMiddleware).map { (depth, $0) }
        }
    }

    /// `start`: the index of the first admitting middleware that has not seen the request.
    func answer(_ request: HTTPRequest, from start: Int) -> Answer {
        var index = start
        do {
            while index < admitting.count {
                let (depth, middleware) = admitting[index]
                switch try middleware.admit(request) {
                case .pass: index += 1
                case .answer(let response): return .ready(completed(response, request, within: depth + 1))
                case .waiting(let admission):
                    return .waiting { [index] in
                        do {
                            if let response = try await admission() { return completed(response, request, within: depth + 1) }
                        } catch { return refused(error, request, within: depth) }
                        return try await answer(request, from: index + 1).response
                    }
                }
            }
            switch try responder(request) {
            case .ready(let response): return .ready(completed(response, request, within: depth))
            case .waiting(let work):
                return .waiting {
                    do {
                        return completed(try await work(), request, within: depth)
                    } catch { return refused(error, request, within: depth) }
                }
            }
        } catch { return .ready(refused(error, request, within: index < admitting.count ? admitting[index].depth : depth)) }
    }

    /// The response after the first `count` middlewares, from the innermost of them outwards.
    // Not inlined, nor is `refused`: the frames of requests that wait would have room for all that is in them.
    @inline(never)
    private func completed(_ response: HTTPResponse, _ request: HTTPRequest, within count: Int) -> HTTPResponse {
        var response = response
        if response.headers.isEmpty { response.headers = request.takeHeaderRoom() }
        response.headers.reserveCapacity(response.headers.count + Self.addedHeaders)
        for (depth, middleware) in completing where depth < count { middleware.complete(&response, of: request) }
        return response
    }

    /// The response to an error that only the first `count` middlewares have not caused.
    @inline(never)
    private func refused(_ error: any Error, _ request: HTTPRequest, within count: Int) -> HTTPResponse {
        for (depth, middleware) in answeringFaults where depth < count {
            if let response = middleware.response(to: error, of: request) { return completed(response, request, within: depth + 1) }
        }
        return completed(HTTPResponse(status: 500, contentType: nil), request, within: count)
    }
}
