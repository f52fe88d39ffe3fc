import CSQLite
import Primitives

/// One SQLite connection with its prepared statements. Used by one thread at a time.
final class SQLiteConnection: Connection {
    let handle: OpaquePointer
    private var isOpen = true
    private var known: [SQLiteStatement?] = []
    private var composed: [String: SQLiteStatement] = [:]
    /// Milliseconds.
    static let busyTimeout: Int32 = 10_000
    private static let composedLimit = 128
    private var texts = BoundTexts()
    /// Whether the rows of a statement are being looked at.
    private var isInRows = false

    /// Steps between two looks at the limit.
    private static let lookInterval: Int32 = 4096
    /// Looks that are left of a read limited by steps; negative if it is not.
    private var looksLeft = -1
    /// Rows that are left, of all statements together.
    private var rowsLeft = Int.max
    /// Of the monotonic clock; infinite for reads that time does not limit.
    private var deadline = Double.infinity

    /// What the statements from now on may cost together.
    var limit: ReadLimit = .none {
        didSet {
            switch limit {
            case .none: (looksLeft, rowsLeft, deadline) = (-1, .max, .infinity)
            case .steps(let steps, let rows): (looksLeft, rowsLeft, deadline) = (max(1, steps / Int(Self.lookInterval)), rows, .infinity)
            case .seconds(let seconds): (looksLeft, rowsLeft, deadline) = (-1, .max, Timestamp.monotonic() + seconds)
            }
        }
    }

    private var isOverLimit: Bool {
        if looksLeft >= 0 {
            if looksLeft == 0 { return true }
            looksLeft -= 1
        }
        return deadline < .infinity && Timestamp.monotonic() > deadline
    }

    private static let configured: Void = {
        _ = clinker_sqlite_without_statistics()
        SQLiteMemory.use()
    }()

    /// Opens the file and sets what every connection needs.
    init(path: String, readOnly: Bool) throws {
        Self.configured
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_NOMUTEX | (readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
        let status = sqlite3_open_v2(path, &opened, flags, nil)
        guard status == SQLITE_OK, let opened else {
            let message = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
            sqlite3_close_v2(opened)
            throw DatabaseError(kind: .unusable, message: "cannot open the database \(path): \(message)")
        }
        handle = opened
        sqlite3_busy_timeout(handle, Self.busyTimeout)
        sqlite3_extended_result_codes(handle, 1)
        if readOnly { boundReads() }
    }

    /// Reads come from outside: whatever is asked, a statement stays small, and its rows are not looked for without end.
    private func boundReads() {
        sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, 64 << 10)
        sqlite3_limit(handle, SQLITE_LIMIT_VARIABLE_NUMBER, 1000)
        sqlite3_limit(handle, SQLITE_LIMIT_COMPOUND_SELECT, 16)
        sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0)
        sqlite3_progress_handler(
            handle, Self.lookInterval,
            { raw in
                guard let raw else { return 0 }
                return Unmanaged<SQLiteConnection>.fromOpaque(raw).takeUnretainedValue().isOverLimit ? 1 : 0
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// For a copy of the whole, which attaches the copy.
    func allowCopy() { sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 1) }

    deinit {
        close()
        texts.deallocate()
    }

    func close() {
        guard isOpen else { return }
        isOpen = false
        known.removeAll()
        composed.removeAll()
        sqlite3_close_v2(handle)
    }

    /// Bytes of its pages, of the schema and of prepared statements.
    var memory: Int {
        [SQLITE_DBSTATUS_CACHE_USED, SQLITE_DBSTATUS_SCHEMA_USED, SQLITE_DBSTATUS_STMT_USED].reduce(0) { sum, kind in
            var (current, highest): (Int32, Int32) = (0, 0)
            sqlite3_db_status(handle, kind, &current, &highest, 0)
            return sum + Int(current)
        }
    }

    func statement(_ sql: SQL) throws -> SQLiteStatement {
        if sql.number < known.count, let statement = known[sql.number] { return statement }
        while known.count <= sql.number { known.append(nil) }
        let statement = try SQLiteStatement(sql.compose(dialect), on: handle)
        known[sql.number] = statement
        return statement
    }

    func statement(text: String) throws -> SQLiteStatement {
        if let statement = composed[text] { return statement }
        if composed.count >= Self.composedLimit { composed.removeAll() }
        let statement = try SQLiteStatement(text, on: handle)
        composed[text] = statement
        return statement
    }

    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        try run(statement(sql), values, each)
    }

    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        try run(statement(text: text), values, each)
    }

    func collect(_ sql: SQL, _ values: [Value]) throws -> Rows { try collect(statement(sql), values, expecting: 1) }

    func collect(text: String, _ values: [Value], expecting: Int) throws -> Rows {
        try collect(statement(text: text), values, expecting: expecting)
    }

    private func collect(_ statement: SQLiteStatement, _ values: [Value], expecting: Int) throws -> Rows {
        var copier = RowCopier(columns: Int(sqlite3_column_count(statement.handle)), expected: max(1, expecting))
        do {
            try run(statement, values) { _ in
                statement.copyRow(into: &copier)
                return true
            }
        } catch {
            copier.discard()
            throw error
        }
        return copier.rows()
    }

    var time: Double { Timestamp.seconds() }
    var dialect: any Dialect { SQLiteDialect() }

    func execute(_ text: String) throws {
        guard sqlite3_exec(handle, text, nil, nil, nil) == SQLITE_OK else { throw Self.error(handle, text) }
    }

    func run(_ statement: SQLiteStatement, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        // SQLite would allow it. Other engines send the rows as they are asked for, and one statement at a time.
        guard !isInRows else {
            assertionFailure("a statement was run inside the rows of another: \(statement.text)")
            throw DatabaseError(kind: .other, message: "a statement was run inside the rows of another", sql: statement.text)
        }
        isInRows = true
        defer {
            sqlite3_reset(statement.handle)
            isInRows = false
        }
        try statement.bind(values, &texts)
        while true {
            switch sqlite3_step(statement.handle) {
            case SQLITE_ROW:
                guard rowsLeft > 0 else {
                    throw DatabaseError(kind: .tooLong, message: "more rows than the read may have", sql: statement.text)
                }
                rowsLeft -= 1
                if try !each(statement) { return }
            case SQLITE_DONE: return
            default: throw Self.error(handle, statement.text)
            }
        }
    }

    static func error(_ handle: OpaquePointer, _ sql: String?) -> DatabaseError {
        let code = sqlite3_errcode(handle) & 0xFF
        let message = String(cString: sqlite3_errmsg(handle))
        let kind: DatabaseError.Kind =
            switch code {
            case SQLITE_CONSTRAINT: .constraint
            case SQLITE_FULL: .full
            case SQLITE_CORRUPT, SQLITE_NOTADB: .corrupt
            case SQLITE_READONLY: .readOnly
            case SQLITE_IOERR: .io
            case SQLITE_INTERRUPT: .tooLong
            default: .other
            }
        return DatabaseError(kind: kind, message: message, sql: sql)
    }
}

/// A prepared statement; while it is stepped it is the current row.
final class SQLiteStatement: Row {
    let handle: OpaquePointer
    let text: String

    init(_ text: String, on connection: OpaquePointer) throws {
        var prepared: OpaquePointer?
        guard sqlite3_prepare_v3(connection, text, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &prepared, nil) == SQLITE_OK, let prepared else {
            throw SQLiteConnection.error(connection, text)
        }
        handle = prepared
        self.text = text
    }

    deinit { sqlite3_finalize(handle) }

    func bind(_ values: [Value], _ texts: inout BoundTexts) throws {
        guard Int(sqlite3_bind_parameter_count(handle)) == values.count else {
            throw DatabaseError(kind: .other, message: "\(values.count) values for another number of parameters", sql: text)
        }
        texts.begin(values)
        for (index, value) in values.enumerated() {
            let position = Int32(index + 1)
            let status: Int32
            switch value {
            case .null: status = sqlite3_bind_null(handle, position)
            case .integer(let value): status = sqlite3_bind_int64(handle, position, value)
            case .real(let value): status = sqlite3_bind_double(handle, position, value)
            case .text(let value):
                // Without a destructor: SQLite neither copies nor frees the text.
                status = texts.add(value).withMemoryRebound(to: CChar.self) {
                    sqlite3_bind_text(handle, position, $0.baseAddress, Int32($0.count), nil)
                }
            }
            guard status == SQLITE_OK else { throw DatabaseError(kind: .other, message: "a value cannot be bound (\(status))", sql: text) }
        }
    }

    func copyRow(into rows: inout RowCopier) {
        rows.beginRow()
        for column in 0..<Int32(rows.columns) {
            // The value itself, which is this thread's as its connection is: each sqlite3_column function would look it up again.
            let value = sqlite3_column_value(handle, column)
            switch sqlite3_value_type(value) {
            case SQLITE_NULL: rows.appendNull()
            case SQLITE_INTEGER: rows.append(sqlite3_value_int64(value))
            case SQLITE_FLOAT: rows.append(sqlite3_value_double(value))
            default:
                if let text = sqlite3_value_text(value) {
                    rows.append(text, count: Int(sqlite3_value_bytes(value)))
                } else {
                    rows.appendNull()
                }
            }
        }
    }

    func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? {
        guard let pointer = sqlite3_column_text(handle, Int32(column)) else { return nil }
        return UnsafeBufferPointer(start: pointer, count: Int(sqlite3_column_bytes(handle, Int32(column))))
    }
    func integer(_ column: Int) -> Int64 { sqlite3_column_int64(handle, Int32(column)) }
    func real(_ column: Int) -> Double { sqlite3_column_double(handle, Int32(column)) }
    func isNull(_ column: Int) -> Bool { sqlite3_column_type(handle, Int32(column)) == SQLITE_NULL }
}
