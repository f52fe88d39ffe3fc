import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The fault table of deletions of keys, over a real Barbican: what can become of the request that deletes a volume's key, which process
/// dies in the middle of it, and afterwards neither a key nor the memory of one is left.
@Suite("Fault table of keys", .serialized)
struct FaultKeyTests {
    /// What is done to the volume.
    enum Act: String, CaseIterable, Sendable { case delete, force }

    /// What becomes of the first request to delete the key.
    enum Trouble: String, CaseIterable, Sendable {
        case reset, busy
        /// Not what Barbican answers: nobody waits for another answer.
        case broken
        /// It is done, and nobody hears of that.
        case lost
        /// Nothing comes.
        case silence

        var fault: HTTPFaultProxy.Fault {
            switch self {
            case .reset: .reset
            case .busy: .answer(status: 503, headers: [], body: "")
            case .broken: .answer(status: 418, headers: [], body: "")
            case .lost: .loseAnswer
            case .silence: .silence
            }
        }
    }

    enum Death: String, CaseIterable, Sendable { case none, core, service }

    struct Cell: Sendable {
        let act: Act
        let trouble: Trouble
        let death: Death
        var name: String { "key \(act) \(trouble) \(death)" }

        static let all = Act.allCases.flatMap { act in
            Trouble.allCases.flatMap { trouble in Death.allCases.map { Cell(act: act, trouble: trouble, death: $0) } }
        }
        // Silence alone is the patience of a request.
        .filter { $0.trouble != .silence || $0.death != .none }
    }

    private typealias World = KeyManagerTroubleTests.World

    /// Whether Barbican holds a key of the volume.
    private func holdsKey(of volume: String) throws -> Bool {
        let port = try KeyManagerTroubleTests.barbican.get().port
        let request =
            "GET /v1/secrets?limit=10&name=clinker-volume-\(volume) HTTP/1.1\r\nHost: h\r\nX-Auth-Token: any\r\nConnection: close\r\n\r\n"
        let answer = try ServiceUnderTest.parse(try Loopback.exchange(port, Array(request.utf8)))
        let secrets = try #require(answer.json["secrets"]?.array, "\(answer.text)")
        return !secrets.isEmpty
    }

    private func eventually(_ what: String, _ world: World, _ isSo: () async throws -> Bool) async throws {
        let limit = Timestamp.monotonic() + 120
        while Timestamp.monotonic() < limit {
            // A process that dies answers nobody.
            if (try? await isSo()) == true { return }
            usleep(50_000)
        }
        throw ServiceUnderTest.Failure("\(what)\n\(world.service.story)")
    }

    private func run(_ cell: Cell, _ world: World, _ proxy: HTTPFaultProxy) async throws {
        let name = cell.name
        let volume = try world.create()
        try world.wait(volume, "available")
        #expect(try holdsKey(of: volume), "\(name)")
        // As often as one attempt repeats it; a forced deletion tries twice: by itself and by the operation for the key.
        let times = cell.trouble == .lost ? 1 : cell.act == .force ? 4 : 2
        proxy.set(HTTPFaultProxy.Rule("DELETE", "/v1/secrets/", cell.trouble.fault, times: times))
        if cell.act == .delete {
            #expect(try world.ask("DELETE", "/volumes/\(volume)").status == 202, "\(name)")
        } else {
            #expect(try world.ask("POST", "/volumes/\(volume)/action", ["os-force_delete": [:]]).status == 202, "\(name)")
        }
        try await eventually("\(name): the trouble was not met", world) { proxy.hits > 0 }
        switch cell.death {
        case .none: break
        case .core:
            for core in world.service.processes("core") { kill(core, SIGKILL) }
            try world.service.waitUntilServing()
        case .service:
            world.service.signal(SIGKILL)
            _ = world.service.waitForEnd()
            // A core that has not been scheduled since answers for the one to come, and then ends.
            let limit = Timestamp.monotonic() + 60
            while (try? world.service.request("GET", "/")) != nil, Timestamp.monotonic() < limit { usleep(10_000) }
            try world.service.start()
        }
        if cell.trouble != .broken { proxy.set() }
        // The volume goes, or says that it could not, and goes then.
        try await eventually("\(name): the volume stays", world) {
            let shown = try world.ask("GET", "/volumes/\(volume)")
            if shown.json["volume"]?["status"] == "error_deleting" {
                proxy.set()
                _ = try world.ask("DELETE", "/volumes/\(volume)")
            }
            return shown.status == 404
        }
        // The key goes as soon as it can, or is remembered by then.
        try await eventually("\(name): the key is neither gone nor remembered", world) {
            guard try holdsKey(of: volume) else { return true }
            return try await DoctorTests.examine(world.service).findings.contains { $0["kind"] == "key" && $0.text.contains(volume) }
        }
        proxy.set()
        if try holdsKey(of: volume) { _ = try await DoctorTests.examine(world.service, repair: true) }
        try await eventually("\(name): the key stays", world) { try !holdsKey(of: volume) }
        try await eventually("\(name): what is gone is remembered", world) { try await DoctorTests.examine(world.service).findings.isEmpty }
        #expect(world.files.isEmpty && world.keys.isEmpty, "\(name): \(world.files) \(world.keys)")
    }

    @Test("what may become of the request that deletes a key, and each death in the middle of it")
    func table() async throws {
        let cells = Cell.all.filter { FaultSample.holds($0.name) }
        guard !cells.isEmpty else { return }
        let proxy = try HTTPFaultProxy(to: try KeyManagerTroubleTests.barbican.get().port)
        let world = try World("http://127.0.0.1:\(proxy.port)", options: "report_interval = 1")
        for cell in cells {
            do { try await run(cell, world, proxy) } catch {
                Issue.record("\(cell.name): \(String(describing: error).prefix(3000))")
                return
            }
        }
    }
}
