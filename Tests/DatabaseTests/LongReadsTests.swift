import Primitives
import TestSupport
import Testing

@testable import Database

/// What a read may cost, and what is done with reads that cost much.
@Suite("Long reads")
struct LongReadsTests {
    /// Numbers without end.
    private static let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    private static func kind(_ body: () async throws -> Void) async -> DatabaseError.Kind? {
        do {
            try await body()
            return nil
        } catch { return (error as? DatabaseError)?.kind }
    }

    @Test(
        "a read that costs more than it may is given up, and its connection serves the next",
        arguments: [ReadLimit.steps(50_000), .seconds(0.05)])
    func limits(limit: ReadLimit) async throws {
        let temporary = try TemporaryDatabase()
        for _ in 0..<3 {
            #expect(
                await Self.kind { try temporary.database.readBlocking(limit) { try $0.query(text: Self.endless, []) { _ in true } } }
                    == .tooLong)
            let counted = try temporary.database.readBlocking { connection in
                try connection.first(
                    SQL("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT count(*) FROM n")
                ) {
                    $0.int(0)
                }
            }
            #expect(counted == 1000)
        }
        #expect(temporary.database.idleReaderCount == 1)
    }

    @Test("one owner never has every thread, and what waits is bounded, of each and of all")
    func owners() async throws {
        let temporary = try TemporaryDatabase()
        let reads = LongReads(temporary.database, threads: 2, limit: 4, limitPerOwner: 2, patience: 60)
        let (started, gate) = (Semaphore(), Semaphore())
        func held(_ owner: String) async throws {
            try await reads.read(for: owner) { _ in
                started.post()
                gate.wait()
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await held("a") }
            await Self.untilPosted(started)
            // One of "a" runs and two wait; a fourth is too many, though a thread is free.
            for _ in 0..<2 { group.addTask { try await held("a") } }
            while reads.waiting < 2 { await Task.yield() }
            #expect(await Self.kind { try await held("a") } == .busy)
            #expect(!reads.isIdle)
            #expect(try await reads.read(for: "b") { _ in 1 } == 1)
            for _ in 0..<3 { gate.post() }
            try await group.waitForAll()
        }
        #expect(await Self.kind { try await reads.read(for: "c") { try $0.query(text: "nonsense", []) { _ in true } } } == .other)
        reads.close()
        #expect(await Self.kind { try await reads.read(for: "a") { _ in } } == .busy)
    }

    private static func untilPosted(_ semaphore: Semaphore) async {
        await withCheckedContinuation { continuation in
            startThread("wait") {
                semaphore.wait()
                continuation.resume()
            }
        }
    }

    @Test("a read that ends by its time is told so")
    func patience() async throws {
        let temporary = try TemporaryDatabase()
        let reads = LongReads(temporary.database, threads: 1, patience: 1)
        #expect(await Self.kind { try await reads.read(for: "a") { try $0.query(text: Self.endless, []) { _ in true } } } == .tooLong)
        #expect(try await reads.read(for: "a") { _ in 7 } == 7)
        reads.close()
    }
}
