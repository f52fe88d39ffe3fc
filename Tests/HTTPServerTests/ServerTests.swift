import Glibc
import JSON
import Logging
import Primitives
import Testing

@testable import HTTPServer

/// A server on a free port of loopback, in this process, and raw connections to it.
final class ServerUnderTest: Sendable {
    let port: UInt16
    private let server: HTTPServer

    init(bodyLimit: Int = 1000, responder: @escaping Responder) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                precondition(bind(descriptor, $0, length) == 0 && listen(descriptor, 64) == 0)
                getsockname(descriptor, $0, &length)
            }
        }
        self.port = UInt16(bigEndian: address.sin_port)
        let sink = LogSink(descriptor: open("/dev/null", O_WRONLY))
        let chain: [any Middleware] = [
            RequestIDMiddleware(), CORSMiddleware(allowedOrigins: ["https://ok"]), FaultMiddleware(log: sink.logger("test")),
            BodyLimitMiddleware(limit: bodyLimit),
        ]
        server = try HTTPServer(
            HTTPServer.Configuration(socket: descriptor, threads: 2, bodyLimit: bodyLimit, connectionLimit: 100, idleTimeout: 5), log: sink,
            responder: chain.chain(to: responder))
    }

    deinit { _ = server.stop(within: 5) }

    /// Sends bytes on a new connection and reads until the server closes it or is silent for a while.
    func exchange(_ text: String, silence: Int = 300) -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard connected == 0 else { return "not connected" }
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { break }
            sent += count
        }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, Int32(silence)) > 0 else { break }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count <= 0 { break }
            answer += buffer[..<count]
        }
        return String(decoding: answer, as: UTF8.self)
    }
}

/// Answers with what arrived.
private let echo: Responder = { request in
    HTTPResponse(status: 200, body: .text("\(request.method) \(request.rawPath) \(request.body.count)"), contentType: "text/plain")
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
        #expect(server.exchange("GET /next HTTP/1.1\r\nHost: h\r\n\r\n").contains("GET /next"))
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

    @Test("a handler that waits suspends its connection and answers later; others are served meanwhile")
    func suspension() async throws {
        let server = try ServerUnderTest { request in
            if request.rawPath == "/slow" { try await Task.sleep(nanoseconds: 100_000_000) }
            return HTTPResponse(status: 200, body: .text(request.rawPath), contentType: nil)
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
            HTTPResponse(status: 200, body: .text("global=\(request.globalRequestID ?? "none")"), contentType: nil)
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
}
