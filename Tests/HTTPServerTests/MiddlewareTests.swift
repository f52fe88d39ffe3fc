import HTTPServer
import Primitives
import TestSupport
import Testing

/// Notes what it sees, and does at one place what the test asks for.
private struct Step: AdmittingMiddleware, FaultAnsweringMiddleware, CompletingMiddleware {
    let name: String
    let seen: Seen
    var admission: @Sendable () throws -> Admission = { .pass }
    var isResponsibleForErrors = false

    func admit(_ request: HTTPRequest) throws -> Admission {
        seen.add("in \(name)")
        return try admission()
    }

    func response(to error: any Error, of request: HTTPRequest) -> HTTPResponse? {
        guard isResponsibleForErrors else { return nil }
        seen.add("error at \(name)")
        return HTTPResponse(status: 409)
    }

    func complete(_ response: inout HTTPResponse, of request: HTTPRequest) { seen.add("out \(name)") }
}

private final class Seen: Sendable {
    private let list = Guarded<[String]>([])
    func add(_ text: String) { list.withLock { $0.append(text) } }
    var all: [String] { list.withLock { $0 } }
}

private struct Refusal: Error {}

@Suite("Middleware")
struct MiddlewareTests {
    private let seen = Seen()

    private func status(_ middle: Step, _ responder: @escaping Responder) async throws -> Int {
        let chain: [any Middleware] = [
            Step(name: "outer", seen: seen), Step(name: "faults", seen: seen, isResponsibleForErrors: true), middle,
            Step(name: "inner", seen: seen),
        ]
        return try await chain.chain(to: responder)(HTTPRequest(method: "GET", uri: "/")).response.status
    }

    private var middle: Step { Step(name: "middle", seen: seen) }

    private static let found: Responder = { _ in .ready(HTTPResponse(status: 200)) }

    @Test("a request passes inwards and its response outwards, whether somebody waits or not", arguments: [false, true])
    func passing(waits: Bool) async throws {
        var middle = middle
        middle.admission = {
            guard waits else { return .pass }
            return .waiting {
                await Task.yield()
                return nil
            }
        }
        #expect(
            try await status(middle) { _ in
                let response = HTTPResponse(status: 200)
                guard waits else { return .ready(response) }
                return .waiting {
                    await Task.yield()
                    return response
                }
            } == 200)
        #expect(seen.all == ["in outer", "in faults", "in middle", "in inner", "out inner", "out middle", "out faults", "out outer"])
    }

    @Test(
        "a response from the middle is completed by it and by those further out, and nobody further in sees the request",
        arguments: [false, true])
    func early(waits: Bool) async throws {
        var middle = middle
        middle.admission = { waits ? .waiting { HTTPResponse(status: 204) } : .answer(HTTPResponse(status: 204)) }
        #expect(try await status(middle, Self.found) == 204)
        #expect(seen.all == ["in outer", "in faults", "in middle", "out middle", "out faults", "out outer"])
    }

    @Test("an error on the way in is answered by who is further out, at once or after waiting", arguments: [false, true])
    func refused(waits: Bool) async throws {
        var middle = middle
        middle.admission = {
            guard waits else { throw Refusal() }
            return .waiting { throw Refusal() }
        }
        #expect(try await status(middle, Self.found) == 409)
        #expect(seen.all == ["in outer", "in faults", "in middle", "error at faults", "out faults", "out outer"])
    }

    @Test("an error of the responder is answered in the same way", arguments: [false, true])
    func failed(waits: Bool) async throws {
        #expect(
            try await status(middle) { _ in
                guard waits else { throw Refusal() }
                return .waiting { throw Refusal() }
            } == 409)
        #expect(
            seen.all == ["in outer", "in faults", "in middle", "in inner", "error at faults", "out faults", "out outer"])
    }
}
