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

    @Test("a connection that waited for its turn when the process died is taken back, as one that was under way: its client is gone")
    func waiting() async throws {
        let (database, engine, requests) = try await Self.engine()
        engine.listen()
        let caller = Caller(userID: "u", projectID: "p", isAdmin: true, requestID: "req-test")
        let volume = try await database.write { tx in
            var new = NewVolume()
            new.size = 1
            return try requests.create(new, caller: caller, in: tx)
        }
        func latest() async throws -> BlockStorage.Operation {
            try #require(try await database.read { try Operations.latest(of: volume, in: $0) })
        }
        func setAvailable() async throws {
            try await database.write { tx in
                try Volumes.setStatus(.available, of: try #require(try Volumes.lock(volume, in: tx)), in: tx)
            }
        }
        let creation = try await latest()
        try await database.write { try Operations.finish(creation, state: .done, error: nil, in: $0) }
        try await setAvailable()
        try await database.write { try requests.extend(volume, to: 2, allowAttached: false, caller: caller, in: $0) }
        let growth = try await latest()
        try await setAvailable()
        let attachment = try await database.write {
            try requests.reserve(volumeID: volume, instanceID: "i", mode: nil, caller: caller, in: $0)
        }
        try await database.write { tx in
            _ = try requests.connectAttachment(attachment, connector: ["host": "h"], isNew: true, caller: caller, in: tx)
        }
        let unfinished = try await engine.unfinishedOperations()
        #expect(unfinished.waiting.count == 1)
        try await database.write { try Operations.finish(growth, state: .done, error: nil, in: $0) }
        engine.resume(FlowEngine.Unfinished(runnable: [], waiting: unfinished.waiting))
        let limit = Timestamp.monotonic() + 60
        while try await database.read({ try Attachments.find(attachment, of: volume, in: $0) }) != nil, Timestamp.monotonic() < limit {
            try await Task.sleep(nanoseconds: 10_000_000)
        }
        let (left, status) = try await database.read { connection in
            (try Attachments.find(attachment, of: volume, in: connection), try Volumes.find(volume, in: connection)?.status)
        }
        #expect(left == nil && status == .available)
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
