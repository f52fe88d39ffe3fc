import Glibc
import Primitives
import TestSupport
import Testing

@testable import Database

/// A database in a directory that goes with the test.
final class TemporaryDatabase: Sendable {
    let directory: String
    let database: SQLiteDatabase
    var path: String { directory + "/test.db" }

    init(idleTime: Double = 5) throws {
        directory = temporaryDirectory("db")
        database = try SQLiteDatabase(path: directory + "/test.db", idleTime: idleTime)
    }

    /// How many descriptors its connections hold, the writer's among them.
    var connections: Int { openFiles(of: getpid()).count { $0 == path } }

    deinit {
        database.close()
    }
}

@Suite("Database")
struct DatabaseTests {
    static let create = Migration(1, "create", ["CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER, r REAL)"])
    static let insert = SQL("INSERT INTO t (k, v, r) VALUES (?, ?, ?)")
    static let count = SQL("SELECT count(*) FROM t")
    static let all = SQL("SELECT k, v, r FROM t ORDER BY k")

    @Test("values come back as they went in")
    func values() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        try await database.write { tx in
            try tx.run(Self.insert, .text("é\u{0}x"), .integer(.min), .real(0.5))
            try tx.run(Self.insert, .text(""), .null, .null)
        }
        let rows = try database.readBlocking { try $0.rows(Self.all) { ($0.text(0), $0.optionalInt(1), $0.isNull(2)) } }
        #expect(rows.count == 2)
        #expect(rows[0].0 == "" && rows[0].1 == nil && rows[0].2)
        #expect(rows[1].0 == "é\u{0}x" && rows[1].1 == Int.min)
    }

    @Test("a change that fails is undone alone, its neighbours in the same commit stay")
    func savepoints() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        struct Refused: Error {}
        await withTaskGroup(of: Bool.self) { group in
            for index in 0..<200 {
                group.addTask {
                    do {
                        try await database.write { tx in
                            try tx.run(Self.insert, .text("k\(index)"), .int(index), .null)
                            if index % 3 == 0 { throw Refused() }
                        }
                        return true
                    } catch { return false }
                }
            }
            var kept = 0
            for await ok in group where ok { kept += 1 }
            #expect(kept == 133)
        }
        #expect(try database.readBlocking { try $0.first(Self.count) { $0.int(0) } } == 133)
    }

    @Test("a change that shares its commit with one that fails is made once and rung for once")
    func repeated() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        try await database.write { _ = try $0.run(Self.insert, .text("sum"), .int(0), .null) }
        let topic = Topic("changes")
        let rings = Guarded<[String]>([])
        database.listen(to: topic) { subject in rings.withLock { $0.append(subject) } }
        struct Refused: Error {}
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<200 {
                group.addTask {
                    try? await database.write { tx in
                        tx.ring(topic, "\(index)")
                        try tx.run(text: "UPDATE t SET v = v + 1", [])
                        if index % 3 == 0 { throw Refused() }
                    }
                }
            }
        }
        #expect(try database.readBlocking { try $0.first(Self.all) { $0.int(1) } } == 133)
        #expect(rings.withLock { $0.sorted() } == (0..<200).filter { $0 % 3 != 0 }.map { "\($0)" }.sorted())
    }

    @Test("the memory of the writer and of idle readers is known")
    func memory() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        let before = database.memory
        #expect(before > 0)
        _ = try database.readBlocking { try $0.first(Self.count) { $0.int(0) } }
        #expect(database.memory > before)
    }

    @Test("a constraint's violation is an error of that change and says so")
    func constraint() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        try await database.write { _ = try $0.run(Self.insert, .text("a"), .null, .null) }
        await #expect {
            try await database.write { _ = try $0.run(Self.insert, .text("a"), .null, .null) }
        } throws: {
            ($0 as? DatabaseError)?.kind == .constraint
        }
    }

    @Test("the bell rings after the commit, and only then, once for each thing that it is rung for")
    func doorbell() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        let topic = Topic("rows")
        let rings = Guarded<[String]>([])
        database.listen(to: topic) { subject in
            let count = (try? database.readBlocking { try $0.first(Self.count) { $0.int(0) } }) ?? -1
            rings.withLock { $0.append("\(subject) of \(count)") }
        }
        database.listen(to: Topic("others")) { _ in rings.withLock { $0.append("others") } }
        try await database.write { tx in
            for name in ["a", "b", "a"] { tx.ring(topic, name) }
            try tx.run(Self.insert, .text("a"), .null, .null)
        }
        #expect(rings.withLock { $0 } == ["a of 1", "b of 1"])
        struct Refused: Error {}
        try? await database.write { tx in
            tx.ring(topic, "c")
            throw Refused()
        }
        try await database.write { _ in }
        #expect(rings.withLock { $0.count } == 2)
    }

    @Test("all statements of a change see the moment at which it began")
    func clock() async throws {
        let temporary = try TemporaryDatabase()
        try await temporary.database.write { tx in
            let (time, now) = (tx.time, tx.now)
            usleep(2_000)
            #expect(tx.time == time && tx.now == now && Timestamp.parse(now).map { abs($0 - time) < 1e-5 } == true)
        }
    }

    @Test("rows are copied as they are, and need their connection no more")
    func copiedRows() async throws {
        let temporary = try TemporaryDatabase()
        let rows = try temporary.database.readBlocking {
            try $0.collect(
                text: """
                    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299)
                    SELECT i, i / 4.0, NULL, '', printf('%.*c', i, 'x') FROM n
                    """, [], expecting: 2)
        }
        try temporary.database.readBlocking { _ = try $0.rows(SQL("SELECT 'something else'")) { $0.text(0) } }
        #expect(rows.count == 300 && !rows.isEmpty)
        var index = 0
        rows.forEach { row in
            #expect(row.int(0) == index && row.real(1) == Double(index) / 4 && row.isNull(2) && row.bytes(2) == nil)
            #expect(!row.isNull(3) && row.optionalText(3) == "" && row.text(4).utf8.count == max(1, index))
            index += 1
        }
        #expect(rows.first { $0.int(0) } == 0)
    }

    @Test("a statement inside of another's rows traps: SQLite alone could serve it")
    func nestedStatements() async throws {
        await #expect(processExitsWith: .failure) {
            let database = try SQLiteDatabase(path: ":memory:")
            try database.readBlocking { connection in
                try connection.query(text: "SELECT 1", []) { _ in try connection.exists(SQL("SELECT 2")) }
            }
        }
    }

    @Test("who listens is called alike after every commit: no call is deeper than the first")
    func depth() async throws {
        let temporary = try TemporaryDatabase()
        // execinfo.h is in no module.
        typealias Backtrace = @convention(c) (UnsafeMutablePointer<UnsafeMutableRawPointer?>, Int32) -> Int32
        let backtrace = unsafeBitCast(try #require(dlsym(nil, "backtrace")), to: Backtrace.self)
        let depths = Guarded<[Int32]>([])
        let topic = Topic("anything")
        temporary.database.listen(to: topic) { _ in
            var frames = [UnsafeMutableRawPointer?](repeating: nil, count: 1000)
            let depth = backtrace(&frames, Int32(frames.count))
            depths.withLock { $0.append(depth) }
        }
        for _ in 0..<50 { try await temporary.database.write { $0.ring(topic) } }
        let seen = depths.withLock { $0 }
        #expect(seen.count >= 49 && Set(seen).count == 1, "\(seen)")
    }

    @Test("migrations run once, in order")
    func migrations() async throws {
        let temporary = try TemporaryDatabase()
        let second = Migration(2, "column", ["ALTER TABLE t ADD COLUMN extra TEXT"])
        try await temporary.database.migrate([Self.create])
        try await temporary.database.migrate([second, Self.create])
        try await temporary.database.migrate([Self.create, second])
        #expect(try temporary.database.readBlocking { try $0.first(SQL("SELECT count(extra) FROM t")) { $0.int(0) } } == 0)
    }

    @Test("a database of a later release, or with another history, is refused")
    func refusals() async throws {
        let temporary = try TemporaryDatabase()
        try await temporary.database.migrate([Self.create, Migration(2, "x", ["CREATE TABLE x (a TEXT)"])])
        await #expect { try await temporary.database.migrate([Self.create]) } throws: { "\($0)".contains("later release") }
        await #expect {
            try await temporary.database.migrate([Self.create, Migration(2, "x", ["CREATE TABLE x (b TEXT)"])])
        } throws: {
            "\($0)".contains("another form")
        }
    }

    @Test("a failed migration leaves nothing behind")
    func failedMigration() async throws {
        let temporary = try TemporaryDatabase()
        let bad = Migration(1, "bad", ["CREATE TABLE half (a TEXT)", "CREATE NONSENSE"])
        await #expect(throws: (any Error).self) { try await temporary.database.migrate([bad]) }
        try await temporary.database.migrate([Migration(1, "good", ["CREATE TABLE half (b TEXT)"])])
        #expect(try temporary.database.readBlocking { try $0.first(SQL("SELECT count(b) FROM half")) { $0.int(0) } } == 0)
    }

    @Test("a file that is no database is refused in one line")
    func notADatabase() throws {
        let path = "/tmp/clinker-nodb-\(getpid())"
        let file = fopen(path, "w")
        fputs(String(repeating: "not a database ", count: 100), file)
        fclose(file)
        defer { unlink(path) }
        #expect { try SQLiteDatabase(path: path) } throws: { "\($0)".contains("not a database") && !"\($0)".contains("\n") }
    }

    @Test("readers are used again, however many commits go by: no connection is left over")
    func pool() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        _ = try await database.write { try $0.run(text: "CREATE TABLE t (x INTEGER)", []) }
        let isOver = Guarded(false)
        let finished = Semaphore()
        for index in 0..<4 {
            startThread("reader-\(index)") {
                while !isOver.withLock({ $0 }) {
                    _ = try? database.readBlocking { try $0.rows(Self.count) { $0.int(0) } }
                }
                finished.post()
            }
        }
        for round in 0..<200 {
            _ = try await database.write { try $0.run(text: "INSERT INTO t VALUES (\(round % 7))", []) }
            // What the writer does now and then, at its most unfortunate.
            for _ in 0..<200 { database.releaseSnapshots() }
        }
        isOver.withLock { $0 = true }
        for _ in 0..<4 { finished.wait() }
        // The writer, four readers, and one that was away when the fourth came.
        #expect(temporary.connections <= 6, "\(temporary.connections) connections")
    }

    @Test("readers that nobody needed for a while are closed")
    func idleReaders() throws {
        let temporary = try TemporaryDatabase(idleTime: 1)
        let database = temporary.database
        func read(_ count: Int) throws { if count > 0 { try database.readBlocking { _ in try read(count - 1) } } }
        try read(8)
        #expect(database.idleReaderCount == 8)
        usleep(1_100_000)
        for _ in 0..<8 { try read(1) }
        #expect(database.idleReaderCount == 1)
        // SQLite keeps their descriptors (closing one would end this process's locks of the file), and uses them again.
        try read(8)
        #expect(temporary.connections == 9)
    }

    private static let last = SQL("SELECT max(rowid) FROM t")

    @Test("the write-ahead log stays small under steady reading and writing")
    func log() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        _ = try await database.write { try $0.run(text: "CREATE TABLE t (x TEXT)", []) }
        let isOver = Guarded(false)
        let finished = Semaphore()
        for index in 0..<2 {
            startThread("reader-\(index)") {
                while !isOver.withLock({ $0 }) {
                    _ = try? database.readBlocking { try $0.rows(Self.last) { $0.int(0) } }
                }
                finished.post()
            }
        }
        let text = String(repeating: "x", count: 200_000)
        for _ in 0..<700 { _ = try await database.write { try $0.run(text: "INSERT INTO t VALUES (?)", [.text(text)]) } }
        isOver.withLock { $0 = true }
        for _ in 0..<2 { finished.wait() }
        var info = stat()
        #expect(stat(temporary.path + "-wal", &info) == 0 && info.st_size < 80 << 20, "\(info.st_size) bytes")
        #expect(try database.readBlocking { try $0.rows(Self.count) { $0.int(0) } } == [700])
    }
}
