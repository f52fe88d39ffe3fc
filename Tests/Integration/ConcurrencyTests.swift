import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Several clients at one volume. A witness inside the driver says whether two calls ever worked on one thing at a time.
@Suite("Concurrency", .serialized)
struct ConcurrencyTests {
    /// What a client does, with the statuses that it may be answered. Of the exclusive ones, one at most succeeds.
    enum Act: String, CaseIterable, Sendable {
        case delete, extend, reserve, attach, initialize, clone, rename, metadata, show, bootable

        var isExclusive: Bool { [.delete, .reserve, .attach].contains(self) }
        var success: Int { [.delete, .extend, .reserve, .clone].contains(self) ? 202 : 200 }
    }

    private struct Result: Sendable {
        let act: Act
        let status: Int
        let text: String
        let made: String?
    }

    private static func perform(_ act: Act, _ service: ServiceUnderTest, _ id: String) throws -> Result {
        let path = "/volumes/\(id)"
        let answer =
            switch act {
            case .delete: try service.api("DELETE", path)
            case .extend: try service.api("POST", path + "/action", ["os-extend": ["new_size": 2]])
            case .reserve: try service.api("POST", path + "/action", ["os-reserve": [:]])
            case .attach:
                try service.api(
                    "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
            case .initialize:
                try service.api("POST", path + "/action", ["os-initialize_connection": ["connector": LifecycleTests.connector]])
            case .clone: try service.api("POST", "/volumes", ["volume": ["source_volid": .string(id)]])
            case .rename: try service.api("PUT", path, ["volume": ["name": "renamed"]])
            case .metadata: try service.api("POST", path + "/metadata", ["metadata": ["a": "b"]])
            case .show: try service.api("GET", path)
            case .bootable: try service.api("POST", path + "/action", ["os-set_bootable": ["bootable": true]])
            }
        return Result(act: act, status: answer.status, text: answer.text, made: act == .clone ? answer.json["volume"]?["id"]?.string : nil)
    }

    /// One interleaving: all clients at once, then what they were told against the rules.
    private static func interleave(_ service: ServiceUnderTest, _ random: inout Seeded, _ seed: String) throws {
        let id = try service.create()
        try service.wait(id, "available")
        let acts = (0..<Int.random(in: 2...8, using: &random)).map { _ in Act.allCases.randomElement(using: &random) ?? .show }
        let delays = acts.map { _ in UInt32.random(in: 0...3_000, using: &random) }
        let results = Guarded<[Result]>([])
        let finished = Semaphore()
        for (act, delay) in zip(acts, delays) {
            startThread("client") {
                usleep(delay)
                do {
                    let result = try perform(act, service, id)
                    results.withLock { $0.append(result) }
                } catch { Issue.record("\(seed) \(act): \(error)") }
                finished.post()
            }
        }
        for _ in acts { finished.wait() }
        let told = results.withLock { $0 }
        let line = told.map { "\($0.act) \($0.status)" }.joined(separator: ", ")
        for result in told {
            #expect([result.act.success, 400, 404, 409].contains(result.status), "\(seed) \(result.act): \(result.status) \(result.text)")
            if result.status >= 400 { #expect(result.text.contains("message"), "\(seed) \(result.text)") }
        }
        #expect(told.count { $0.act.isExclusive && $0.status == $0.act.success } <= 1, "\(seed) two exclusive effects: \(line)")
        #expect(told.count { $0.act == .extend && $0.status == 202 } <= 1, "\(seed) extended twice: \(line)")
        // Whatever the interleaving, everything settles and can be removed.
        let isDeleted = told.contains { $0.act == .delete && $0.status == 202 }
        for made in told.compactMap(\.made) {
            try service.wait(made, "available")
            _ = try service.api("DELETE", "/volumes/\(made)")
            try service.wait(made, nil)
        }
        if isDeleted {
            try service.wait(id, nil)
        } else {
            for attachment in try service.api("GET", "/attachments?volume_id=\(id)").json["attachments"]?.array ?? [] {
                #expect(try service.api("DELETE", "/attachments/\(attachment["id"]?.string ?? "")").status == 200)
            }
            _ = try service.api("POST", "/volumes/\(id)/action", ["os-unreserve": [:]])
            let settled = try service.wait(id, "available")
            let isExtended = told.contains { $0.act == .extend && $0.status == 202 }
            #expect(settled?["size"]?.integer == (isExtended ? 2 : 1), "\(seed) \(line)")
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202, "\(seed) \(line)")
            try service.wait(id, nil)
        }
    }

    private static var interleavings: Int { getenv("CLINKER_INTERLEAVINGS").flatMap { Int(String(cString: $0)) } ?? 1000 }

    @Test("random interleavings of two to eight clients: never two exclusive effects, and the loser is told why")
    func interleavings() async throws {
        let backend = try FaultyBackend()
        let witness = backend.directory + "/witness"
        mkdir(witness, 0o700)
        let service = try backend.service(more: "witness = \(witness)", callTimeout: 60)
        let seed = SoakTests.seed
        let finished = Semaphore()
        let lanes = 4
        for lane in 0..<lanes {
            startThread("lane-\(lane)") {
                for index in stride(from: lane, to: Self.interleavings, by: lanes) {
                    var random = Seeded(seed &+ UInt64(index))
                    do { try Self.interleave(service, &random, "CLINKER_SEED=\(seed) #\(index)") } catch {
                        Issue.record("seed \(seed) #\(index): \(error)")
                    }
                }
                finished.post()
            }
        }
        for _ in 0..<lanes { finished.wait() }
        #expect(
            (try? ServiceUnderTest.read(witness + "/VIOLATIONS")) == nil,
            "calls overlapped: \((try? ServiceUnderTest.read(witness + "/VIOLATIONS")) ?? "")")
        #expect(backend.files.isEmpty)
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0)
        let (status, findings) = try await DoctorTests.examine(service)
        #expect(status == 0, "\(findings)")
    }

    @Test("many clones of one volume are made at the same time, while the volume itself cannot be deleted under them")
    func clones() throws {
        let backend = try FaultyBackend()
        let witness = backend.directory + "/witness"
        mkdir(witness, 0o700)
        let service = try backend.service(more: "witness = \(witness)", callTimeout: 60)
        let golden = try service.create()
        try service.wait(golden, "available")
        try backend.set("clone_volume delay-3000 8\n")
        let clones = try (0..<8).map { _ in try service.create(["source_volid": .string(golden)]) }
        #expect(try service.api("DELETE", "/volumes/\(golden)").status == 202)
        for clone in clones { try service.wait(clone, "available") }
        try service.wait(golden, nil)
        #expect(try ServiceUnderTest.read(witness + "/PEAK") == "8")
        #expect((try? ServiceUnderTest.read(witness + "/VIOLATIONS")) == nil)
    }
}
