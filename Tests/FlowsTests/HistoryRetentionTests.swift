import BlockStorage
import Database
import JSON
import Logging
import Primitives
import Settings
import TestSupport
import Testing

@testable import Flows

@Suite("What is kept of the past")
struct HistoryRetentionTests {
    private let database: SQLiteDatabase
    private let settings: Settings
    private let log = Logger(label: "history") { _ in SwiftLogNoOpLogHandler() }

    init() async throws {
        database = try SQLiteDatabase(path: temporaryDirectory("history") + "/db")
        settings = try Settings(text: "[DEFAULT]\nhistory_limit = 1000\nhistory_limit_per_project = 200\n")
        try await database.migrate(Schema.migrations)
    }

    /// Ends as many operations, each with its two events and a message.
    private func work(_ count: Int, project: String, ends: Bool = true) async throws {
        // Rows of one transaction have one time.
        for _ in 0..<count / 5 { try await workAtOnce(5, project: project, ends: ends) }
    }

    private func workAtOnce(_ count: Int, project: String, ends: Bool) async throws {
        try await database.write { tx in
            let caller = Caller(userID: "u", projectID: project, isAdmin: false, requestID: "req-\(project)")
            for _ in 0..<count {
                let id = try Operations.create(
                    ConnectVolumeArguments(connector: ["host": .string(String(repeating: "h", count: 1000))]), resourceType: "volume",
                    resourceID: UUID.random(), projectID: project, caller: caller, claims: [], in: tx)
                guard ends, let operation = try Operations.find(id, in: tx) else { continue }
                try Operations.finish(operation, state: .failed, error: "ERROR: gone", in: tx)
                try Messages.add(
                    .createVolume, .createFailed, volumeID: id, projectID: project, requestID: caller.requestID,
                    keptFor: 86_400, in: tx)
            }
        }
    }

    private static let counts: [String: SQL] = Dictionary(
        uniqueKeysWithValues: ["events", "operations", "messages"].map {
            ($0, SQL("SELECT count(*) FROM \($0) WHERE project_id = ?"))
        })

    private func count(_ table: String, of project: String) async throws -> Int {
        let sql = try #require(Self.counts[table])
        return try await database.read { try $0.first(sql, .text(project)) { $0.int(0) } ?? -1 }
    }

    @Test("a project's flood makes its own oldest go, and nobody else's")
    func flood() async throws {
        let retention = HistoryRetention(database: database, settings: settings, log: log)
        try await work(10, project: "quiet")
        try await work(500, project: "loud")
        await retention.apply()
        for table in ["events", "operations", "messages"] {
            #expect((1...200).contains(try await count(table, of: "loud")), "\(table)")
        }
        #expect(try await count("events", of: "quiet") == 20)
        #expect(try await count("operations", of: "quiet") == 10)
        // What comes later is looked at again.
        try await work(500, project: "loud")
        await retention.apply()
        #expect(try await count("events", of: "loud") <= 200)
    }

    @Test("all projects together have no more than the whole limit, and the newest stay")
    func manyProjects() async throws {
        let retention = HistoryRetention(database: database, settings: settings, log: log)
        for index in 0..<12 { try await work(95, project: "p\(index)") }
        await retention.apply()
        var total = 0
        for index in 0..<12 { total += try await count("events", of: "p\(index)") }
        #expect((900...1000).contains(total))
        #expect(try await count("events", of: "p11") == 190)
    }

    @Test("an operation that has not ended stays, however many there are")
    func unfinished() async throws {
        try await work(300, project: "busy", ends: false)
        await HistoryRetention(database: database, settings: settings, log: log).apply()
        #expect(try await count("operations", of: "busy") == 300)
    }
}
