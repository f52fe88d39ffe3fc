/// A row as it was read and locked: nobody else changes it before the transaction ends. What changes a row takes such a value, so that no
/// row is changed which the transaction has not read and locked. It cannot leave its transaction: it is not Sendable.
@dynamicMemberLookup
public struct Locked<Row: Lockable> {
    /// The row as it was read: what the transaction has changed since is not in it.
    public let value: Row

    init(_ value: Row) { self.value = value }

    @inlinable
    public subscript<Member>(dynamicMember member: KeyPath<Row, Member>) -> Member { value[keyPath: member] }
}

@available(*, unavailable)
extension Locked: Sendable {}

/// A row that can be locked.
public protocol Lockable {
    static var lockRank: LockRank { get }
    /// Reads the row with an id.
    static var findStatement: SQL { get }
    /// Reads and locks it: made of `Table.selectLocked`.
    static var lockStatement: SQL { get }
    /// What orders it among the rows of its rank.
    var id: String { get }
    init(_ row: any Row) throws
}

/// The place of one kind of rows in the order in which every transaction takes its locks.
public struct LockRank: Sendable, Hashable {
    let place: Int
    let name: String

    /// `name`: what one row of the rank is called.
    public init(_ place: Int, _ name: String) {
        self.place = place
        self.name = name
    }
}

/// A lock of one row.
public struct RowLock: Sendable, Hashable, CustomStringConvertible {
    let rank: LockRank
    let key: String

    public init(_ rank: LockRank, _ key: String) {
        self.rank = rank
        self.key = key
    }

    public var description: String { "\(rank.name) \(key)" }

    /// Whether it is taken before the other one: rank by rank, within a rank by the key's bytes.
    func precedes(_ other: RowLock) -> Bool {
        rank.place == other.rank.place ? key.utf8.lexicographicallyPrecedes(other.key.utf8) : rank.place < other.rank.place
    }
}

/// The locks that a transaction has taken. Two transactions that both keep to the order never wait for each other.
struct LockOrder {
    private var taken: Set<RowLock> = []
    private var last: RowLock?

    /// Takes a lock. Returns the one that was taken before it and belongs behind it; nil if the order is kept.
    mutating func take(_ lock: RowLock) -> RowLock? {
        guard taken.insert(lock).inserted else { return nil }
        if let last, lock.precedes(last) { return last }
        last = lock
        return nil
    }
}

extension Transaction {
    /// Reads a row and locks it; nil if there is none.
    public func lock<R: Lockable>(_ type: R.Type, _ id: String) throws -> Locked<R>? {
        notesLocks { [RowLock(R.lockRank, id)] }
        return try first(R.lockStatement, .text(id)) { Locked(try R($0)) }
    }

    /// The same for a row that tells what is to be locked before it; `before` does that.
    public func lock<R: Lockable, Before>(_ type: R.Type, _ id: String, before: (R) throws -> Before) throws -> (Before, Locked<R>)? {
        guard let seen = try first(R.findStatement, .text(id), map: { try R($0) }) else { return nil }
        let before = try before(seen)
        if dialect.readsLock {
            notesLocks { [RowLock(R.lockRank, id)] }
            return (before, Locked(seen))
        }
        return try lock(type, id).map { (before, $0) }
    }

    /// Reads rows and locks them all. `sql` is made of `Table.selectLocked`.
    public func lock<R: Lockable>(_ type: R.Type, _ sql: SQL, _ values: [Value]) throws -> [Locked<R>] {
        var locked: [Locked<R>] = []
        try query(sql, values) {
            locked.append(Locked(try R($0)))
            return true
        }
        notesLocks { locked.map { RowLock(R.lockRank, $0.value.id) }.sorted { $0.precedes($1) } }
        return locked
    }
}
