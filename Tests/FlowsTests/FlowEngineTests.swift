import BlockStorage
import Database
import Logging
import Primitives
import Settings
import TestSupport
import Testing

@testable import Flows

@Suite("Flow engine")
struct FlowEngineTests {
    /// An engine that carries nothing out: its one backend is never started, and what begins waits for it.
    private static func engine() async throws -> (database: SQLiteDatabase, engine: FlowEngine, requests: VolumeRequests) {
        let directory = temporaryDirectory("flows")
        let database = try SQLiteDatabase(path: directory + "/db")
        try await database.migrate(Schema.migrations)
        try await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
        let settings = try Settings(text: "[DEFAULT]\nenabled_backends = file\n[file]\nvolume_driver = file\n")
        let log = Logger(label: "flows") { _ in SwiftLogNoOpLogHandler() }
        let backends = try Backends(settings, node: "node", stateDirectory: directory, log: log)
        let engine = FlowEngine(try FlowServices(database: database, backends: backends, settings: settings, log: log))
        return (database, engine, VolumeRequests(settings))
    }

    @Test("what requests write while the work of a dead process is taken up is theirs: it begins when it is rung for, not as interrupted")
    func resume() async throws {
        let (database, engine, requests) = try await Self.engine()
        func operation() async throws -> String {
            try await database.write { tx in
                var new = NewVolume()
                new.size = 1
                let volume = try requests.create(
                    new, caller: Caller(userID: "u", projectID: "p", isAdmin: false, requestID: "req-test"), in: tx)
                return try #require(try Operations.runnable(in: tx).first { $0.resourceID == volume }).id
            }
        }
        let interrupted = try await operation()
        let unfinished = try await engine.unfinishedOperations()
        let (early, late) = (try await operation(), try await operation())
        engine.ring(early)
        #expect(engine.running.isEmpty)
        engine.resume(unfinished)
        #expect(engine.running == [interrupted, early])
        engine.ring(late)
        #expect(engine.running == [interrupted, early, late])
    }

    @Test("a member cancels what members start, and not the migration that an administrator has started")
    func cancellation() async throws {
        let (database, engine, _) = try await Self.engine()
        func status(_ flow: FlowID, isAdmin: Bool) async throws -> StorageError.Kind? {
            do {
                try await database.write { tx in
                    let id = UUID.random()
                    _ = try tx.run(
                        text: """
                            INSERT INTO operations (id, flow, version, state, reverting, attempts, resource_type, resource_id, project_id,
                                user_id, request_id, arguments, step_state, created_at, updated_at)
                            VALUES (?, ?, 1, 'running', 0, 0, 'volume', 'v', 'p', 'u', 'r', '{}', '{}', '2026-01-01T00:00:00.000000',
                                '2026-01-01T00:00:00.000000')
                            """, [.text(id), .text(flow.name)])
                    let caller = Caller(userID: "u", projectID: "p", isAdmin: isAdmin, requestID: "req-test")
                    try engine.cancel(try Operations.get(id, for: caller, in: tx), caller: caller, in: tx)
                }
                return nil
            } catch let error as StorageError { return error.kind }
        }
        for (flow, member) in [
            (CreateVolume.id, nil), (CreateSnapshot.id, nil), (RetypeVolume.id, nil), (MigrateVolume.id, .forbidden),
            (DeleteVolume.id, .conflict),
        ] as [(FlowID, StorageError.Kind?)] {
            #expect(try await status(flow, isAdmin: false) == member, "\(flow) by a member")
            #expect(try await status(flow, isAdmin: true) == (member == .conflict ? .conflict : nil), "\(flow) by an administrator")
        }
    }
}
