import KeyManager
import Primitives
import TestSupport
import Testing

/// Against a real Barbican.
@Suite(.serialized) struct BarbicanTests {
    let barbican: BarbicanUnderTest

    init() throws {
        barbican = try BarbicanUnderTest.shared.get()
        barbican.proxy.set()
        try barbican.believe(["first", "second"])
    }

    private func request(_ name: String, bits: Int = 256, user: String? = nil) throws -> KeyRequest {
        try KeyRequest(bits: bits, name: name, userID: user)
    }

    private func failure(_ body: () async throws -> Void) async -> KeyFailure? {
        do { try await body() } catch { return error as? KeyFailure }
        return nil
    }

    @Test(arguments: KeyRequest.lengths) func `a key has the length that was asked for, and every read gives the same`(bits: Int)
        async throws
    {
        let manager = try barbican.manager()
        let id = try await manager.create(request("length-\(bits)", bits: bits))
        let key = try await manager.key(id)
        #expect(key.bits == bits)
        #expect(try await barbican.manager().key(id) == key)
        #expect(key.passphrase.reveal().utf8.count == bits / 4)
    }

    @Test func `a key made twice under a name is one key`() async throws {
        let manager = try barbican.manager()
        let first = try await manager.create(request("twice"))
        let second = try await manager.create(request("twice"))
        #expect(first == second)
        #expect(try barbican.count("twice") == 1)
    }

    @Test func `a copy has the content and another id`() async throws {
        let manager = try barbican.manager()
        let id = try await manager.create(request("original"))
        let copy = try await manager.copy(id, as: request("copy"))
        #expect(copy != id)
        let (a, b) = (try await manager.key(id), try await manager.key(copy))
        #expect(a == b)
        try await manager.delete(id)
        #expect(try await manager.key(copy) == a)
    }

    @Test func `what is deleted is gone, and deleting it again is no failure`() async throws {
        let manager = try barbican.manager()
        let id = try await manager.create(request("deleted"))
        try await manager.delete(id)
        try await manager.delete(id)
        #expect(await failure { _ = try await manager.key(id) }?.kind == .notFound)
        #expect(try barbican.count("deleted") == 0)
    }

    @Test func `what was made under a name is discarded by the name`() async throws {
        let manager = try barbican.manager()
        _ = try await manager.create(request("discarded"))
        try await manager.discard("discarded")
        try await manager.discard("discarded")
        #expect(try barbican.count("discarded") == 0)
    }

    @Test func `the user of the volume may read the key, another of the project may not`() async throws {
        let manager = try barbican.manager()
        let id = try await manager.create(request("of-alice", user: "alice"))
        let key = try await manager.key(id)
        #expect(try await barbican.manager(TokensOfTests(["alice"])).key(id) == key)
        #expect(await failure { _ = try await barbican.manager(TokensOfTests(["mallory"])).key(id) }?.kind == .refused)
    }

    @Test func `who gets the volume may read the key, and who had it no more`() async throws {
        let manager = try barbican.manager()
        let id = try await manager.create(request("given-away", user: "alice"))
        try await manager.open(id, to: "mallory")
        #expect(try await barbican.manager(TokensOfTests(["mallory"])).key(id) == manager.key(id))
        #expect(await failure { _ = try await barbican.manager(TokensOfTests(["alice"])).key(id) }?.kind == .refused)
        try await manager.delete(id)
        #expect(await failure { try await manager.open(id, to: "mallory") }?.kind == .notFound)
    }

    // MARK: certificates

    @Test func `a certificate is what its owner stored, whose readers name Clinker's account`() async throws {
        let content = Array("-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n".utf8)
        let manager = try barbican.manager()
        #expect(try await manager.certificate(barbican.secret(content)) == content)
        #expect(try await manager.certificate(barbican.secret([0x30, 0x82, 0, 255])) == [0x30, 0x82, 0, 255])
        #expect(try await manager.certificate(barbican.secret(content, token: "alice", readers: ["clinker"])) == content)
    }

    @Test func `what is no certificate that may be read has its own failure`() async throws {
        let manager = try barbican.manager(retries: 0)
        func refusal(_ id: String) async -> KeyFailure? { await failure { _ = try await manager.certificate(id) } }
        let absent = UUID.random()
        #expect(await refusal(absent) == KeyFailure(.notFound, "Barbican has no secret \(absent)"))
        let key = try barbican.secret([1, 2, 3], type: "opaque")
        #expect(await refusal(key) == KeyFailure(.invalid, "Barbican's secret \(key) is of type opaque, and not certificate"))
        let foreign = await refusal(try barbican.secret([0x30], token: "alice"))
        #expect(foreign?.kind == .refused && foreign?.description.contains("another project's") == true, "\(foreign?.description ?? "")")
        #expect(await refusal(try barbican.secret([UInt8](repeating: 0x30, count: 16_385), as: "text/plain"))?.kind == .tooLong)
        #expect(await refusal("../../secrets")?.kind == .invalid)
        #expect(await refusal("")?.kind == .invalid)
    }

    @Test func `other key managers keep no certificates`() async throws {
        let fixed = try FixedKey(Secret(String(repeating: "01", count: 32)))
        #expect(await failure { _ = try await fixed.certificate(UUID.random()) }?.kind == .unsupported)
        let id = try barbican.secret([0x30])
        #expect(try await KeyManagerBesideFixedKey(barbican.manager(), fixed).certificate(id) == [0x30])
    }

    // MARK: faults

    @Test func `a refused token is renewed once`() async throws {
        let tokens = TokensOfTests(["first", "second"])
        let manager = try barbican.manager(tokens)
        let id = try await manager.create(request("renewed"))
        try barbican.believe(["second"])
        _ = try await manager.key(id)
        #expect(tokens.refusals == ["first"])
        try barbican.believe([])
        #expect(await failure { _ = try await manager.key(id) }?.kind == .refused)
        #expect(tokens.refusals == ["first", "second"])
    }

    @Test func `a lost answer to a new secret leaves one secret`() async throws {
        barbican.proxy.set(.init("POST", "/secrets", .loseAnswer))
        let id = try await barbican.manager().create(request("lost"))
        #expect(barbican.proxy.hits == 1)
        #expect(try barbican.count("lost") == 1)
        #expect(try await barbican.manager().key(id).bits == 256)
    }

    @Test func `what fails for a moment is asked for again`() async throws {
        barbican.proxy.set(
            .init("GET", "/secrets?", .answer(status: 503, headers: [], body: "")), .init("POST", "/secrets", .reset),
            .init("PUT", "/acl", .answer(status: 500, headers: [], body: "no")), .init("GET", "/payload", .cut))
        let manager = try barbican.manager()
        let id = try await manager.create(request("again", user: "alice"))
        #expect(try await manager.key(id).bits == 256)
        #expect(barbican.proxy.hits == 4)
        #expect(try barbican.count("again") == 1)
    }

    @Test func `a Barbican that does not come back is named, after so many attempts`() async throws {
        barbican.proxy.set(.init("GET", "", .answer(status: 500, headers: [], body: ""), times: 100))
        let failed = await failure { _ = try await barbican.manager(retries: 3).create(request("down")) }
        #expect(failed?.kind == .unavailable)
        #expect(barbican.proxy.hits == 4)
        let nobody = try Loopback.freePort()
        let refused = await failure { _ = try await barbican.manager(port: nobody, retries: 1).create(request("nobody")) }
        #expect(refused?.kind == .unavailable)
        #expect(refused?.description.contains("127.0.0.1:\(nobody)") == true)
    }

    @Test(arguments: [
        "{}", "{\"secrets\": 1}",
        "{\"secrets\": [{\"name\": \"other\", \"secret_ref\": \"http://h/v1/secrets/00000000-0000-4000-8000-000000000001\"}]}",
        "{\"secrets\": [{\"name\": \"forged\", \"secret_ref\": \"http://h/v1/secrets/../../etc\"}]}", "<html>",
    ])
    func `a forged list of secrets makes no key`(body: String) async throws {
        barbican.proxy.set(.init("GET", "/secrets?", .answer(status: 200, headers: [], body: body), times: 100))
        #expect(await failure { _ = try await barbican.manager().create(request("forged")) }?.kind == .damaged)
        #expect(try barbican.count("forged") == 0)
    }

    @Test(arguments: [0, 7, 65, 4096, 5_000_000]) func `a content that is no key is refused`(size: Int) async throws {
        let id = try await barbican.manager().create(request("sizes"))
        barbican.proxy.set(
            .init("GET", "/payload", .answer(status: 200, headers: [], body: String(repeating: "x", count: size)), times: 100))
        let failed = await failure { _ = try await barbican.manager().key(id) }
        #expect(failed?.kind == .damaged || failed?.kind == .tooLong)
    }

    @Test func `a 404 that is not Barbican's is no proof that a key is gone`() async throws {
        let manager = try barbican.manager()
        let id = try await manager.create(request("proxy"))
        barbican.proxy.set(
            .init("GET", "/payload", .answer(status: 404, headers: [], body: "<html>")),
            .init("DELETE", "/secrets", .answer(status: 404, headers: [], body: "<html>")))
        #expect(await failure { _ = try await manager.key(id) }?.kind == .damaged)
        #expect(await failure { try await manager.delete(id) }?.kind == .damaged)
        _ = try await manager.key(id)
    }

    @Test(arguments: ["", "x", "../../v1/secrets", "00000000-0000-4000-8000-00000000000g", "00000000-0000-4000-8000-000000000001?a"])
    func `what is no id is asked of nobody`(id: String) async throws {
        let manager = try barbican.manager()
        #expect(await failure { _ = try await manager.key(id) }?.kind == .notFound)
        #expect(await failure { try await manager.delete(id) }?.kind == .notFound)
        #expect(barbican.proxy.heads.isEmpty)
    }

    @Test func `no failure holds a key or a token`() async throws {
        barbican.proxy.set(.init("POST", "/secrets", .answer(status: 400, headers: [], body: "bad"), times: 100))
        let failed = await failure { _ = try await barbican.manager().create(request("secretive")) }
        #expect(failed?.kind == .damaged)
        #expect(failed?.description.contains("first") == false)
        barbican.proxy.set()
        let key = try await barbican.manager().key(try await barbican.manager().create(request("printed")))
        #expect("\(key)" == "***" && String(reflecting: key) == "***" && "\(key.passphrase)" == "***")
    }
}
