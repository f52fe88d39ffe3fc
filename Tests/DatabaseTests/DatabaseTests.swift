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
        let rows = try database.read { try $0.rows(Self.all) { ($0.text(0), $0.optionalInt(1), $0.isNull(2)) } }
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
        #expect(try database.read { try $0.first(Self.count) { $0.int(0) } } == 133)
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

    @Test("actions run after the commit, and only then")
    func onCommit() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        try await database.migrate([Self.create])
        let seen = Box()
        try await database.write { tx in
            try tx.run(Self.insert, .text("a"), .null, .null)
            tx.onCommit { seen.value = (try? database.read { try $0.first(Self.count) { $0.int(0) } }) ?? -1 }
        }
        #expect(seen.value == 1)
        struct Refused: Error {}
        try? await database.write { tx in
            tx.onCommit { seen.value = 99 }
            throw Refused()
        }
        #expect(seen.value == 1)
    }

    final class Box: @unchecked Sendable { var value = 0 }

    @Test("what is called after a commit is called alike after every one: no call is deeper than the first")
    func commitHandler() async throws {
        let temporary = try TemporaryDatabase()
        // execinfo.h is in no module.
        typealias Backtrace = @convention(c) (UnsafeMutablePointer<UnsafeMutableRawPointer?>, Int32) -> Int32
        let backtrace = unsafeBitCast(try #require(dlsym(nil, "backtrace")), to: Backtrace.self)
        let depths = Guarded<[Int32]>([])
        temporary.database.setCommitHandler {
            var frames = [UnsafeMutableRawPointer?](repeating: nil, count: 1000)
            let depth = backtrace(&frames, Int32(frames.count))
            depths.withLock { $0.append(depth) }
        }
        for _ in 0..<50 { try await temporary.database.write { _ in } }
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
        #expect(try temporary.database.read { try $0.first(SQL("SELECT count(extra) FROM t")) { $0.int(0) } } == 0)
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
        #expect(try temporary.database.read { try $0.first(SQL("SELECT count(b) FROM half")) { $0.int(0) } } == 0)
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
                while !isOver.withLock({ $0 }) { _ = try? database.read { try $0.rows(SQL("SELECT count(*) FROM t")) { $0.int(0) } } }
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
        func read(_ count: Int) throws { if count > 0 { try database.read { _ in try read(count - 1) } } }
        try read(8)
        #expect(database.idleReaderCount == 8)
        usleep(1_100_000)
        for _ in 0..<8 { try read(1) }
        #expect(database.idleReaderCount == 1)
        // SQLite keeps their descriptors (closing one would end this process's locks of the file), and uses them again.
        try read(8)
        #expect(temporary.connections == 9)
    }

    @Test("the write-ahead log stays small under steady reading and writing")
    func log() async throws {
        let temporary = try TemporaryDatabase()
        let database = temporary.database
        _ = try await database.write { try $0.run(text: "CREATE TABLE t (x TEXT)", []) }
        let isOver = Guarded(false)
        let finished = Semaphore()
        for index in 0..<2 {
            startThread("reader-\(index)") {
                while !isOver.withLock({ $0 }) { _ = try? database.read { try $0.rows(SQL("SELECT max(rowid) FROM t")) { $0.int(0) } } }
                finished.post()
            }
        }
        let text = String(repeating: "x", count: 200_000)
        for _ in 0..<700 { _ = try await database.write { try $0.run(text: "INSERT INTO t VALUES (?)", [.text(text)]) } }
        isOver.withLock { $0 = true }
        for _ in 0..<2 { finished.wait() }
        var info = stat()
        #expect(stat(temporary.path + "-wal", &info) == 0 && info.st_size < 80 << 20, "\(info.st_size) bytes")
        #expect(try database.read { try $0.rows(SQL("SELECT count(*) FROM t")) { $0.int(0) } } == [700])
    }
}
