import Glibc
import HTTPServer
import Primitives
import TestSupport
import Testing

/// Answers with what arrived.
private let echo: Responder = { request in
    .ready(
        HTTPResponse(
            status: 200, body: .text("<\(request.method) \(request.rawPath) \(request.query.count) \(request.body.count)>"),
            contentType: nil))
}

/// Heads whose end or whose body's length others may see differently, and heads that are too much.
@Suite("Framing of requests", .serialized)
struct FramingTests {
    private static let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

    private static func post(_ headers: String, _ body: String = "") -> String { "POST /x HTTP/1.1\r\nHost: h\r\n\(headers)\r\n\(body)" }
    private static func get(_ headers: String) -> String { "GET /x HTTP/1.1\r\nHost: h\r\n\(headers)\r\n" }

    /// Statuses of the answers, their text, and whether the connection ended.
    private static func ask(_ server: ServerUnderTest, _ text: String, piece: Int = .max) throws -> (
        statuses: [Int], text: String, isClosed: Bool
    ) {
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty, Loopback.send(descriptor, Array(rest.prefix(piece))) {
            rest = rest.dropFirst(piece)
            if !rest.isEmpty { usleep(500) }
        }
        let (bytes, isClosed) = Loopback.receive(descriptor, silence: 300)
        let answer = String(decoding: bytes, as: UTF8.self)
        return (answer.ranges(of: "HTTP/1.1 ").compactMap { Int(answer[$0.upperBound...].prefix(3)) }, answer, isClosed)
    }

    static let doubtful = [
        post("Content-Length: 5\r\n x\r\n"), post("Content-Length: 5\r\n\tx\r\n"), post("Content-Length: 5\r\n \r\n", "hello"),
        post("Content-Length:\r\n 5\r\n", "hello"), post("Content-Lengt: 5\r\n h\r\n", "hello"), post("X-A: b\r\n c\r\n d\r\n"),
        post("Transfer-Encoding: chunked\r\n ,x\r\n", "0\r\n\r\n"), post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        post("X-A: b\r\n \r\nContent-Length: 5\r\n", "hello"), get("Authorizatio: Basic YTpi\r\n n\r\n"), get("X-A: b\r\n \r\n"),
        "GET /x HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n", "GE\0T /x HTTP/1.1\r\nHost: h\r\n\r\n", "GET\0 /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /x\0y HTTP/1.1\r\nHost: h\r\n\r\n", "GET /x\ty HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /x  HTTP/1.1\r\nHost: h\r\n\r\n", "GET\t/x HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "G\u{7F}T /x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /x HTTP/1.1\0\r\nHost: h\r\n\r\n", "GET x HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
        get("\0X: y\r\n"), get("X\0Y: z\r\n"), get("X: a\0b\r\n"), get("X: a\0\r\n"), get("X: a\rContent-Length: 5\r\n"),
        get("X: a\u{1}b\r\n"),
        get("X: \u{B}b\r\n"), get("X\u{B}: b\r\n"), get("X\r: b\r\n"), get("\r X: b\r\n"),
        post("Content-Length: 5\0x\r\n", "hello"), post("Content-Length: 5\0\r\n", "hello"), post("Content-Length: 5\r\r\n", "hello"),
        post("Content-Length: \u{B}5\r\n", "hello"), post("Content-Length: 5 5\r\n", "hello"), post("Content-Length\u{0}: 5\r\n", "hello"),
        post("Content-Length : 5\r\n", "hello"), post("Content-Length: +5\r\n", "hello"), post("Content-Length: 5,5\r\n", "hello"),
        post("Content-Length: \r\n"), post("Content-Length: 0000000000000000000000005\r\n", "hello"),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: \u{B}chunked\r\n", "0\r\n\r\n"), post("Transfer-Encoding: chunked\0x\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        "POST /x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "OPTIONS /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n x\r\n\r\n", "OPTIONS /x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        get("Host: h\r\n"), "GET /x HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nHost: h/x\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a@h\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: [::1]evil\r\n\r\n", "GET /x HTTP/1.1\r\nHost: h:80:80\r\n\r\n", "GET /x HTTP/1.1\r\nHost: [h]\r\n\r\n",
        "GET /x HTTP/1.1\nHost: h\n\n", "GET /x HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "GET /x HTTP/1.1\r\nHost: h\r\n\n",
    ]

    @Test("a head that others may read differently is refused once, and what follows it is no request")
    func doubts() throws {
        let server = try ServerUnderTest(responder: echo)
        for head in Self.doubtful {
            let (statuses, text, isClosed) = try Self.ask(server, head + Self.smuggled)
            #expect(statuses == [400] && isClosed, "\(head.debugDescription): \(statuses), closed: \(isClosed)")
            #expect(!text.contains("/smuggled") && !text.contains("<POST") && !text.contains("<GET"), "\(head.debugDescription): \(text)")
            // In small pieces its answer meets a client that is still talking.
            let slow = try Self.ask(server, head + Self.smuggled, piece: 5)
            #expect(slow.statuses == [400], "\(head.debugDescription): \(slow.statuses)")
            #expect(slow.isClosed && !slow.text.contains("/smuggled"), "\(head.debugDescription): \(slow.text)")
        }
        #expect(server.exchange(Self.smuggled).contains("<GET /smuggled 0 0>"))
    }

    @Test(
        "a header that has one value is refused by name when it has two, and served when it is only repeated",
        arguments: [
            "Authorization", "X-Auth-Token", "X-Service-Token", "Content-Type", "Origin", "Last-Event-ID",
        ])
    func twoValues(name: String) throws {
        let server = try ServerUnderTest(responder: echo)
        for (first, second) in [("a", "b"), ("a", ""), ("", "b"), ("a", "A")] {
            let (statuses, text, isClosed) = try Self.ask(
                server, Self.get("\(name): \(first)\r\nAccept: */*\r\n\(name.lowercased()): \(second)\r\n") + Self.smuggled)
            #expect(statuses == [400] && isClosed && text.contains("The header \(name) is given more than once"), "\(text)")
        }
        for headers in ["\(name): a\r\n\(name): a\r\n", "\(name): a\r\nX-\(name): b\r\n", "Accept: a\r\nAccept: b\r\n\(name): a\r\n"] {
            let (statuses, text, _) = try Self.ask(server, Self.get(headers + "Connection: close\r\n"))
            #expect(statuses == [200], "\(headers): \(text)")
        }
    }

    @Test("heads that look odd and are right are served, and what follows them is too")
    func oddities() throws {
        let server = try ServerUnderTest(responder: echo)
        for (head, answer) in [
            ("GET http://H/x?a=b HTTP/1.1\r\nHost: h\r\n\r\n", "<GET /x 1 0>"),
            ("GET http://h?a HTTP/1.1\r\nHost: h\r\n\r\n", "<GET / 1 0>"),
            ("\r\nGET /x HTTP/1.1\r\nHost:h\r\n\r\n", "<GET /x 0 0>"), (Self.get("X:\r\nY: \t \r\nZ:\t1 \r\n"), "<GET /x 0 0>"),
            (Self.get("Expect: 100-continue\r\n"), "<GET /x 0 0>"), (Self.post("Content-Length: 005\r\n", "hello"), "<POST /x 0 5>"),
            (Self.get("X: \u{E9}\u{1F600}\r\n"), "<GET /x 0 0>"), ("GET /x HTTP/1.1\r\nhOST: [::1]:80\r\n\r\n", "<GET /x 0 0>"),
            (Self.get("Upgrade: h2c\r\nConnection: Upgrade\r\n"), "<GET /x 0 0>"),
            ("GET /%00%2f\u{E9} HTTP/1.1\r\nHost: h\r\n\r\n", "<GET /%00%2f\u{E9} 0 0>"),
        ] {
            for piece in [Int.max, 5] {
                let (statuses, text, _) = try Self.ask(
                    server, head + "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", piece: piece)
                #expect(statuses == [200, 200] && text.contains(answer), "\(head.debugDescription): \(text)")
            }
        }
    }

    @Test("a chunked body ends its connection, so nothing behind it is taken for a request")
    func chunked() throws {
        let server = try ServerUnderTest(responder: echo)
        for body in [
            "2\r\nxx\r\n0\r\n\r\n", "2\nxx\n0\n\n", "2;\nxx\r\n0\r\n\r\n", "0;a=\"\r\n\"\r\n\r\n", "0\r\nX: y\r\n z\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
        ] {
            for piece in [Int.max, 3] {
                let (statuses, text, isClosed) = try Self.ask(
                    server, Self.post("Transfer-Encoding: chunked\r\n", body + Self.smuggled), piece: piece)
                #expect(statuses.count <= 1 && isClosed && !text.contains("smuggled"), "\(body.debugDescription): \(text)")
            }
        }
    }

    @Test("what takes all of a connection's memory is answered at once, and what leaves enough is served")
    func memory() throws {
        let server = try ServerUnderTest(responder: echo)
        func items(_ count: Int, _ separator: String) -> String { (0..<count).map { "a\($0)=\($0)" }.joined(separator: separator) }
        func expect(_ allowed: Set<Int>, _ told: String, _ text: String) throws {
            let (statuses, answer, isClosed) = try Self.ask(server, text)
            #expect(statuses.count == 1 && allowed.contains(statuses[0]), "\(told): \(answer.prefix(200))")
            #expect(isClosed, "\(told)")
        }
        for count in [330, 400, 1000, 1700] {
            try expect(
                count > 500 ? [414] : [200], "\(count) query items",
                "GET /x?\(items(count, "&")) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            try expect([200], "\(count) cookies", Self.get("Cookie: \(items(count, "; "))\r\nConnection: close\r\n"))
        }
        for count in [5_000, 20_000] {
            try expect([414], "\(count) query items", "GET /x?\(items(count, "&")) HTTP/1.1\r\nHost: h\r\n\r\n")
            try expect([431], "\(count) cookies", Self.get("Cookie: \(items(count, "; "))\r\n"))
        }
        for size in stride(from: 21_500, through: 24_600, by: 60) {
            let text = String(repeating: "a", count: size)
            try expect([200, 414, 431], "a target of \(size)", "GET /\(text) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            try expect([200, 431], "a header of \(size)", Self.get("X: \(text)\r\nConnection: close\r\n"))
        }
        for count in stride(from: 270, through: 345, by: 3) {
            let headers = (0..<count).map { "X-\($0): 1\r\n" }.joined()
            try expect([200, 431], "\(count) headers", Self.get(headers + "Connection: close\r\n"))
        }
    }

    @Test("a stop waits neither for requests whose clients left nor for those whose clients are leaving")
    func abandoned() async throws {
        let isOver = Guarded(false)
        let left = Semaphore()
        let server = try ServerUnderTest { request in
            .waiting {
                if request.rawPath == "/brief" { try await Task.sleep(nanoseconds: 100_000_000) }
                // It ends of its own accord after twenty seconds: who waits for it sees that it does.
                for _ in 0..<2_000 where request.rawPath == "/long" && !isOver.withLock({ $0 }) {
                    try await Task.sleep(nanoseconds: 10_000_000)
                }
                left.post()
                return HTTPResponse(status: 200, body: .text("done"), contentType: nil)
            }
        }
        for path in ["/brief", "/brief", "/long"] {
            let descriptor = try Loopback.connect(server.port)
            Loopback.send(descriptor, Array("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
            usleep(20_000)
            close(descriptor)
        }
        for _ in 0..<2 { #expect(left.wait(seconds: 10)) }
        // The long one is still running: nobody waits for it, and the server is not to be taken down.
        #expect(!server.stop(within: 60))
        isOver.withLock { $0 = true }
        var isStopped = false
        for _ in 0..<1_000 where !isStopped {
            usleep(10_000)
            isStopped = server.stop(within: 1)
        }
        #expect(isStopped, "all are over")
    }

    @Test("marks that turn a line round, and controls of terminals, do not reach the log of requests, and a long path is whole there")
    func logged() throws {
        let path = temporaryDirectory("log") + "/log"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let lengths = [450, 900, 1000, 1499]
        let hidden = "\u{9B}\u{85}\u{202E}\u{2066}\u{200F}\u{61C}\u{2028}"
        do {
            let server = try ServerUnderTest(log: descriptor, responder: echo)
            #expect(server.exchange("GET /a\(hidden)z\u{E9} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").contains("200 OK"))
            for length in lengths {
                let target = "/" + String(repeating: "l", count: length)
                #expect(server.exchange(Self.get("Connection: close\r\n").replacing("/x", with: target)).contains("200 OK"))
            }
            server.flush()
        }
        var buffer = [UInt8](repeating: 0, count: 16_384)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        let text = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
        for length in lengths {
            #expect(text.contains(" /\(String(repeating: "l", count: length)) status=200 length=\(length + 11) us="), "\(length)")
        }
        #expect(text.split(separator: "\n").allSatisfy { $0.contains(" ACCESS ") && $0.contains(" request_id=req-") }, "\(text)")
        #expect(text.contains(" /a\(String(repeating: "_", count: hidden.utf8.count))z\u{E9} status=200"), "\(text)")
    }
}
