import CDriver
import DriverKit
import Glibc
import ObjectServers
import Synchronization
import TestSupport
import Testing

/// A server that gives every request the same answer, byte by byte as it likes.
private final class Answering: Sendable {
    let port: UInt16
    private let descriptor: Int32

    /// - Parameter answer: writes to the connection until that fails; the connection is closed when it returns.
    init(_ answer: @escaping @Sendable (Int32) -> Void) throws {
        let (descriptor, port) = try Loopback.listen()
        (self.descriptor, self.port) = (descriptor, port)
        inThread {
            while true {
                let connection = accept(descriptor, nil, nil)
                guard connection >= 0 else { return }
                inThread {
                    var request = [UInt8](repeating: 0, count: 65536)
                    if recv(connection, &request, request.count, 0) > 0 { answer(connection) }
                    close(connection)
                }
            }
        }
    }

    deinit {
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
    }

    var url: String { "http://127.0.0.1:\(port)/object" }
}

private func inThread(_ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { raw in
            if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
            return nil
        }, Unmanaged.passRetained(Box(body)).toOpaque())
    pthread_detach(thread)
}

/// False when nobody listens any more.
private func say(_ text: String, to connection: Int32) -> Bool {
    let bytes = Array(text.utf8)
    return Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
}

@Suite("Servers of objects that do not come to an end")
struct HTTPPoolTests {
    /// A request that would never end is cancelled after half a minute, and fails its test.
    private func send(_ request: HTTPRequest, timeout: Double = 1) throws -> HTTPResponse {
        var reach = HTTPReach()
        reach.timeout = timeout
        let limit = time(nil) + 30
        return try HTTPPool(reach).send(request, isCancelled: { time(nil) > limit })
    }

    @Test("one that sends a byte now and then is given up as one that sends none")
    func trickle() throws {
        let server = try Answering { connection in
            guard say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", to: connection) else { return }
            while say("x", to: connection) { usleep(50_000) }
        }
        var room = [UInt8](repeating: 0, count: 1_000_000)
        let failure = #expect(throws: HTTPFailure.self) {
            try room.withUnsafeMutableBytes {
                var request = HTTPRequest("GET", server.url)
                request.sink = ObjectSink($0, at: 0)
                _ = try send(request)
            }
        }
        #expect(failure?.kind == .temporary)
        #expect(failure?.words.contains("fewer than") == true)
        // Of what it says of objects there is an end, too.
        let other = #expect(throws: HTTPFailure.self) { _ = try send(HTTPRequest("GET", server.url), timeout: 0.2) }
        #expect(other?.kind == .temporary && other?.words.contains("no whole one for 2.0") == true)
    }

    @Test("one that works on what it was asked for, and says a blank now and then, is waited for")
    func blanks() throws {
        let server = try Answering { connection in
            guard say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", to: connection) else { return }
            for _ in 0..<30 {
                guard say(" ", to: connection) else { return }
                usleep(100_000)
            }
            _ = say("<Done/>", to: connection)
        }
        let response = try send(HTTPRequest("POST", server.url))
        #expect(XMLElement(parsing: response.body)?.name == "Done")
    }

    private func read(_ server: Answering) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 10)
        let count = try bytes.withUnsafeMutableBytes { buffer in
            let sink = ObjectSink(buffer, at: 5)
            var request = HTTPRequest("GET", server.url)
            request.headers = sink.headersOfNextRequest()
            request.sink = sink
            let response = try send(request)
            #expect(response.status == 206 && sink.isComplete)
            return sink.count
        }
        return Array(bytes[..<count])
    }

    private static let part =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-14/20\r\nETag: \"a\"\r\nTransfer-Encoding: chunked\r\n\r\n"

    @Test("of one that sends more than it was asked for, what was asked for is taken, and no more")
    func surplus() throws {
        let server = try Answering { connection in
            guard say(Self.part + "a\r\n0123456789\r\n", to: connection) else { return }
            while say("4\r\nmore\r\n", to: connection) {}
        }
        #expect(try read(server) == Array("0123456789".utf8))
    }

    @Test("one that has sent all that was asked for, and does not say that this was all, has sent it")
    func unended() throws {
        let server = try Answering { connection in
            guard say(Self.part + "a\r\n0123456789\r\n", to: connection) else { return }
            var nothing: UInt8 = 0
            _ = recv(connection, &nothing, 1, 0)
        }
        #expect(try read(server) == Array("0123456789".utf8))
    }
}

@Suite("How often a server of objects is asked")
struct AttemptsTests {
    private let attempts = Attempts(3, first: 0.001)

    /// How often each of several requests is sent.
    private func sent(_ requests: Int, by requester: Requester, _ trouble: Trouble) -> [Int] {
        (0..<requests).map { _ in
            var count = 0
            #expect(throws: DriverError.self) {
                try attempts.run(requester) { _ in
                    count += 1
                    throw trouble
                }
            }
            return count
        }
    }

    private let silence = Trouble(DriverError(CLINKER_RETRY, "nobody"), isTemporary: true, isSilence: true)
    private let overload = Trouble(DriverError(CLINKER_RETRY, "503"), isTemporary: true)
    private let refusal = Trouble(DriverError(CLINKER_ERROR, "400"))

    @Test("a call asks one that does not answer for one of its objects, and not for the others")
    func silent() { #expect(sent(3, by: .nobody, silence) == [3, 0, 0]) }

    @Test("a call that repeated a request in vain sends each of the others once, and gives up none of them")
    func overloaded() { #expect(sent(3, by: .nobody, overload) == [3, 1, 1]) }

    @Test("a refusal says nothing of what comes next")
    func refused() {
        let requester = Requester.nobody
        #expect(sent(2, by: requester, refusal) == [1, 1])
        #expect(sent(1, by: requester, overload) == [3])
    }

    @Test("who tidies up repeats nothing")
    func tidying() {
        #expect(sent(2, by: .tidying, overload) == [1, 1])
        #expect(sent(3, by: .tidying, silence) == [1, 0, 0])
    }
}

@Suite("What a server says, repeated")
struct ServerWordsTests {
    @Test("a secret that the end of the text cuts is hidden as a whole one is")
    func secrets() {
        let secret = "0123456789abcdef"
        for place in 0..<40 {
            let text = String(repeating: "x", count: place) + secret + " \u{7}end"
            let shown = ServerWords.shown(text, hiding: [secret, ""], atMost: 30)
            #expect(shown.unicodeScalars.count <= 30 && !shown.contains("01"), "\(place): \(shown)")
        }
        #expect(ServerWords.shown("a\nb", hiding: [], atMost: 9) == "ab")
    }
}
