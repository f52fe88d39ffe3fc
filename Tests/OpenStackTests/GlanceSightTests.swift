import Glibc
import HTTPServer
import Observability
import Primitives
import Settings
import TestSupport
import Testing

@testable import OpenStack

/// A server that answers as Keystone and Glance do: the account belongs to the project `own`.
private final class Cloud {
    /// Status and text by path and query; all others are unknown.
    let answers = Guarded<[String: (status: Int, text: String)]>([:])
    let glance: Glance
    private let server: HTTPServer
    private let socket: Int32

    init(hasKeystone: Bool = true) throws {
        let (socket, port) = try Loopback.listen()
        self.socket = socket
        let answers = answers
        let sink = LogSink(descriptor: open("/dev/null", O_WRONLY | O_CLOEXEC))
        server = try HTTPServer(
            HTTPServer.Configuration(socket: socket, threads: 2, bodyLimit: 10_000, connectionLimit: 100, idleTimeout: 10),
            log: sink
        ) { request in
            func answer(_ status: Int, _ text: String) -> Answer {
                .ready(
                    HTTPResponse(
                        status: status, headers: [(name: "X-Subject-Token", value: "own")], body: .text(text),
                        contentType: "application/json"))
            }
            let path = request.rawPath + (request.rawQuery.isEmpty ? "" : "?" + request.rawQuery)
            if request.rawPath == "/v3/auth/tokens" {
                return answer(201, #"{"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "project": {"id": "own"}}}"#)
            }
            guard let known = answers.withLock({ $0[path] }) else { return answer(404, "<h1>Not Found</h1>The path \(path) is unknown.") }
            return answer(known.status, known.text)
        }
        let settings = try Settings(
            text: "[DEFAULT]\nglance_api_servers = http://127.0.0.1:\(port)\nglance_num_retries = 0\n"
                + "[keystone_authtoken]\nauth_url = http://127.0.0.1:\(port)\nusername = u\npassword = p\n")
        let log = sink.logger("glance")
        glance = try #require(Glance(settings, keystone: hasKeystone ? try Keystone(settings, log: log) : nil, log: log))
    }

    deinit {
        // One that does not stop is still used by its threads, and stays.
        guard server.stop(within: 30) else {
            _ = Unmanaged.passRetained(server)
            return
        }
        close(socket)
    }
}

@Suite("What Clinker's account sees of Glance's images")
struct GlanceSightTests {
    private static let id = "11111111-2222-4333-8444-555555555555"

    @Test("an image is gone when Glance says so; what a proxy says, a refusal and a failure say nothing of it")
    func gone() async throws {
        let cloud = try Cloud()
        let path = "/v2/images/" + Self.id
        func set(_ status: Int, _ text: String) { cloud.answers.withLock { $0[path] = (status: status, text: text) } }
        set(
            404,
            "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1>No image found with ID \(Self.id)<br /></body></html>"
        )
        #expect(try await cloud.glance.isGone(Self.id))
        for (status, isGone) in [
            ("active", false), ("queued", false), ("pending_delete", false), ("deactivated", false), ("deleted", true),
        ] {
            set(200, #"{"id": "\#(Self.id)", "status": "\#(status)"}"#)
            #expect(try await cloud.glance.isGone(Self.id) == isGone, "\(status)")
        }
        for (status, text) in [
            (200, "{}"), (200, #"{"id": "22222222-2222-4333-8444-555555555555"}"#), (401, ""), (403, "No image found with ID \(Self.id)"),
            (404, ""), (404, "The requested URL /v2/images/\(Self.id) was not found on this server."), (404, "<h1>404</h1>no such image"),
            (410, "image \(Self.id)"), (500, ""), (503, "No image found with ID \(Self.id)"),
        ] {
            set(status, text)
            await #expect(throws: Unavailable.self, "\(status) \(text)") { try await cloud.glance.isGone(Self.id) }
            if status != 200 {
                await #expect(throws: Unavailable.self, "\(status) \(text)") { try await cloud.glance.deleteUnfinished(Self.id, for: .own) }
            }
        }
        cloud.answers.withLock { $0[path] = nil }
        await #expect(throws: Unavailable.self) { try await cloud.glance.isGone(Self.id) }
    }

    @Test("that the account sees the images of all is shown by one of another project that nobody shares with it")
    func sight() async throws {
        let cloud = try Cloud()
        let (hidden, shared) = ("/v2/images?limit=100&visibility=private", "/v2/images?limit=100&visibility=shared")
        let members = "/v2/images/\(Self.id)/members"
        func image(_ owner: String, _ visibility: String) -> String {
            #"{"images": [{"id": "\#(Self.id)", "owner": "\#(owner)", "visibility": "\#(visibility)"}]}"#
        }
        func seesAll(_ answers: [String: (status: Int, text: String)]) async throws -> Bool {
            var all = [hidden: (status: 200, text: #"{"images": []}"#), shared: (status: 200, text: #"{"images": []}"#)]
            all.merge(answers) { $1 }
            let known = all
            cloud.answers.withLock { $0 = known }
            return try await cloud.glance.seesAllImages()
        }
        #expect(try await !seesAll([:]))
        #expect(try await !seesAll([hidden: (200, image("own", "private"))]))
        #expect(try await !seesAll([hidden: (200, image("", "private"))]))
        #expect(try await !seesAll([hidden: (200, image("other", "public"))]))
        #expect(try await seesAll([hidden: (200, image("other", "private"))]))
        let foreign = (status: 200, text: image("other", "shared"))
        #expect(try await !seesAll([shared: foreign]))
        #expect(try await !seesAll([shared: foreign, members: (200, #"{"members": [{"member_id": "own"}]}"#)]))
        #expect(try await !seesAll([shared: foreign, members: (403, #"{"members": []}"#)]))
        #expect(try await seesAll([shared: foreign, members: (200, #"{"members": [{"member_id": "third"}]}"#)]))
        #expect(try await !seesAll([hidden: (403, ""), shared: (403, "")]))
        await #expect(throws: Unavailable.self) { try await seesAll([hidden: (401, "")]) }
        await #expect(throws: Unavailable.self) { try await seesAll([shared: (500, "")]) }
        let open = try Cloud(hasKeystone: false)
        #expect(!open.glance.hasAccount)
        #expect(try await !open.glance.seesAllImages())
    }
}
