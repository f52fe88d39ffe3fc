import Glibc
import HTTPServer
import Observability
import OpenStack
import Primitives
import Settings
import TestSupport
import Testing

/// A server with TLS that answers what Keystone and Nova answer to one question each.
private final class Peer {
    static let authority = TestCertificate("authority", use: .authority)
    static let client = TestCertificate("clinker", use: .client, issuer: authority)
    let directory = temporaryDirectory("peer")
    let url: String
    private let server: HTTPServer
    private let socket: Int32

    /// - Parameter asksForCertificate: whether clients need one.
    init(_ certificate: TestCertificate, asksForCertificate: Bool = false) throws {
        let directory = directory
        for (name, text) in [
            ("cert.pem", certificate.chain), ("key.pem", certificate.privateKey), ("ca.pem", Self.authority.certificate),
            ("client.pem", Self.client.certificate), ("client.key", Self.client.privateKey),
        ] {
            let file = open(directory + "/" + name, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            _ = text.withCString { write(file, $0, strlen($0)) }
            close(file)
        }
        let (socket, port) = try Loopback.listen()
        self.socket = socket
        let url = "https://localhost:\(port)"
        self.url = url
        var configuration = HTTPServer.Configuration(socket: socket, threads: 2, bodyLimit: 10_000, connectionLimit: 100, idleTimeout: 10)
        configuration.tls = try TLSEndpoint(
            TLSConfiguration(
                certificateFile: directory + "/cert.pem", keyFile: directory + "/key.pem",
                authoritiesFile: asksForCertificate ? directory + "/ca.pem" : nil))
        server = try HTTPServer(configuration, log: LogSink(descriptor: open("/dev/null", O_WRONLY | O_CLOEXEC))) { request in
            func answer(_ status: Int, _ text: String) -> Answer {
                .ready(
                    HTTPResponse(
                        status: status, headers: [(name: "X-Subject-Token", value: "own")], body: .text(text),
                        contentType: "application/json"))
            }
            switch request.rawPath {
            case "/v3/auth/tokens": return answer(201, #"{"token": {"expires_at": "2099-01-01T00:00:00.000000Z"}}"#)
            case "/v3/auth/catalog":
                return answer(
                    200,
                    #"{"catalog": [{"type": "compute", "endpoints": [{"interface": "public", "region_id": "r", "url": "\#(url)/nova"}]}]}"#)
            case "/v3/projects/known": return answer(200, "{}")
            case "/nova/servers/i": return answer(200, #"{"server": {"OS-EXT-SRV-ATTR:host": "node7"}}"#)
            default: return answer(404, "{}")
            }
        }
    }

    deinit {
        // One that does not stop is still used by its threads, and stays.
        guard server.stop(within: 30) else {
            _ = Unmanaged.passRetained(server)
            return
        }
        close(socket)
    }

    /// Settings that reach it; `DIRECTORY` in the options is that of its files.
    func settings(_ keystone: String, _ nova: String = "") throws -> Settings {
        try Settings(
            text:
                "[keystone_authtoken]\nauth_url = \(url)\nusername = u\npassword = p\nhttp_request_max_retries = 0\n\(keystone)\n[nova]\n\(nova)\n"
                .replacing("DIRECTORY", with: directory))
    }
}

@Suite("Keystone and Nova over TLS")
struct ServicesOverTLSTests {
    private static let trusted = "cafile = DIRECTORY/ca.pem"
    private static let shown = "certfile = DIRECTORY/client.pem\nkeyfile = DIRECTORY/client.key"

    private static func keystone(_ peer: Peer, _ options: String, _ nova: String = "") throws -> (Keystone, Settings) {
        let settings = try peer.settings(options, nova)
        return (try Keystone(settings, log: LogSink().logger("keystone")), settings)
    }

    private static func knows(_ peer: Peer, _ options: String) async throws -> Bool {
        try await keystone(peer, options).0.knowsProject("known", token: Secret("t"))
    }

    @Test("Keystone's certificate is checked against cafile alone, and its host's name; insecure believes any")
    func keystone() async throws {
        let peer = try Peer(TestCertificate("keystone", issuer: Peer.authority))
        #expect(try await Self.knows(peer, Self.trusted))
        // Without cafile the system's authorities count.
        await #expect(throws: Unavailable.self) { try await Self.knows(peer, "") }
        #expect(try await Self.knows(peer, "insecure = true"))
        for bad in [
            TestCertificate("keystone", hosts: ["elsewhere.example"], issuer: Peer.authority),
            TestCertificate("keystone", days: -1, issuer: Peer.authority), TestCertificate("keystone"),
        ] {
            let peer = try Peer(bad)
            let failure = await #expect(throws: Unavailable.self) { try await Self.knows(peer, Self.trusted) }
            #expect(failure.map { "\($0)".contains("certificate") || "\($0)".contains("SSL") } == true, "\(failure.map { "\($0)" } ?? "")")
            #expect(try await Self.knows(peer, "insecure = true"))
        }
    }

    @Test("certfile and keyfile are shown to a Keystone that asks for them")
    func keystoneAsks() async throws {
        let peer = try Peer(TestCertificate("keystone", issuer: Peer.authority), asksForCertificate: true)
        await #expect(throws: Unavailable.self) { try await Self.knows(peer, Self.trusted) }
        #expect(try await Self.knows(peer, Self.trusted + "\n" + Self.shown))
    }

    @Test("Nova has options of its own, and those of Keystone do not count for it")
    func nova() async throws {
        let peer = try Peer(TestCertificate("both", issuer: Peer.authority), asksForCertificate: true)
        func host(_ nova: String) async throws -> String? {
            let (keystone, settings) = try Self.keystone(peer, Self.trusted + "\n" + Self.shown, nova)
            return try await Nova(settings, keystone: keystone).host(ofInstance: "i")
        }
        #expect(try await host(Self.trusted + "\n" + Self.shown) == "node7")
        #expect(try await host("insecure = true\n" + Self.shown) == "node7")
        await #expect(throws: Unavailable.self) { try await host(Self.trusted) }
        await #expect(throws: Unavailable.self) { try await host(Self.shown) }
    }
}
