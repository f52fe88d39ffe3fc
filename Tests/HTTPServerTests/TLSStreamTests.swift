import Glibc
import HTTPServer
import TestSupport
import Testing

@Suite("Streams over TLS", .serialized)
struct TLSStreamTests {
    private static let authority = TestCertificate("authority", use: .authority)
    private static let files = TLSFilesUnderTest(TestCertificate("server", issuer: authority))

    private static func serving(_ pipes: [String: Pipe], connectionLimit: Int = 100) throws -> ServerUnderTest {
        try ServerUnderTest(connectionLimit: connectionLimit, idleTimeout: 100, tls: TLSEndpoint(files.configuration)) { request in
            guard let pipe = pipes[request.rawPath] else {
                return .ready(HTTPResponse(status: 200, body: .text(request.rawPath), contentType: nil))
            }
            return .ready(HTTPResponse(status: 200, body: .stream(pipe), contentType: "text/plain"))
        }
    }

    private static func open(_ server: ServerUnderTest, _ path: String, _ version: String = "HTTP/1.1\r\nHost: h") throws -> TLSConnection {
        let connection = try TLSConnection(server.port, authorities: authority.certificate)
        connection.send("GET \(path) \(version)\r\n\r\n")
        return connection
    }

    @Test("what a stream says arrives at once and whole", arguments: ["HTTP/1.1\r\nHost: h", "HTTP/1.0"])
    func whole(version: String) throws {
        let pipe = Pipe()
        let server = try Self.serving(["/stream": pipe])
        let connection = try Self.open(server, "/stream", version)
        var text = ""
        for word in ["one", "two", "three"] {
            usleep(20_000)
            pipe.append(word)
            for _ in 0..<100 where !text.contains(word) { text += try connection.receive(silence: 100).text }
            #expect(text.contains(word))
        }
        pipe.finish()
        text += try connection.receive(silence: 2_000, until: "0\r\n\r\n").text
        #expect(text.hasPrefix("HTTP/1."))
        if version.hasPrefix("HTTP/1.1") {
            #expect(text.hasSuffix("0\r\n\r\n"))
            // The connection serves on.
            connection.send("GET /after HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try connection.receive(silence: 2_000, until: "/after").text.hasSuffix("/after"))
        } else {
            #expect(text.hasSuffix("onetwothree"))
        }
        #expect(pipe.wasClosed())
    }

    @Test("a client that reads slowly gets every byte in order, and holds up nobody")
    func slow() throws {
        let (slow, quick) = (Pipe(), Pipe())
        let server = try Self.serving(["/slow": slow, "/quick": quick])
        let line = (0..<300_000).map { "\($0 * 7_919) " }.joined()
        slow.append(line + line)
        slow.finish()
        let late = try Self.open(server, "/slow", "HTTP/1.0")
        usleep(100_000)
        quick.append("quick")
        quick.finish()
        #expect(try Self.open(server, "/quick", "HTTP/1.0").receive(silence: 5_000).text.hasSuffix("quick"))
        let text = try late.receive(silence: 5_000).text
        #expect(text.suffix(from: text.firstRange(of: "\r\n\r\n")!.upperBound) == line + line)
    }

    @Test("a stream hears that its client has left, while it is silent and while it speaks")
    func leaving() throws {
        let (silent, speaking, head) = (Pipe(), Pipe(), Pipe())
        let server = try Self.serving(["/silent": silent, "/speaking": speaking, "/head": head])
        do {
            let first = try Self.open(server, "/silent")
            #expect(try first.receive(silence: 200).text.contains("200 OK"))
            speaking.append(String(repeating: "x", count: 5_000_000))
            let second = try Self.open(server, "/speaking")
            #expect(try second.receive(silence: 200, until: "x").text.contains("200 OK"))
        }
        #expect(silent.wasClosed())
        #expect(speaking.wasClosed())
        let third = try TLSConnection(server.port, authorities: Self.authority.certificate)
        third.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(try third.receive(silence: 500, until: "\r\n\r\n").text.contains("200 OK"))
        #expect(head.wasClosed())
    }

    @Test("a server that stops ends its streams")
    func stop() throws {
        let pipes = (0..<8).map { _ in Pipe() }
        let server = try Self.serving(Dictionary(uniqueKeysWithValues: pipes.enumerated().map { ("/\($0.offset)", $0.element) }))
        let connections = try pipes.indices.map { try Self.open(server, "/\($0)") }
        for (index, pipe) in pipes.enumerated() where index % 2 == 0 { pipe.append("last") }
        for connection in connections { _ = try connection.receive(silence: 50) }
        #expect(server.stop(within: 5))
        for connection in connections { #expect((try? connection.receive(silence: 5_000).isClosed) != false) }
        for pipe in pipes { #expect(pipe.wasClosed()) }
    }

    @Test("streams that come and go leave nothing open")
    func many() throws {
        let server = try ServerUnderTest(connectionLimit: 100, idleTimeout: 100, tls: TLSEndpoint(Self.files.configuration)) { request in
            let pipe = Pipe()
            pipe.append("content of \(request.rawPath)")
            if request.rawPath.hasSuffix("0") { pipe.finish() }
            return .ready(HTTPResponse(status: 200, body: .stream(pipe), contentType: "text/plain"))
        }
        for index in 0..<60 {
            let connection = try Self.open(server, "/\(index)")
            #expect(try connection.receive(silence: 500, until: "\r\n").text.contains("200 OK"))
        }
        var left = Self.connected(server.port)
        for _ in 0..<100 where left > 0 {
            usleep(20_000)
            left = Self.connected(server.port)
        }
        #expect(left == 0)
    }

    /// How many sockets of the server are open, whether their client has closed its end or not.
    private static func connected(_ port: UInt16) -> Int {
        let digits = String(port, radix: 16, uppercase: true)
        let local = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        guard let table = fopen("/proc/self/net/tcp", "r") else { return -1 }
        defer { fclose(table) }
        var line = [CChar](repeating: 0, count: 512)
        var count = 0
        while fgets(&line, Int32(line.count), table) != nil {
            let words = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.split(separator: " ")
            // ESTABLISHED and CLOSE_WAIT.
            if words.count > 3, words[1].hasSuffix(local), ["01", "08"].contains(words[3]) { count += 1 }
        }
        return count
    }
}
