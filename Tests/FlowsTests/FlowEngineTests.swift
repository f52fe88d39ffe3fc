import BlockStorage
import Database
import Logging
import Settings
import TestSupport
import Testing

@testable import Flows

@Suite("Flow engine")
struct FlowEngineTests {
    @Test("what requests write while the work of a dead process is taken up is theirs: it begins when it is rung for, not as interrupted")
    func resume() async throws {
        let directory = temporaryDirectory("flows")
        let database = try SQLiteDatabase(path: directory + "/db")
        try await database.migrate(Schema.migrations)
        try await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
        let settings = try Settings(text: "[DEFAULT]\nenabled_backends = file\n[file]\nvolume_driver = file\n")
        let log = Logger(label: "flows") { _ in SwiftLogNoOpLogHandler() }
        // Its backend is never started: what begins goes on waiting for it.
        let backends = try Backends(settings, node: "node", stateDirectory: directory, log: log)
        let engine = FlowEngine(try FlowServices(database: database, backends: backends, settings: settings, log: log))
        let requests = VolumeRequests(settings)
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
}
