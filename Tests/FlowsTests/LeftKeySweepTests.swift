import BlockStorage
import Database
import JSON
import KeyManager
import Primitives
import Testing

@testable import Flows

@Suite("Keys that operations gave up to delete")
struct LeftKeySweepTests {
    private let bench: FlowBench
    private let services: FlowServices

    init() async throws {
        bench = try await FlowBench()
        services = try bench.services()
    }

    private func left() async throws -> [LeftKey] { try await bench.database.read { try LeftKeys.all(in: $0) } }
    private func findings() async throws -> [Finding] {
        try await KeyExamination(imageKeys: nil, database: bench.database).findings()
    }
    private func run(_ statement: String, _ values: [Value] = []) async throws {
        try await bench.database.write { _ = try $0.run(text: statement, values) }
    }
    /// As if as much time had passed as the next attempts wait.
    private func pass() async throws { try await run("UPDATE left_keys SET retry_at = '2020-01-01'") }

    /// A key of a volume that is gone.
    private func key(of volume: String) async throws -> String {
        try await bench.keys.create(KeyRequest(bits: 256, name: "clinker-volume-" + volume))
    }

    /// An operation that is to delete a key, and fails at that.
    @discardableResult
    private func giveUp(_ arguments: some FlowArguments, about id: String) async throws -> String {
        let operation = try await bench.database.write {
            try Operations.create(
                arguments, resourceType: "key", resourceID: id, projectID: "p", caller: .service(requestID: UUID.random(prefix: "req-")),
                claims: [.exclusive(new: UUID.random())], in: $0)
        }
        try await bench.carryOut(operation)
        return operation
    }

    private func giveUp(_ count: Int) async throws -> [(volume: String, key: String)] {
        bench.keys.refuses.withLock { $0 = KeyFailure(.damaged, "it is in trouble") }
        var made: [(volume: String, key: String)] = []
        for _ in 0..<count {
            let volume = UUID.random()
            let key = try await key(of: volume)
            try await giveUp(DeleteKeyArguments(keyID: key, volumeID: volume), about: key)
            made.append((volume, key))
        }
        return made
    }

    @Test("a key is tried again ever less often, across restarts, until it is gone, though nothing of its operation is kept any more")
    func again() async throws {
        let (volume, key) = try await giveUp(1)[0]
        #expect(try await left().map(\.keyID) == [key])
        for table in ["operations", "events"] { try await run("DELETE FROM \(table)") }
        bench.keys.refuses.withLock { $0 = KeyFailure(.refused, "it has no right") }
        // Not before its time.
        await LeftKeySweep(services).tick()
        #expect(try await left().map(\.attempts) == [0])
        var distances: [Double] = []
        for attempt in 1...8 {
            try await pass()
            let before = Timestamp.format(Timestamp.seconds() + 60)
            // Each by a process of its own.
            await LeftKeySweep(services).tick()
            let one = try #require(try await left().first)
            #expect(one.attempts == attempt && one.message.contains("it has no right") && one.retryAt > before)
            distances.append(try #require(Timestamp.parse(one.retryAt)))
        }
        #expect(zip(distances, distances.dropFirst()).allSatisfy { $0 < $1 })
        #expect(distances.last.map { $0 < Timestamp.seconds() + 3700 } == true)
        let told = try await findings()
        #expect(told.count == 1 && told[0].text.contains("The key \(key) of volume \(volume) was not deleted at"), "\(told.map(\.text))")
        #expect(told[0].text.contains("nor by 8 further attempts"))
        bench.keys.refuses.withLock { $0 = nil }
        try await pass()
        await LeftKeySweep(services).tick()
        #expect(try await left().isEmpty && !bench.keys.holds(key))
        #expect(try await findings().isEmpty)
        bench.close()
    }

    @Test("a turn tries so many, the longest due first, and asks a manager once that does not answer")
    func turns() async throws {
        let made = try await giveUp(7)
        let asked = Guarded(0)
        func answer(_ failure: KeyFailure?) {
            bench.keys.answers.withLock { answers in
                answers = {
                    asked.withLock { $0 += 1 }
                    return failure
                }
            }
        }
        try await pass()
        let sweep = LeftKeySweep(services, limit: 3)
        answer(KeyFailure(.unavailable, "it does not answer"))
        await sweep.tick()
        #expect(asked.withLock { $0 } == 1)
        // The one that it did not answer about keeps no other waiting.
        answer(nil)
        for count in [4, 7, 7] {
            await sweep.tick()
            #expect(asked.withLock { $0 } == count)
        }
        #expect(try await left().count == 1)
        try await pass()
        await sweep.tick()
        #expect(try await left().isEmpty && made.allSatisfy { !bench.keys.holds($0.key) })
        bench.close()
    }

    @Test("what was made and never recorded goes by its name, and what its manager does not know counts as gone")
    func unrecorded() async throws {
        bench.keys.refuses.withLock { $0 = KeyFailure(.damaged, "it is in trouble") }
        let (volume, maker, gone) = (UUID.random(), UUID.random(), UUID.random())
        let key = try await bench.keys.create(KeyRequest(bits: 256, name: "clinker-volume-\(volume)-\(maker)"))
        try await bench.database.write { tx in
            let id = try Operations.create(
                DiscardKeyArguments(volumeID: volume, operationID: maker), resourceType: "key", resourceID: maker, projectID: "p",
                caller: .service(requestID: "req-1"), claims: [], in: tx)
            let operation = try #require(try Operations.find(id, in: tx))
            try LeftKeys.note(nil, ofVolume: volume, madeBy: maker, by: operation, message: "it was in trouble", in: tx)
            try Operations.finish(operation, state: .failed, error: "it was in trouble", in: tx)
        }
        try await giveUp(DeleteKeyArguments(keyID: gone, volumeID: volume), about: gone)
        #expect(try await left().count == 2)
        bench.keys.refuses.withLock { $0 = nil }
        try await pass()
        await LeftKeySweep(services).tick()
        #expect(try await left().isEmpty && !bench.keys.holds(key))
        bench.close()
    }

    @Test("a key that a volume uses stays, whoever noted it as left")
    func used() async throws {
        let (requests, caller) = (bench.requests, bench.caller())
        let volume = try await bench.perform { tx in
            var new = NewVolume()
            (new.size, new.typeName) = (1, "secret")
            return try requests.create(new, caller: caller, in: tx)
        }
        let key = try #require(try await bench.database.read { try Volumes.find(volume, in: $0)?.encryptionKeyID })
        bench.keys.refuses.withLock { $0 = KeyFailure(.damaged, "it is in trouble") }
        try await giveUp(DeleteKeyArguments(keyID: key, volumeID: volume), about: key)
        bench.keys.refuses.withLock { $0 = nil }
        try await pass()
        await LeftKeySweep(services).tick()
        #expect(try await left().isEmpty && bench.keys.holds(key))
        bench.close()
    }

    /// As the release without a table of them did it.
    private func giveUpAsBefore(_ arguments: some FlowArguments, about id: String, _ data: JSONObject) async throws {
        try await bench.database.write { tx in
            let made = try Operations.create(
                arguments, resourceType: "key", resourceID: id, projectID: "p", caller: .service(requestID: "req-1"), claims: [], in: tx)
            let operation = try #require(try Operations.find(made, in: tx))
            try Events.append(
                "key.kept", resourceType: "key", resourceID: id, projectID: "p", operationID: made, requestID: "req-1", data: data, in: tx)
            try Operations.finish(operation, state: .failed, error: "the key manager: it was in trouble", in: tx)
        }
    }

    @Test("what the release before noted in operations and events is taken over by the first turn, once, and deleted")
    func upgrade() async throws {
        let (volume, other, maker, third) = (UUID.random(), UUID.random(), UUID.random(), UUID.random())
        let key = try await key(of: volume)
        let unrecorded = try await bench.keys.create(KeyRequest(bits: 256, name: "clinker-volume-\(other)-\(maker)"))
        try await giveUpAsBefore(
            DeleteKeyArguments(keyID: key, volumeID: volume), about: key,
            ["key_id": .string(key), "volume_id": .string(volume), "made_by": .null])
        try await giveUpAsBefore(
            DiscardKeyArguments(volumeID: other, operationID: maker), about: maker,
            ["key_id": .null, "volume_id": .string(other), "made_by": .string(maker)])
        // The doctor had this one deleted again.
        let mended = UUID.random()
        try await giveUpAsBefore(
            DeleteKeyArguments(keyID: mended, volumeID: third), about: mended,
            ["key_id": .string(mended), "volume_id": .string(third), "made_by": .null])
        try await run("UPDATE operations SET created_at = '2020-01-01T00:00:00.000000' WHERE resource_id = ?", [.text(mended)])
        try await giveUp(DeleteKeyArguments(keyID: mended, volumeID: third), about: mended)

        bench.keys.refuses.withLock { $0 = KeyFailure(.refused, "it has no right") }
        let took = try await bench.database.write { try LeftKeys.takeOver(limit: 1, in: $0) }
        #expect(took == 1)
        await LeftKeySweep(services).tick()
        // What was never recorded has no id, by which it could be refused.
        let taken = try await left()
        #expect(taken.map(\.keyID) == [key] && taken[0].message.contains("it has no right"), "\(taken)")
        #expect(taken[0].volumeID == volume && taken[0].projectID == "p")
        bench.keys.refuses.withLock { $0 = nil }
        try await pass()
        await LeftKeySweep(services).tick()
        #expect(!bench.keys.holds(key) && !bench.keys.holds(unrecorded))
        // The next process does not take them over again.
        await LeftKeySweep(services).tick()
        #expect(try await left().isEmpty)
        bench.close()
    }
}
