import Glibc
import JSON
import Logging
import Observability
import Primitives
import TestSupport
import Testing

@testable import HTTPServer

/// A server on a free port of loopback, in this process, and raw connections to it.
final class ServerUnderTest: Sendable {
    let port: UInt16
    private let server: HTTPServer
    private let sink: LogSink
    private let null: Int32

    init(
        log: Int32? = nil, bodyLimit: Int = 1000, connectionLimit: Int = 100, perAddress: Int = 0,
        requestTimeout: Int = 60, idleTimeout: Int = 5, tls: TLSEndpoint? = nil, handshakeTimeout: Int = 10, handshakes: Int = 0,
        isAudited: Bool = false, responder: @escaping Responder
    ) throws {
        let (descriptor, port) = try Loopback.listen()
        self.port = port
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        self.null = null
        sink = LogSink(descriptor: log ?? null)
        let chain: [any Middleware] = [
            RequestIDMiddleware(), CORSMiddleware(allowedOrigins: ["https://ok"]), FaultMiddleware(log: sink.logger("test")),
            BodyLimitMiddleware(limit: bodyLimit),
        ]
        var configuration = HTTPServer.Configuration(
            socket: descriptor, threads: 2, bodyLimit: bodyLimit, connectionLimit: connectionLimit, connectionLimitPerAddress: perAddress,
            requestTimeout: requestTimeout, idleTimeout: idleTimeout)
        configuration.tls = tls
        configuration.handshakeTimeout = handshakeTimeout
        configuration.handshakeLimitPerAddress = handshakes
        if isAudited { configuration.audit = AuditLog(sink.logger("audit"), form: .line) { _ in false } }
        server = try HTTPServer(configuration, log: sink, responder: chain.chain(to: responder))
    }

    deinit {
        // One that does not stop is still used by its threads, and stays.
        guard server.stop(within: 30) else {
            _ = Unmanaged.passRetained(server)
            return
        }
        close(null)
    }

    func flush() { sink.flush() }
    func stop(within seconds: Double) -> Bool { server.stop(within: seconds) }

    /// Sends bytes on a new connection and reads until the server closes it or is silent for a while.
    func exchange(_ text: String, silence: Int = 300) -> String {
        String(decoding: (try? Loopback.exchange(port, Array(text.utf8), silence: silence)) ?? [], as: UTF8.self)
    }
}

/// Answers with what arrived.
private let echo: Responder = { request in
    .ready(HTTPResponse(status: 200, body: .text("\(request.method) \(request.rawPath) \(request.body.count)"), contentType: "text/plain"))
}

@Suite("HTTP server", .serialized)
struct ServerTests {
    @Test("plain requests, lengths and chunked bodies are served, one after the other on one connection")
    func plain() throws {
        let server = try ServerUnderTest(responder: echo)
        let answer = server.exchange(
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
                + "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        #expect(answer.contains("GET /a 0") && answer.contains("POST /b 5") && answer.contains("POST /c 7"))
        #expect(answer.contains("x-openstack-request-id: req-"))
    }

    @Test(
        "a body whose length is said in more than one way is refused, and the connection closed",
        arguments: [
            "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked",
            "Content-Length: -1", "Content-Length: 5x", "Content-Length: 99999999999999999999",
        ])
    func ambiguousFraming(headers: String) throws {
        let server = try ServerUnderTest(responder: echo)
        let answer = server.exchange(
            "POST /x HTTP/1.1\r\nHost: h\r\n\(headers)\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(!answer.contains("200 OK"), "\(headers): \(answer)")
        #expect(!answer.contains("smuggled"))
        #expect(answer.hasPrefix("HTTP/1.1 4") || answer.isEmpty, "\(answer)")
        let next = server.exchange("GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", silence: 10_000)
        #expect(next.contains("GET /next"))
    }

    @Test("a body above the limit is refused before it is read if its length is announced, at its end if not")
    func bodyLimit() throws {
        let server = try ServerUnderTest(bodyLimit: 100, responder: echo)
        let announced = server.exchange("POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n")
        #expect(announced.contains("413") && !announced.contains("100 Continue"))
        #expect(announced.contains("Request is too large. Larger than max_request_body_size (100)."))
        let chunk = "64\r\n" + String(repeating: "x", count: 100) + "\r\n"
        let grown = server.exchange("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)0\r\n\r\n")
        #expect(grown.contains("413"))
        let exact = server.exchange("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)0\r\n\r\n")
        #expect(exact.contains("POST /x 100"))
    }

    /// Sends everything before it reads, as most clients do; whether everything could be sent, and the answer.
    private static func insist(_ server: ServerUnderTest, _ head: String, _ body: [UInt8]) throws -> (isSent: Bool, answer: String) {
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        var isSent = Loopback.send(descriptor, Array("POST /x HTTP/1.1\r\nHost: h\r\n\(head)\r\n".utf8))
        var rest = body[...]
        while isSent, !rest.isEmpty {
            isSent = Loopback.send(descriptor, Array(rest.prefix(10_000)))
            rest = rest.dropFirst(10_000)
            // The server has closed its end long before the last piece.
            if rest.count % 200_000 < 10_000 { usleep(2_000) }
        }
        return (isSent, String(decoding: Loopback.receive(descriptor, silence: 5_000).bytes, as: UTF8.self))
    }

    @Test(
        "a client that sends all of a body that is too large receives the response, however the body is framed",
        arguments: [
            "Content-Length: 1000000\r\n", "Content-Length: 1000000\r\nExpect: 100-continue\r\n",
            "Content-Length: 900000000000\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 5\r\n",
        ])
    func tooLarge(framing: String) throws {
        let server = try ServerUnderTest(responder: echo)
        let content = String(repeating: "x", count: 1_000_000)
        let body = framing.contains("chunked") ? "F4240\r\n\(content)\r\n0\r\n\r\n" : content
        for _ in 0..<3 {
            let (isSent, answer) = try Self.insist(server, framing, Array(body.utf8))
            #expect(isSent && answer.hasPrefix("HTTP/1.1 4") && answer.hasSuffix("}"), "\(framing): \(answer)")
            #expect(answer.ranges(of: "HTTP/1.1").count == 1 && answer.contains("Connection: close"), "\(answer)")
        }
        #expect(server.exchange("GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").contains("GET /next"))
    }

    @Test("a chunked body without end is answered when so much of it was dropped, and dropped no further")
    func endless() throws {
        let server = try ServerUnderTest(responder: echo)
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        #expect(Loopback.send(descriptor, Array("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)))
        let chunk = Array("2710\r\n\(String(repeating: "x", count: 10_000))\r\n".utf8)
        for _ in 0..<120 { #expect(Loopback.send(descriptor, chunk)) }
        let answer = String(decoding: Loopback.receive(descriptor, silence: 5_000).bytes, as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 413 ") && answer.contains("x-openstack-request-id: req-") && answer.hasSuffix("}"), "\(answer)")
        var sent = 0
        while sent < 100_000, Loopback.send(descriptor, chunk) { sent += 1 }
        #expect(sent < 100_000, "the connection ends")
    }

    @Test("a handler that waits suspends its connection and answers later; others are served meanwhile")
    func suspension() async throws {
        let server = try ServerUnderTest { request in
            .waiting {
                if request.rawPath == "/slow" { try await Task.sleep(nanoseconds: 100_000_000) }
                return HTTPResponse(status: 200, body: .text(request.rawPath), contentType: nil)
            }
        }
        let answers = await withTaskGroup(of: String.self) { group in
            for index in 0..<40 {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        startThread("client") {
                            continuation.resume(
                                returning: server.exchange(
                                    "GET /\(index % 2 == 0 ? "slow" : "fast") HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                                    silence: 20_000))
                        }
                    }
                }
            }
            return await group.reduce(into: [String]()) { $0.append($1) }
        }
        #expect(answers.filter { $0.hasSuffix("/slow") }.count == 20 && answers.filter { $0.hasSuffix("/fast") }.count == 20)
    }

    @Test("an unexpected error is a 500 without its text")
    func unexpected() throws {
        struct Oops: Error {}
        let server = try ServerUnderTest { _ in throw Oops() }
        let answer = server.exchange("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(answer.contains("500") && answer.contains("computeFault") && !answer.contains("Oops"))
    }

    @Test("a global request id is taken over only if it has the form of one")
    func globalRequestID() throws {
        let server = try ServerUnderTest { request in
            .ready(HTTPResponse(status: 200, body: .text("global=\(request.globalRequestID ?? "none")"), contentType: nil))
        }
        let good = "req-" + UUID.random()
        #expect(server.exchange("GET / HTTP/1.1\r\nHost: h\r\nX-OpenStack-Request-ID: \(good)\r\n\r\n").contains("global=\(good)"))
        #expect(server.exchange("GET / HTTP/1.1\r\nHost: h\r\nX-OpenStack-Request-ID: req-evil\r\n\r\n").contains("global=none"))
    }

    @Test("OPTIONS is answered everywhere, origins only where they are allowed")
    func cors() throws {
        let server = try ServerUnderTest(responder: echo)
        let preflight = server.exchange(
            "OPTIONS /v3/x HTTP/1.1\r\nHost: h\r\nOrigin: https://ok\r\nAccess-Control-Request-Method: GET\r\n\r\n")
        #expect(preflight.contains("200 OK") && preflight.contains("Access-Control-Allow-Origin: https://ok"))
        #expect(!server.exchange("GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://evil\r\n\r\n").contains("Access-Control-Allow-Origin"))
    }

    @Test(
        "a request that arrives slower than allowed ends, however busily its bytes drip",
        arguments: ["GET /x HT", "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"])
    func slow(head: String) throws {
        let server = try ServerUnderTest(requestTimeout: 1, responder: echo)
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        var drips = 0
        var isOpen = Loopback.send(descriptor, Array(head.utf8))
        while isOpen, drips < 100 {
            isOpen = !Loopback.receive(descriptor, silence: 100).isClosed && Loopback.send(descriptor, [UInt8(ascii: "x")])
            drips += 1
        }
        #expect(!isOpen, "after \(drips) bytes")
        #expect(server.exchange("GET /next HTTP/1.1\r\nHost: h\r\n\r\n").contains("GET /next"))
    }

    @Test("when connections run out, those that ask for nothing make room, the oldest first")
    func crowded() throws {
        let server = try ServerUnderTest(connectionLimit: 20, idleTimeout: 100, responder: echo)
        // More than there are: the rest waits to be accepted.
        let idle = try (0..<40).map { _ in
            defer { usleep(2_000) }
            return try Loopback.connect(server.port)
        }
        defer { for descriptor in idle { close(descriptor) } }
        #expect(server.exchange("GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", silence: 30_000).contains("GET /next"))
        #expect(Loopback.receive(idle[0], silence: 5_000).isClosed)
    }

    @Test("one address may hold only so many connections")
    func perAddress() throws {
        let server = try ServerUnderTest(perAddress: 3, responder: echo)
        let held = try (0..<3).map { _ in try Loopback.connect(server.port) }
        defer { for descriptor in held { close(descriptor) } }
        usleep(50_000)
        #expect(server.exchange("GET /more HTTP/1.1\r\nHost: h\r\n\r\n") == "")
        Loopback.send(held[0], Array("GET /held HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        #expect(String(decoding: Loopback.receive(held[0], silence: 300).bytes, as: UTF8.self).contains("GET /held"))
    }
}
