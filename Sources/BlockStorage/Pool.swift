public import Database

/// What is promised of each pool, changed in the transactions that place and remove volumes.
public enum Pools {
    public struct Allocation: Sendable, Equatable {
        public var gigabytes = 0
        public var volumes = 0
        public init() {}

        init(_ row: any Row) {
            gigabytes = row[table.gigabytes]
            volumes = row[table.volumes]
        }
    }

    static let addSQL = SQL { dialect in
        dialect.upsert(
            into: "pools", columns: ["host", "allocated_gb", "volumes"], key: ["host"],
            changes: ["allocated_gb", "volumes"].map { ($0, "pools.\($0) + \(dialect.inserted($0))") })
    }
    static let setSQL = SQL { dialect in
        dialect.upsert(
            into: "pools", columns: ["host", "allocated_gb", "volumes"], key: ["host"],
            changes: ["allocated_gb", "volumes"].map { ($0, dialect.inserted($0)) })
    }
    static let table = PoolTable.table
    static let allSQL = SQL(table.select(""))

    public static func add(_ host: String, gigabytes: Int, volumes: Int, in tx: any Transaction) throws {
        tx.notesLocks { [RowLock(.pools, host)] }
        try tx.run(addSQL, .text(host), .int(gigabytes), .int(volumes))
    }

    /// Sets what is allocated to what was counted.
    static func set(_ host: String, _ allocation: Allocation, in tx: any Transaction) throws {
        tx.notesLocks { [RowLock(.pools, host)] }
        try tx.run(setSQL, .text(host), .int(allocation.gigabytes), .int(allocation.volumes))
    }

    public static func allocations(in connection: any Connection) throws -> [String: Allocation] {
        var result: [String: Allocation] = [:]
        try connection.query(allSQL, []) { row in
            result[row[table.host]] = Allocation(row)
            return true
        }
        return result
    }
}
