import CSQLite
import Glibc
import Observability
import Primitives
import Synchronization

/// SQLite in WAL mode with `synchronous=FULL`: a commit is on stable storage when it returns, readers never wait for the
/// writer (https://sqlite.org/wal.html). One process does all the writing, on one thread, which joins the changes that
/// wait into one commit: the disk's flush is the dear part, and it is paid once for all of them.
public final class SQLiteDatabase: Database {
    private let path: String
    private let readers = Guarded<[Lent]>([])
    private let queue = BlockingQueue<Job>()
    private let stopped = Semaphore()
    private let isEmptyingLog = Atomic<Bool>(false)
    /// Bytes of the write-ahead log from which on it is begun anew, and which its file keeps.
    private static let logLimit = 32 << 20
    /// Connections kept for readers.
    private static let idleReaders = 16
    private let idleTime: Double
    /// Changes joined into one commit at most.
    private static let batchLimit = 256

    private let commitTimes = Histogram()
    private let waitTimes = Histogram()
    private let changes = Atomic<Int>(0)
    /// Bytes that the writer's connection held some commits ago.
    private let writerMemory = Atomic<Int>(0)

    /// Number of commits so far: a reader's snapshot is current as long as it has not changed.
    private let commits = Atomic<Int>(0)

    private struct Lent: @unchecked Sendable {
        let connection: SQLiteConnection
        /// The state that the connection's open snapshot shows; -1 if it has none.
        var snapshot = -1
        var returnedAt = 0.0
    }

    private struct Job: Sendable {
        /// Runs the change, in a savepoint of its own if it is to be undone alone.
        let run: @Sendable (SQLiteTransaction, _ inSavepoint: Bool) -> Outcome
        let queuedAt = Timestamp.monotonic()
    }

    /// What came of a change before its commit.
    private struct Outcome: Sendable {
        let hasFailed: Bool
        /// Tells who asked for the change, given the outcome of the commit.
        let finish: @Sendable ((any Error)?) -> Void
    }

    /// Opens or creates the database file. A connection that no reader needed for `idleTime` seconds is closed.
    public init(path: String, idleTime: Double = 5) throws {
        self.path = path
        self.idleTime = idleTime
        if sqlite3_threadsafe() == 0 { throw DatabaseError(kind: .unusable, message: "this SQLite was built without threads") }
        let writer = try SQLiteConnection(path: path, readOnly: false)
        do {
            try writer.execute("PRAGMA journal_mode=WAL")
            try writer.execute("PRAGMA synchronous=FULL")
            try writer.execute("PRAGMA foreign_keys=ON")
            try writer.execute("PRAGMA wal_autocheckpoint=4000")
            try writer.execute("PRAGMA journal_size_limit=\(Self.logLimit)")
            try writer.execute("PRAGMA temp_store=MEMORY")
        } catch let error as DatabaseError {
            let advice =
                error.kind == .corrupt ? "; run 'clinker db check', and restore the last backup if it is damaged" : ""
            throw DatabaseError(kind: error.kind, message: "cannot use the database \(path): \(error.message)\(advice)")
        }
        let lent = Lent(connection: writer)
        startThread("db-writer") { [self] in
            write(lent.connection)
            lent.connection.close()
            stopped.post()
        }
    }

    private let doorbell = Doorbell()
    private let companion = CompanionPlace()

    /// Gives the transactions that begin from now on a companion.
    public func accompany(by companion: any TransactionCompanion) { self.companion.current = companion }

    /// Listeners are called on the writer's thread.
    public func listen(to topic: Topic, _ listener: @escaping @Sendable (_ subject: String) -> Void) {
        doorbell.listen(to: topic, listener)
    }

    public nonisolated(nonsending) func read<T: Sendable>(
        _ limit: ReadLimit, _ body: @Sendable (any Connection) throws -> T
    ) async throws -> T {
        try readBlocking(limit, body)
    }

    public func readBlocking<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T {
        var lent =
            try readers.withLock { $0.popLast() }
            ?? {
                let connection = try SQLiteConnection(path: path, readOnly: true)
                try connection.execute("PRAGMA temp_store=MEMORY")
                // KiB; the kernel keeps the pages, too, once for all connections.
                try connection.execute("PRAGMA cache_size=-512")
                return Lent(connection: connection)
            }()
        defer { giveBack(lent) }
        let connection = lent.connection
        // A snapshot costs locks of the file; as long as nothing was committed the last one still shows the truth.
        let now = commits.load(ordering: .acquiring)
        if lent.snapshot != now {
            try end(&lent)
            try connection.run(connection.statement(Self.begin), []) { _ in true }
            lent.snapshot = now
        }
        connection.limit = limit
        defer { connection.limit = .none }
        do {
            return try body(connection)
        } catch let error as DatabaseError {
            connection.limit = .none
            try? end(&lent)
            throw error
        }
    }

    private func end(_ lent: inout Lent) throws {
        guard lent.snapshot >= 0 else { return }
        lent.snapshot = -1
        try lent.connection.run(lent.connection.statement(Self.commit), []) { _ in true }
    }

    /// Ends the snapshots of idle readers: an old one would keep the log from being checkpointed and started anew. One
    /// reader at a time is away, so that the pool does not look empty to those who read meanwhile.
    func releaseSnapshots() {
        for _ in 0..<Self.idleReaders {
            let held = readers.withLock { readers in
                readers.firstIndex { $0.snapshot >= 0 }.map { readers.remove(at: $0) }
            }
            guard var held else { return }
            try? end(&held)
            giveBack(held)
        }
    }

    /// The write-ahead log begins anew only when no reader looks at it: under steady load that moment never comes by itself,
    /// and the log grows until the disk is full. So it is brought about: no reader keeps its snapshot, and the log is carried into the
    /// database. Its file is written over from its beginning: that is cheaper than one that grows again. A reader that takes long makes
    /// it fail; then it is tried again.
    private func emptyLog(_ connection: SQLiteConnection) {
        isEmptyingLog.store(true, ordering: .releasing)
        defer { isEmptyingLog.store(false, ordering: .releasing) }
        releaseSnapshots()
        // Writers wait meanwhile: not for long.
        sqlite3_busy_timeout(connection.handle, 500)
        defer { sqlite3_busy_timeout(connection.handle, SQLiteConnection.busyTimeout) }
        try? connection.execute("PRAGMA wal_checkpoint(RESTART)")
    }

    private var logSize: Int {
        var info = stat()
        return stat(path + "-wal", &info) == 0 ? Int(info.st_size) : 0
    }

    /// Bytes that the connections hold which are not reading now.
    var memory: Int {
        readers.withLock { $0.reduce(0) { $0 + $1.connection.memory } } + writerMemory.load(ordering: .relaxed)
    }

    /// Connections that wait for a reader.
    var idleReaderCount: Int { readers.withLock { $0.count } }

    /// Readers beyond what is usually needed at once are closed. The last that came back is the next to be lent, so the first is
    /// the one that was not needed for the longest time.
    private func giveBack(_ lent: Lent) {
        var lent = lent
        if isEmptyingLog.load(ordering: .acquiring) { try? end(&lent) }
        let now = Timestamp.monotonic()
        lent.returnedAt = now
        let held = lent
        let surplus: Lent? = readers.withLock { readers in
            guard readers.count < Self.idleReaders else { return held }
            readers.append(held)
            return now - readers[0].returnedAt > idleTime ? readers.removeFirst() : nil
        }
        surplus?.connection.close()
    }

    public nonisolated(nonsending) func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        try await withUnsafeThrowingContinuation { continuation in
            let job = Job { [doorbell] transaction, inSavepoint in
                do {
                    let value = try transaction.change(inSavepoint: inSavepoint) { try body(transaction) }
                    let rings = transaction.takeRings()
                    return Outcome(hasFailed: false) { commitError in
                        if let commitError { return continuation.resume(throwing: commitError) }
                        doorbell.ring(rings)
                        continuation.resume(returning: value)
                    }
                } catch {
                    return Outcome(hasFailed: true) { _ in continuation.resume(throwing: error) }
                }
            }
            if !queue.append(job) { continuation.resume(throwing: DatabaseError(kind: .unusable, message: "the database is closed")) }
        }
    }

    public func migrate(_ migrations: [Migration]) async throws {
        try await write { try Migration.apply(migrations, in: $0) }
    }

    public func close() {
        // The writer goes last: the last connection of all empties the log into the database.
        readers.withLock { lent in
            for reader in lent { reader.connection.close() }
            lent = []
        }
        queue.close()
        stopped.wait()
    }

    static let begin = SQL("BEGIN")
    static let beginImmediate = SQL("BEGIN IMMEDIATE")
    static let commit = SQL("COMMIT")
    static let rollback = SQL("ROLLBACK")

    private func write(_ connection: SQLiteConnection) {
        let transaction = SQLiteTransaction(connection, companion)
        writerMemory.store(connection.memory, ordering: .relaxed)
        var written = 0
        // Where one change failed the next one may, too.
        var useSavepoints = false
        while let jobs = queue.take(atMost: Self.batchLimit) {
            let started = Timestamp.monotonic()
            for job in jobs { waitTimes.add(started - job.queuedAt) }
            changes.wrappingAdd(jobs.count, ordering: .relaxed)
            var failure: (any Error)?
            var outcomes: [Outcome] = []
            do {
                if try commit(jobs, transaction, on: connection, inSavepoints: useSavepoints && jobs.count > 1, &outcomes) {
                    commits.wrappingAdd(1, ordering: .releasing)
                    written += 1
                    if written % 64 == 0 {
                        releaseSnapshots()
                        writerMemory.store(connection.memory, ordering: .relaxed)
                        if logSize > Self.logLimit { emptyLog(connection) }
                    }
                }
            } catch {
                failure = error
                // After some errors SQLite has rolled back by itself; then this fails, and that is fine.
                try? connection.run(connection.statement(Self.rollback), []) { _ in true }
                // Jobs that never ran must learn it too.
                for job in jobs.dropFirst(outcomes.count) { outcomes.append(job.run(transaction.refusing(error), false)) }
            }
            useSavepoints = outcomes.contains { $0.hasFailed }
            commitTimes.add(Timestamp.monotonic() - started)
            for outcome in outcomes { outcome.finish(failure) }
        }
    }

    /// Runs the changes and commits them together; false if there is nothing to commit, since the only change failed.
    ///
    /// In a savepoint SQLite keeps the former content of every page that is changed, so changes run without at first. When one of
    /// several fails, all are undone and run again, each in a savepoint of its own.
    private func commit(
        _ jobs: [Job], _ transaction: SQLiteTransaction, on connection: SQLiteConnection, inSavepoints: Bool, _ outcomes: inout [Outcome]
    ) throws -> Bool {
        try connection.run(connection.statement(Self.beginImmediate), []) { _ in true }
        for job in jobs {
            let outcome = job.run(transaction, inSavepoints)
            if outcome.hasFailed, !inSavepoints {
                // After some errors SQLite has rolled back by itself; then this fails, and that is fine.
                try? connection.run(connection.statement(Self.rollback), []) { _ in true }
                outcomes = []
                guard jobs.count > 1 else {
                    outcomes.append(outcome)
                    return false
                }
                return try commit(jobs, transaction, on: connection, inSavepoints: true, &outcomes)
            }
            outcomes.append(outcome)
        }
        try connection.run(connection.statement(Self.commit), []) { _ in true }
        return true
    }

    /// Writes how long changes wait and commits take.
    public func write(into text: inout MetricsText) {
        text.family("clinker_database_changes_total", .counter, "Changes asked for; several share a commit.")
        text.sample("clinker_database_changes_total", changes.load(ordering: .relaxed))
        text.family("clinker_database_wait_seconds", .histogram, "Seconds that a change waited for its commit to begin.")
        text.histogram("clinker_database_wait_seconds", waitTimes)
        text.family("clinker_database_commit_seconds", .histogram, "Seconds from the beginning of a commit until it was on stable storage.")
        text.histogram("clinker_database_commit_seconds", commitTimes)
        text.family("clinker_database_log_bytes", .gauge, "Size of the write-ahead log.")
        text.sample("clinker_database_log_bytes", logSize)
        text.family("clinker_database_memory_bytes", .gauge, "Memory of the database's connections: pages and prepared statements.")
        text.sample("clinker_database_memory_bytes", memory)
    }
}
