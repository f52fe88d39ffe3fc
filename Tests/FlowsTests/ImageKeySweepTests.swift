import BlockStorage
import Database
import DriverHost
import KeyManager
import Primitives
import Settings
import Testing

@testable import Flows

@Suite("Keys of images that are gone")
struct ImageKeySweepTests {
    private let bench: FlowBench
    private let services: FlowServices
    private let clock = Guarded(0.0)

    init() async throws {
        bench = try await FlowBench()
        services = try bench.services()
    }

    private func sweep(limit: Int = 50) -> ImageKeySweep {
        ImageKeySweep(services, retention: 3600, limit: limit) { [clock] in clock.withLock { $0 } }
    }

    /// Images with keys, as uploads make them.
    private func images(_ count: Int) async throws -> [(image: String, key: String)] {
        var made: [(image: String, key: String)] = []
        for _ in 0..<count {
            let image = UUID.random()
            bench.images.add(image, content: "content")
            let key = try await bench.keys.create(KeyRequest(bits: 256, name: "clinker-image-" + image))
            try await bench.database.write { try ImageKeys.note(key, ofImage: image, project: "p", in: $0) }
            made.append((image: image, key: key))
        }
        return made
    }

    private func isKnown(_ image: String) async throws -> Bool {
        try await bench.database.read { try ImageKeys.isKnown(ofImage: image, in: $0) }
    }

    private func pass(_ seconds: Double) { clock.withLock { $0 += seconds } }

    @Test("the key goes, and the row, when the image was twice said to be gone, an hour apart; others stay")
    func gone() async throws {
        let made = try await images(3)
        let sweep = sweep()
        bench.images.remove(made[0].image)
        bench.images.remove(made[1].image)
        await sweep.tick()
        pass(1800)
        // It was only away.
        bench.images.add(made[1].image, content: "content")
        await sweep.tick()
        #expect(made.allSatisfy { bench.keys.holds($0.key) })
        pass(1800)
        await sweep.tick()
        pass(1800)
        await sweep.tick()
        #expect(!bench.keys.holds(made[0].key))
        #expect(try await !isKnown(made[0].image))
        for (image, key) in made.dropFirst() {
            #expect(bench.keys.holds(key))
            #expect(try await isKnown(image))
        }
        #expect(sweep.problem == nil)
        bench.close()
    }

    @Test(
        "where the account does not see everybody's images, or nothing is answered, every key stays, and the doctor tells why",
        arguments: [false, nil])
    func hidden(seesAll: Bool?) async throws {
        let made = try await images(1)
        let sweep = sweep()
        bench.images.remove(made[0].image)
        bench.images.seesAll.withLock { $0 = seesAll }
        for _ in 0..<4 {
            await sweep.tick()
            pass(4000)
        }
        #expect(bench.keys.holds(made[0].key))
        let findings = try await KeyExamination(imageKeys: sweep, database: bench.database).findings()
        #expect(findings.count == 1 && findings[0].kind == .key, "\(findings.map(\.text))")
        #expect(findings[0].text.contains(seesAll == nil ? "answered 403" : "hidden"), "\(findings[0].text)")
        // What was not proved then counts for nothing now.
        bench.images.seesAll.withLock { $0 = true }
        await sweep.tick()
        #expect(bench.keys.holds(made[0].key))
        pass(4000)
        await sweep.tick()
        #expect(!bench.keys.holds(made[0].key))
        #expect(try await KeyExamination(imageKeys: sweep, database: bench.database).findings().isEmpty)
        bench.close()
    }

    @Test("a turn asks about so many images, all in their turn, and one about which nothing is answered stops no other")
    func turns() async throws {
        let made = try await images(7)
        let sweep = sweep(limit: 3)
        bench.images.unanswered.withLock { $0 = [made[0].image] }
        for (image, _) in made { bench.images.remove(image) }
        var most = 0
        for _ in 0..<40 {
            bench.images.asked.withLock { $0 = [] }
            await sweep.tick()
            most = max(most, bench.images.asked.withLock { $0.count })
            pass(1000)
        }
        #expect(most == 3)
        #expect(made.filter { bench.keys.holds($0.key) }.map(\.key) == [made[0].key])
        bench.images.unanswered.withLock { $0 = [] }
        for _ in 0..<8 {
            await sweep.tick()
            pass(1000)
        }
        #expect(!bench.keys.holds(made[0].key))
        bench.close()
    }

    @Test("images that were gone, and whose uploads were taken back, keep no other waiting")
    func takenBack() async throws {
        let made = try await images(5)
        let sweep = sweep(limit: 4)
        for (image, _) in made { bench.images.remove(image) }
        for _ in 0..<3 { await sweep.tick() }
        for (image, _) in made.dropLast() {
            try await bench.database.write { tx in
                if let key = try ImageKeys.noted(ofImage: image, in: tx) { try ImageKeys.forget(key, in: tx) }
            }
        }
        pass(4000)
        await sweep.tick()
        #expect(!bench.keys.holds(made[4].key))
        #expect(sweep.problem == nil)
        bench.close()
    }

    @Test("a key that its manager does not delete now keeps its row, and is tried again")
    func refused() async throws {
        let made = try await images(1)
        let sweep = sweep()
        bench.images.remove(made[0].image)
        bench.keys.refuses.withLock { $0 = KeyFailure(.unavailable, "it does not answer") }
        for _ in 0..<3 {
            await sweep.tick()
            pass(4000)
        }
        #expect(try await isKnown(made[0].image))
        #expect(sweep.problem?.contains("it does not answer") == true)
        bench.keys.refuses.withLock { $0 = nil }
        for _ in 0..<2 {
            await sweep.tick()
            pass(4000)
        }
        #expect(try await !isKnown(made[0].image))
        #expect(sweep.problem == nil)
        bench.close()
    }
}
