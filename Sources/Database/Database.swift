/// Runs statements; lent to a closure, used on its thread only, never kept.
public protocol Connection: AnyObject {
    /// Calls `each` for every row, until it returns false. The rows of one statement are finished before the next one runs: inside of
    /// `each` no statement may run. In debug builds one that does traps; otherwise it throws.
    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws
    /// The same for a statement composed at run time; cached by its text.
    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws
    /// All rows, copied.
    func collect(_ sql: SQL, _ values: [Value]) throws -> Rows
    /// The same for a statement composed at run time. `expecting`: about how many rows there may be.
    func collect(text: String, _ values: [Value], expecting: Int) throws -> Rows
    /// Seconds since the epoch by the database's clock; inside of a transaction the moment at which it began.
    var time: Double { get }
    /// How the engine says what engines say differently, for statements composed at run time.
    var dialect: any Dialect { get }
}

extension Connection {
    public func rows<T>(_ sql: SQL, _ values: Value..., map: (any Row) throws -> T) throws -> [T] {
        var result: [T] = []
        try query(sql, values) {
            result.append(try map($0))
            return true
        }
        return result
    }

    /// The first row, or nil.
    public func first<T>(_ sql: SQL, _ values: Value..., map: (any Row) throws -> T) throws -> T? {
        var result: T?
        try query(sql, values) {
            result = try map($0)
            return false
        }
        return result
    }

    public func exists(_ sql: SQL, _ values: Value...) throws -> Bool {
        var found = false
        try query(sql, values) { _ in
            found = true
            return false
        }
        return found
    }
}

/// A writing transaction: one change of the commit that it may share with others.
public protocol Transaction: Connection {
    /// Runs a statement that changes rows and returns how many it changed.
    @discardableResult
    func run(_ sql: SQL, _ values: [Value]) throws -> Int
    @discardableResult
    func run(text: String, _ values: [Value]) throws -> Int
    /// The transaction's `time` as it is stored.
    var now: String { get }
    /// Notes that the transaction locks rows from now on, by a read or by a change that needs none. In debug builds it traps where the order
    /// of locks is not kept; otherwise nobody calls the closure.
    func notesLocks(_ locks: () -> [RowLock])
    /// Rings for those who listen to the topic, once the change is on stable storage; not at all if it is undone. `subject` is what the
    /// topic is about.
    func ring(_ topic: Topic, _ subject: String)
    /// What the program gave the database for its transactions, if anything.
    var companion: (any TransactionCompanion)? { get }
}

extension Transaction {
    public func ring(_ topic: Topic) { ring(topic, "") }

    @discardableResult
    public func run(_ sql: SQL, _ values: Value...) throws -> Int { try run(sql, values) }
}

/// What a read may cost before it is given up with a `DatabaseError` of the kind `tooLong`.
public enum ReadLimit: Sendable, Equatable {
    case none
    /// So many steps of the database's machine, and so many rows: the same work, however busy the processor is.
    case steps(Int, rows: Int = .max)
    case seconds(Double)
}

/// A database: pooled readers, and one writer that joins concurrent changes into one commit.
public protocol Database: Sendable {
    /// Lends a reading connection. All statements of the closure see one state of the database. It suspends only if the engine has to
    /// be waited for; SQLite's never has.
    nonisolated(nonsending) func read<T: Sendable>(_ limit: ReadLimit, _ body: @Sendable (any Connection) throws -> T) async throws -> T
    /// The same on the calling thread, which blocks meanwhile: for threads of one's own only.
    func readBlocking<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T
    /// Runs a change and returns when it is on stable storage. An error of the closure undoes its change alone.
    ///
    /// The closure may be run again from its beginning, as often as the engine finds that another change came between: it has no
    /// effect but through the transaction, and what it leaves behind is what it returns. It decides and writes; what a client is
    /// answered is made of that afterwards.
    nonisolated(nonsending) func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T
    /// Has the closure called for each ring of the topic, from now on and on a thread that it must not hold.
    func listen(to topic: Topic, _ listener: @escaping @Sendable (_ subject: String) -> Void)
    /// Brings the schema up to date. Refuses a database of a later release and one whose history differs.
    func migrate(_ migrations: [Migration]) async throws
    /// Finishes what was accepted and closes.
    func close()
}

extension Database {
    /// A read that nothing from outside can make long.
    public nonisolated(nonsending) func read<T: Sendable>(_ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await read(.none, body)
    }

    /// A read that nothing from outside can make long, on the calling thread.
    public func readBlocking<T>(_ body: (any Connection) throws -> T) throws -> T { try readBlocking(.none, body) }
}
