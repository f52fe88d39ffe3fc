import Glibc
import KeyManager
import Primitives
import Settings
import TestSupport
import Testing

/// A server in Barbican's place that sends elsewhere, says nothing, or cannot show who it is.
@Suite(.serialized) struct BarbicanTroubleTests {
    private static let id = "00000000-0000-4000-8000-000000000001"

    private func manager(
        _ url: String, authorities: String = "", retries: Int = 1, delay: Int = 0, waiting: (any KeyWaiting)? = nil, timeout: Double = 30
    ) throws -> Barbican {
        let text = """
            [barbican]
            barbican_endpoint = \(url)
            number_of_retries = \(retries)
            retry_delay = \(delay)
            verify_ssl_path = \(authorities)
            """
        return Barbican(
            try Settings(text: text, known: OptionCatalogue(Options.keyManager, Options.barbican)),
            access: TokensOfTests(["first", "second"]), waiting: waiting, timeout: timeout)
    }

    /// Waits until it was told.
    private final class Waiting: KeyWaiting {
        let heard = Guarded<[String]>([])
        func told(_ failure: KeyFailure, repetitions: Int, pause: Int) {
            heard.withLock { $0.append("\(failure.kind) \(repetitions) \(pause)") }
        }
        var isOver: Bool { heard.withLock { !$0.isEmpty } }
    }

    @Test func `that it does not answer is told at once, and who stops waits no longer`() async throws {
        let server = try HTTPFaultProxy(to: nil)
        server.set(every(.answer(status: 503, headers: [], body: "")))
        for ask in [
            { @Sendable (manager: Barbican) in _ = try await manager.key(Self.id) },
            { @Sendable (manager: Barbican) in _ = try await manager.create(KeyRequest(bits: 256, name: "a")) },
        ] {
            let waiting = Waiting()
            let manager = try manager("http://127.0.0.1:\(server.port)", retries: 1000, delay: 600, waiting: waiting)
            let failure = await #expect(throws: KeyFailure.self) { try await ask(manager) }
            #expect(failure?.kind == .unavailable && waiting.heard.withLock { $0 } == ["unavailable 1000 600"])
        }
    }

    /// Whatever is asked fails in this way.
    private func expect(_ kind: KeyFailure.Kind, _ manager: Barbican, _ words: String) async throws {
        let request = try KeyRequest(bits: 256, name: "trouble")
        func failure(_ body: () async throws -> Void) async -> KeyFailure? {
            do { try await body() } catch { return error as? KeyFailure }
            return nil
        }
        let failures = [
            await failure { _ = try await manager.create(request) }, await failure { _ = try await manager.key(Self.id) },
            await failure { _ = try await manager.copy(Self.id, as: request) }, await failure { try await manager.delete(Self.id) },
            await failure { try await manager.discard("trouble") }, await failure { try await manager.open(Self.id, to: "alice") },
        ]
        #expect(failures.allSatisfy { $0?.kind == kind }, "\(words): \(failures)")
    }

    private func every(_ fault: HTTPFaultProxy.Fault) -> [HTTPFaultProxy.Rule] {
        ["GET", "PUT", "POST", "DELETE"].map { .init($0, "", fault, times: 1000) }
    }

    @Test(arguments: [301, 302, 303, 307, 308]) func `who sends elsewhere is not followed, with the token or the key`(status: Int)
        async throws
    {
        let (server, trap) = (try HTTPFaultProxy(to: nil), try HTTPFaultProxy(to: nil))
        server.set(every(.answer(status: status, headers: ["Location: http://127.0.0.1:\(trap.port)/v1/secrets"], body: "")))
        try await expect(.damaged, manager("http://127.0.0.1:\(server.port)"), "\(status)")
        #expect(trap.connections == 0)
    }

    @Test func `who says nothing is given up`() async throws {
        let server = try HTTPFaultProxy(to: nil)
        server.set(every(.silence))
        let failure = await #expect(throws: KeyFailure.self) {
            _ = try await manager("http://127.0.0.1:\(server.port)", timeout: 1).create(KeyRequest(bits: 256, name: "slow"))
        }
        #expect(failure?.kind == .unavailable)
        // What it did not get to hear while this process stood still was given up, too.
        #expect(server.hits <= 2)
    }

    @Test func `a certificate of somebody else, of another host, or too old is told nothing`() async throws {
        let authority = TestCertificate("authority", use: .authority)
        let path = authority.file()
        for certificate in [
            TestCertificate("barbican"), TestCertificate("barbican", hosts: ["elsewhere.example"], issuer: authority),
            TestCertificate("barbican", days: -1, issuer: authority),
        ] {
            let server = try HTTPFaultProxy(to: nil, certificate: certificate)
            try await expect(.unavailable, manager("https://localhost:\(server.port)", authorities: path), "certificate")
            #expect(server.connections > 0 && server.heads.isEmpty)
        }
    }
}
