import Glibc
import HTTPServer
import Primitives
import Synchronization
import TestSupport
import Testing

/// Bytes that others put in, piece by piece.
final class Pipe: HTTPStream {
    private struct State {
        var bytes: [UInt8] = []
        var isFinished = false
        var wake: (@Sendable () -> Void)?
    }
    private let state = Guarded(State())
    private let gone = Semaphore()

    func append(_ text: String) { change { $0.bytes += Array(text.utf8) } }
    func finish() { change { $0.isFinished = true } }
    /// Whether the connection's end was told within five seconds.
    func wasClosed() -> Bool { gone.wait(seconds: 5) }

    private func change(_ body: (inout State) -> Void) {
        let wake = state.withLock { state in
            body(&state)
            defer { state.wake = nil }
            return state.wake
        }
        wake?()
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, park: () -> @Sendable () -> Void) -> HTTPStreamPiece {
        state.withLock { state in
            guard !state.bytes.isEmpty else {
                if state.isFinished { return .end }
                state.wake = park()
                return .later
            }
            let count = min(buffer.count, state.bytes.count)
            buffer.copyBytes(from: state.bytes[..<count])
            state.bytes.removeFirst(count)
            return .bytes(count)
        }
    }

    func closed() { gone.post() }
}

@Suite("Streams over HTTP", .serialized)
struct StreamTests {
    private static func serving(_ pipes: [String: Pipe], perAddress: Int = 0) throws -> ServerUnderTest {
        try ServerUnderTest(perAddress: perAddress) { request in
            guard let pipe = pipes[request.rawPath] else {
                return .ready(HTTPResponse(status: 200, body: .text(request.rawPath), contentType: nil))
            }
            return .ready(HTTPResponse(status: 200, body: .stream(pipe), contentType: "text/plain"))
        }
    }

    /// The head, and the content without the chunks' frames; nil where they do not end as they should.
    private static func parsed(_ bytes: [UInt8]) -> (head: String, body: String)? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let blank = text.firstRange(of: "\r\n\r\n") else { return nil }
        let head = String(text[..<blank.lowerBound])
        var rest = Array(text[blank.upperBound...].utf8)[...]
        guard head.contains("Transfer-Encoding: chunked") else { return (head, String(decoding: rest, as: UTF8.self)) }
        var body: [UInt8] = []
        while let line = rest.firstIndex(of: 13) {
            guard let count = Int(String(decoding: rest[..<line], as: UTF8.self), radix: 16) else { return nil }
            let content = rest.dropFirst(line - rest.startIndex + 2)
            guard content.count >= count + 2 else { return nil }
            if count == 0 { return content.count == 2 ? (head, String(decoding: body, as: UTF8.self)) : nil }
            body += content.prefix(count)
            rest = content.dropFirst(count + 2)
        }
        return nil
    }

    @Test(
        "what a stream says arrives at once and whole, for every version of the protocol",
        arguments: ["HTTP/1.1\r\nHost: h", "HTTP/1.1\r\nHost: h\r\nConnection: close", "HTTP/1.0", "HTTP/1.0\r\nConnection: keep-alive"])
    func versions(request: String) throws {
        let pipe = Pipe()
        let server = try Self.serving(["/stream": pipe])
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        Loopback.send(descriptor, Array("GET /stream \(request)\r\n\r\n".utf8))
        var bytes: [UInt8] = []
        for word in ["one", "two", "three"] {
            usleep(20_000)
            pipe.append(word)
            while !String(decoding: bytes, as: UTF8.self).contains(word) {
                let piece = Loopback.receive(descriptor, silence: 100)
                bytes += piece.bytes
                guard !piece.isClosed else { break }
            }
        }
        pipe.finish()
        bytes += Loopback.receive(descriptor, silence: 5_000).bytes
        let answer = try #require(Self.parsed(bytes), "\(String(decoding: bytes, as: UTF8.self))")
        #expect(answer.head.hasPrefix("HTTP/1.") && answer.body == "onetwothree")
        #expect(pipe.wasClosed())
    }

    @Test("a client that reads slowly gets every byte in order, and holds up nobody")
    func slow() throws {
        let slow = Pipe()
        let quick = Pipe()
        let server = try Self.serving(["/slow": slow, "/quick": quick])
        let line = (0..<100_000).map { "\($0 * 7_919) " }.joined()
        slow.append(line + line + line + line)
        slow.finish()
        let late = try Loopback.connect(server.port)
        defer { close(late) }
        Loopback.send(late, Array("GET /slow HTTP/1.0\r\n\r\n".utf8))
        usleep(100_000)
        quick.append("quick")
        quick.finish()
        #expect(server.exchange("GET /quick HTTP/1.0\r\n\r\n", silence: 5_000).hasSuffix("quick"))
        #expect(Self.parsed(Loopback.receive(late, silence: 5_000).bytes)?.body == line + line + line + line)
    }

    @Test("a stream hears that its client has left, or wanted its head alone, or spoke nonsense behind it")
    func leaving() throws {
        let (left, head, nonsense) = (Pipe(), Pipe(), Pipe())
        let server = try Self.serving(["/left": left, "/head": head, "/nonsense": nonsense])
        let descriptor = try Loopback.connect(server.port)
        Loopback.send(descriptor, Array("GET /left HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        #expect(String(decoding: Loopback.receive(descriptor, silence: 200).bytes, as: UTF8.self).contains("200 OK"))
        close(descriptor)
        #expect(left.wasClosed())
        #expect(server.exchange("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n").contains("200 OK"))
        #expect(head.wasClosed())
        nonsense.append("heard")
        nonsense.finish()
        let answer = server.exchange("GET /nonsense HTTP/1.1\r\nHost: h\r\n\r\n\u{1}\u{2}GET /next HTTP/1.1\r\n\r\n", silence: 2_000)
        #expect(answer.contains("heard") && !answer.contains("/next"))
        #expect(nonsense.wasClosed())
        #expect(server.exchange("GET /other HTTP/1.1\r\nHost: h\r\n\r\n").contains("/other"))
    }

    @Test("one address may hold only so many streams, and connections besides")
    func perAddress() throws {
        let pipes = (0..<4).map { _ in Pipe() }
        let server = try Self.serving(
            Dictionary(uniqueKeysWithValues: pipes.enumerated().map { ("/\($0.offset)", $0.element) }), perAddress: 3)
        let held = try (0..<3).map { index in
            let descriptor = try Loopback.connect(server.port)
            Loopback.send(descriptor, Array("GET /\(index) HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
            _ = Loopback.receive(descriptor, silence: 100)
            return descriptor
        }
        #expect(server.exchange("GET /plain HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").contains("/plain"))
        let more = try Loopback.connect(server.port)
        Loopback.send(more, Array("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        #expect(Loopback.receive(more, silence: 2_000).isClosed)
        #expect(pipes[3].wasClosed())
        close(more)
        close(held[0])
        #expect(pipes[0].wasClosed())
        pipes[1].append("still here")
        #expect(String(decoding: Loopback.receive(held[1], silence: 300).bytes, as: UTF8.self).contains("still here"))
        for descriptor in held.dropFirst() { close(descriptor) }
    }

    @Test("streams count among the connections: idle ones make room, and there are no more than the limit")
    func crowded() throws {
        let pipe = Pipe()
        let server = try ServerUnderTest(connectionLimit: 20, idleTimeout: 100) { request in
            guard request.rawPath == "/stream" else {
                return .ready(HTTPResponse(status: 200, body: .text(request.rawPath), contentType: nil))
            }
            return .ready(HTTPResponse(status: 200, body: .stream(pipe), contentType: "text/plain"))
        }
        func open(_ path: String, _ count: Int) throws -> [Int32] {
            try (0..<count).map { _ in
                let descriptor = try Loopback.connect(server.port)
                Loopback.send(descriptor, Array("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
                _ = Loopback.receive(descriptor, silence: 50)
                return descriptor
            }
        }
        let streams = try open("/stream", 12)
        let idle = try open("/idle", 12)
        defer { for descriptor in streams + idle { close(descriptor) } }
        let refused = idle.filter { Loopback.receive($0, silence: 1).isClosed }
        #expect(refused.count >= 4)
        var served = false
        for _ in 0..<50 where !served {
            served = server.exchange("GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", silence: 500).contains("/next")
            if !served { usleep(100_000) }
        }
        #expect(served)
        #expect(streams.allSatisfy { !Loopback.receive($0, silence: 1).isClosed })
        pipe.finish()
    }

    @Test("a server that stops ends its streams")
    func stop() throws {
        let pipe = Pipe()
        var server: ServerUnderTest? = try Self.serving(["/stream": pipe])
        let descriptor = try Loopback.connect(server!.port)
        defer { close(descriptor) }
        Loopback.send(descriptor, Array("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        pipe.append("last")
        _ = Loopback.receive(descriptor, silence: 100)
        server = nil
        #expect(Loopback.receive(descriptor, silence: 5_000).isClosed)
        #expect(pipe.wasClosed())
    }
}
