import Observability
import OpenStack
import Primitives
import Settings
import TestSupport
import Testing

/// A Nova that does what networks and impostors do, found in the catalogue of a Keystone that is well.
@Suite("A Nova in trouble", .serialized)
struct ComputeTroubleTests {
    private static let volume = "11111111-2222-4333-8444-555555555555"
    private static let copy = "11111111-2222-4333-8444-666666666666"
    private static let instance = "11111111-2222-4333-8444-777777777777"

    private let keystone: HTTPFaultProxy
    private let trap: HTTPFaultProxy

    init() throws {
        (keystone, trap) = (try HTTPFaultProxy(to: nil), try HTTPFaultProxy(to: nil))
    }

    /// A client whose catalogue says that Nova is there. Its tokens are `own-1`, `own-2`, and so on.
    private func nova(_ url: String, _ options: String = "") throws -> Nova {
        var rules = (1...3).map { number in
            HTTPFaultProxy.Rule(
                "POST", "/v3/auth/tokens",
                .answer(
                    status: 201, headers: ["X-Subject-Token: own-\(number)"],
                    body: #"{"token": {"expires_at": "2099-01-01T00:00:00.000000Z"}}"#))
        }
        rules.append(
            .init(
                "GET", "/v3/auth/catalog",
                .answer(
                    status: 200, headers: [],
                    body:
                        #"{"catalog": [{"type": "compute", "endpoints": [{"interface": "public", "region_id": "r", "url": "\#(url)"}]}]}"#),
                times: 100))
        keystone.set(rules)
        let settings = try Settings(
            text: """
                [keystone_authtoken]
                auth_url = http://127.0.0.1:\(keystone.port)
                username = u
                password = p
                http_request_max_retries = 0
                [nova]
                \(options)
                """)
        return Nova(settings, keystone: try Keystone(settings, log: LogSink().logger("keystone")))
    }

    private static func every(_ fault: HTTPFaultProxy.Fault) -> [HTTPFaultProxy.Rule] {
        ["GET", "PUT", "POST"].map { .init($0, "", fault, times: 1000) }
    }

    private static func tokens(_ proxy: HTTPFaultProxy) -> [String] {
        proxy.heads.compactMap { head in
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("x-auth-token: ") }.map { String($0.dropFirst(14)) }
        }
    }

    @Test("down, broken, sending elsewhere, or with an answer that is none: nothing is taken for done, and nobody else is asked")
    func trouble() async throws {
        let server = try HTTPFaultProxy(to: nil)
        var faults: [HTTPFaultProxy.Fault] = [
            .reset, .answer(status: 500, headers: [], body: "<html>"), .answer(status: 200, headers: [], body: "<html>"),
        ]
        faults += [301, 302, 303, 307, 308].map {
            .answer(status: $0, headers: ["Location: http://127.0.0.1:\(trap.port)/servers"], body: "")
        }
        for fault in faults {
            server.set(Self.every(fault))
            let nova = try nova("http://127.0.0.1:\(server.port)")
            await #expect(throws: Unavailable.self, "\(fault)") {
                try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance)
            }
            await #expect(throws: Unavailable.self, "\(fault)") { try await nova.host(ofInstance: Self.instance) }
            await #expect(throws: Unavailable.self, "\(fault)") {
                try await nova.attachment(ofInstance: Self.instance, volume: Self.volume, token: Secret("user"))
            }
            // That it was told is all that its answer says.
            guard case .answer(status: 200, _, _) = fault else {
                await #expect(throws: Unavailable.self, "\(fault)") {
                    try await nova.tell(.extended, volume: Self.volume, instances: [Self.instance])
                }
                continue
            }
        }
        #expect(trap.connections == 0)
    }

    @Test("one that does not answer is given up after the configured time, and one that is not there at once")
    func slow() async throws {
        let server = try HTTPFaultProxy(to: nil)
        server.set(Self.every(.silence))
        for url in ["http://127.0.0.1:\(server.port)", "http://127.0.0.1:\(try Loopback.freePort())"] {
            let nova = try nova(url, "timeout = 1")
            await #expect(throws: Unavailable.self) { try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance) }
            await #expect(throws: Unavailable.self) { try await nova.tell(.reimaged, volume: Self.volume, instances: [Self.instance]) }
        }
        // What it did not get to hear while this process stood still was given up, too.
        #expect(server.hits <= 2)
    }

    @Test("a token of Clinker's that it takes no more is renewed once, a user's never")
    func token() async throws {
        let server = try HTTPFaultProxy(to: nil)
        let refusal = HTTPFaultProxy.Fault.answer(status: 401, headers: [], body: "")
        server.set(.init("PUT", "", refusal), .init("PUT", "", .answer(status: 202, headers: [], body: "")))
        var nova = try nova("http://127.0.0.1:\(server.port)")
        guard case .accepted = try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance) else {
            Issue.record("the swap was refused")
            return
        }
        #expect(Self.tokens(server) == ["own-1", "own-2"])
        server.set(Self.every(refusal))
        nova = try self.nova("http://127.0.0.1:\(server.port)")
        guard case .refused = try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance) else {
            Issue.record("the swap was accepted")
            return
        }
        #expect(Self.tokens(server) == ["own-1", "own-2"])
        server.set(Self.every(refusal))
        await #expect(throws: Unavailable.self) {
            try await nova.attachment(ofInstance: Self.instance, volume: Self.volume, token: Secret("user"))
        }
        #expect(Self.tokens(server) == ["user"])
    }

    @Test("a certificate of somebody else, of another host, or too old: no token and no request is told to who showed it")
    func certificates() async throws {
        let authority = TestCertificate("authority", use: .authority)
        let path = authority.file()
        for certificate in [
            TestCertificate("nova"), TestCertificate("nova", hosts: ["elsewhere.example"], issuer: authority),
            TestCertificate("nova", days: -1, issuer: authority),
        ] {
            let server = try HTTPFaultProxy(to: nil, certificate: certificate)
            server.set(Self.every(.answer(status: 202, headers: [], body: "")))
            let nova = try nova("https://localhost:\(server.port)", "cafile = \(path)")
            await #expect(throws: Unavailable.self) { try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance) }
            await #expect(throws: Unavailable.self) { try await nova.tell(.extended, volume: Self.volume, instances: [Self.instance]) }
            #expect(server.connections > 0 && server.heads.isEmpty)
        }
        let server = try HTTPFaultProxy(to: nil, certificate: TestCertificate("nova", issuer: authority))
        server.set(Self.every(.answer(status: 202, headers: [], body: "")))
        let nova = try nova("https://localhost:\(server.port)", "cafile = \(path)")
        guard case .accepted = try await nova.swap(Self.volume, for: Self.copy, ofInstance: Self.instance) else {
            Issue.record("the swap was refused")
            return
        }
    }
}
