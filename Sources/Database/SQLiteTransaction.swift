import CSQLite
import Primitives

/// The writer's connection inside a transaction.
final class SQLiteTransaction: Transaction {
    private let connection: SQLiteConnection
    private let refusal: (any Error)?
    private var rings: [Doorbell.Ring] = []
    private(set) var time = 0.0
    private var formattedTime: String?
    #if DEBUG
        private var locks = LockOrder()
    #endif

    private let place: CompanionPlace
    private(set) var companion: (any TransactionCompanion)?

    init(_ connection: SQLiteConnection, _ place: CompanionPlace, refusal: (any Error)? = nil) {
        self.connection = connection
        self.place = place
        self.refusal = refusal
    }

    func refusing(_ error: any Error) -> SQLiteTransaction { SQLiteTransaction(connection, place, refusal: error) }

    static let savepoint = SQL("SAVEPOINT change")
    static let release = SQL("RELEASE change")
    static let rollback = SQL("ROLLBACK TO change")

    /// Runs a change. One that fails in a savepoint is undone; without one, whatever the connection's transaction holds is to be.
    func change<T>(inSavepoint: Bool, _ body: () throws -> T) throws -> T {
        if let refusal { throw refusal }
        begin()
        guard inSavepoint else { return try body() }
        try connection.run(connection.statement(Self.savepoint), []) { _ in true }
        do {
            let value = try body()
            try connection.run(connection.statement(Self.release), []) { _ in true }
            return value
        } catch {
            try? connection.run(connection.statement(Self.rollback), []) { _ in true }
            try? connection.run(connection.statement(Self.release), []) { _ in true }
            throw error
        }
    }

    private func begin() {
        rings = []
        companion = place.current
        time = Timestamp.seconds()
        formattedTime = nil
        #if DEBUG
            locks = LockOrder()
        #endif
    }

    func notesLocks(_ taken: () -> [RowLock]) {
        #if DEBUG
            for lock in taken() {
                if let earlier = locks.take(lock) { preconditionFailure("\(lock) is locked after \(earlier), which belongs behind it") }
            }
        #endif
    }

    var now: String {
        if let formattedTime { return formattedTime }
        let text = Timestamp.format(time)
        formattedTime = text
        return text
    }

    func ring(_ topic: Topic, _ subject: String) {
        if rings.contains(where: { $0.topic === topic && $0.subject == subject }) { return }
        rings.append(Doorbell.Ring(topic: topic, subject: subject))
    }

    var dialect: any Dialect { connection.dialect }

    func takeRings() -> [Doorbell.Ring] {
        defer { rings = [] }
        return rings
    }

    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws { try connection.query(sql, values, each) }
    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        try connection.query(text: text, values, each)
    }

    func collect(_ sql: SQL, _ values: [Value]) throws -> Rows { try connection.collect(sql, values) }
    func collect(text: String, _ values: [Value], expecting: Int) throws -> Rows {
        try connection.collect(text: text, values, expecting: expecting)
    }

    func run(_ sql: SQL, _ values: [Value]) throws -> Int {
        try connection.query(sql, values) { _ in true }
        return Int(sqlite3_changes(connection.handle))
    }

    func run(text: String, _ values: [Value]) throws -> Int {
        try connection.query(text: text, values) { _ in true }
        return Int(sqlite3_changes(connection.handle))
    }
}
