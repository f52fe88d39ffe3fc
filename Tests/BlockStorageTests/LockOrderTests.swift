import Database
import TestSupport
import Testing

@testable import BlockStorage

/// What an engine with many writers says. Its locking reads are marked by a comment, which SQLite passes over.
private struct ManyWriters: Dialect {
    let base: any Dialect

    func locking(_ select: String, alias: String) -> String { "\(select) -- locks \(alias)" }
    var readsLock: Bool { false }

    func matches(_ column: String) -> String { base.matches(column) }
    func member(of column: String) -> String { base.member(of: column) }
    func memberPath(_ key: String) -> Value? { base.memberPath(key) }
    func hasMember(_ column: String) -> String { base.hasMember(column) }
    func withoutIndex(_ column: String) -> String { base.withoutIndex(column) }
    func rowNumber(_ alias: String) -> String { base.rowNumber(alias) }
    var always: String { base.always }
    var never: String { base.never }
    func upsert(into table: String, columns: [String], key: [String], changes: [(column: String, value: String)], rows: Int) -> String {
        base.upsert(into: table, columns: columns, key: key, changes: changes, rows: rows)
    }
    func inserted(_ column: String) -> String { base.inserted(column) }
    func deleteFirst(from table: String, key: String, where condition: String, orderBy: String, limit: Int) -> String {
        base.deleteFirst(from: table, key: key, where: condition, orderBy: orderBy, limit: limit)
    }
    func sortedPage(_ select: String, of source: String, alias: String, rest: String, orderBy: String) -> String {
        base.sortedPage(select, of: source, alias: alias, rest: rest, orderBy: orderBy)
    }
    func explain(_ statement: String) -> (text: String, column: Int) { base.explain(statement) }
}

/// Keeps what runs, as an engine with many writers would be told it.
private final class RecordingTransaction: Transaction {
    private let tx: any Transaction
    let dialect: any Dialect
    private(set) var statements: [String] = []
    private(set) var locks: [String] = []

    init(_ tx: any Transaction) {
        self.tx = tx
        dialect = ManyWriters(base: tx.dialect)
    }

    /// The aliases of the tables whose rows were locked by reads, in their order.
    var lockingReads: [String] { statements.compactMap { $0.split(separator: "-- locks ").dropFirst().first.map(String.init) } }

    var time: Double { tx.time }
    var now: String { tx.now }
    func ring(_ topic: Topic, _ subject: String) { tx.ring(topic, subject) }
    func notesLocks(_ taken: () -> [RowLock]) {
        tx.notesLocks(taken)
        locks += taken().map(\.description)
    }

    private func told(_ sql: SQL) -> String {
        statements.append(sql.text(in: dialect))
        return statements[statements.count - 1]
    }
    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws { try tx.query(text: told(sql), values, each) }
    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws { try tx.query(text: text, values, each) }
    func collect(_ sql: SQL, _ values: [Value]) throws -> Rows { try tx.collect(text: told(sql), values, expecting: 1) }
    func collect(text: String, _ values: [Value], expecting: Int) throws -> Rows {
        try tx.collect(text: text, values, expecting: expecting)
    }
    func run(_ sql: SQL, _ values: [Value]) throws -> Int { try tx.run(text: told(sql), values) }
    func run(text: String, _ values: [Value]) throws -> Int { try tx.run(text: text, values) }
}

@Suite("The order of locks")
struct LockOrderTests {
    private func record(_ storage: Storage, _ body: @escaping @Sendable (any Transaction) throws -> Void) async throws
        -> (reads: [String], locks: [String])
    {
        try await storage.database.write { tx in
            let recording = RecordingTransaction(tx)
            try body(recording)
            return (recording.lockingReads, recording.locks)
        }
    }

    private func snapshot(_ storage: Storage, of volume: String) async throws -> String {
        let id = try await storage.database.write { [storage] tx in
            try storage.requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: false, caller: storage.caller, in: tx)
        }
        try await storage.database.write { tx in
            if let snapshot = try Snapshots.lock(id, in: tx) { try Snapshots.setStatus(.available, of: snapshot, in: tx) }
            for operation in try Operations.runnable(in: tx) where operation.resourceID == volume {
                try Operations.finish(operation, state: .done, error: nil, in: tx)
            }
        }
        return id
    }

    @Test("an extension locks the volume, then the rows of its charge by name")
    func extend() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        let seen = try await record(storage) { [storage] tx in
            try storage.requests.extend(id, to: 2, allowAttached: false, caller: storage.caller, in: tx)
        }
        #expect(seen.reads == ["v"])
        #expect(seen.locks == ["volume \(id)", "quota p gigabytes", "quota p gigabytes___DEFAULT__"])
    }

    @Test("a snapshot tells which volume to lock first; where others write meanwhile it is read again behind that lock")
    func snapshotAndVolume() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        let snapshot = try await snapshot(storage, of: id)
        let deleted = try await record(storage) { [storage] tx in
            try storage.requests.deleteSnapshot(snapshot, force: false, caller: storage.caller, in: tx)
        }
        #expect(deleted.reads == ["v", "s"])
        #expect(deleted.locks == ["volume \(id)", "snapshot \(snapshot)"])
    }

    @Test("a cascade locks the volume, then its snapshots by id, whatever their age")
    func cascade() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        var snapshots: [String] = []
        for _ in 0..<4 { snapshots.append(try await snapshot(storage, of: id)) }
        let seen = try await record(storage) { [storage] tx in
            try storage.requests.delete(id, force: false, cascade: true, caller: storage.caller, in: tx)
        }
        #expect(seen.reads == ["v", "s"])
        #expect(seen.locks == ["volume \(id)"] + snapshots.sorted().map { "snapshot \($0)" })
    }

    @Test("an operation is locked first, and where others write meanwhile what it claims with it; pools come before quotas")
    func operation() async throws {
        let storage = try await Storage()
        let id = try await storage.create(3)
        try await storage.finish(id)
        let seen = try await record(storage) { tx in
            try Operations.lock("o", in: tx)
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.erase(volume, in: tx) }
        }
        #expect(seen.reads == ["o", "v", "s", "b", "v"])
        let charged = ["gigabytes", "gigabytes___DEFAULT__", "volumes", "volumes___DEFAULT__"].map { "quota p \($0)" }
        #expect(seen.locks == ["operation o", "volume \(id)", "pool h@b#p"] + charged)
    }

    @Test("operations that waited are let run in the order of their tickets")
    func waiters() async throws {
        let storage = try await Storage()
        let source = try await storage.create()
        try await storage.finish(source)
        try await storage.database.write { [storage] tx in
            _ = try storage.requests.regrow(source, caller: storage.caller, in: tx)
        }
        var clones: [String] = []
        try await storage.database.write { tx in
            // Extending has locked it for clones: they are asked for as it was before.
            if let volume = try Volumes.lock(source, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
        }
        for _ in 0..<3 { clones.append(try await storage.create(source: source)) }
        let extending = try storage.database.readBlocking { try Operations.runnable(in: $0).first { $0.resourceID == source } }
        let operation = try #require(extending)
        storage.rung.ids.withLock { $0 = [] }
        let seen = try await record(storage) { tx in try Operations.finish(operation, state: .done, error: nil, in: tx) }
        #expect(seen.locks.count == 3 && seen.locks == seen.locks.sorted())
        let started = storage.rung.ids.withLock { $0 }
        let resources = try storage.database.readBlocking { connection in
            try started.compactMap { try Operations.find($0, in: connection)?.resourceID }
        }
        #expect(resources == clones)
    }

    @Test("reservations that expired are taken back in the order of their volumes, not of their times")
    func reservations() async throws {
        let storage = try await Storage()
        var volumes: [String] = []
        for _ in 0..<5 {
            let id = try await storage.create()
            try await storage.finish(id)
            volumes.append(id)
        }
        // The last ones expire first.
        for (index, id) in volumes.sorted().enumerated() {
            try await storage.database.write { [storage] tx in
                _ = try Attachments.reserve(
                    volumeID: id, instanceID: nil, mode: nil, lifetime: -10 - index, caller: storage.caller, in: tx)
            }
        }
        let seen = try await record(storage) { tx in
            let count = try Attachments.reap(in: tx)
            #expect(count == 5)
        }
        #expect(seen.locks == volumes.sorted().map { "volume \($0)" })
        for id in volumes { #expect(try storage.status(id) == "available") }
    }
}
