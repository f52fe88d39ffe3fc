public import Database

/// What is promised of each pool, changed in the transactions that place and remove volumes.
public enum Pools {
    public struct Allocation: Sendable, Equatable {
        public var gigabytes = 0
        public var volumes = 0
        public init() {}
    }

    static let addSQL = SQL(
        """
        INSERT INTO pools (host, allocated_gb, volumes) VALUES (?, ?, ?)
        ON CONFLICT (host) DO UPDATE SET allocated_gb = pools.allocated_gb + excluded.allocated_gb, volumes = pools.volumes + excluded.volumes
        """)
    static let allSQL = SQL("SELECT host, allocated_gb, volumes FROM pools")

    public static func add(_ host: String, gigabytes: Int, volumes: Int, in tx: any Transaction) throws {
        try tx.run(addSQL, .text(host), .int(gigabytes), .int(volumes))
    }

    public static func allocations(in connection: any Connection) throws -> [String: Allocation] {
        var result: [String: Allocation] = [:]
        try connection.query(allSQL, []) { row in
            result[row.text(0)] = {
                var allocation = Allocation()
                allocation.gigabytes = row.int(1)
                allocation.volumes = row.int(2)
                return allocation
            }()
            return true
        }
        return result
    }
}
