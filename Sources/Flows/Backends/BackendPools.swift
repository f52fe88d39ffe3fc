public import BlockStorage
public import Database

extension Backends: StorageBackends {
    var count: Int { entries.count }

    func backend(_ host: String) -> (any StorageBackend)? { entry(host) }

    public func pools(in connection: any Connection) throws -> [PoolState] { try pools(in: connection) { _ in true } }

    public func usablePools(in connection: any Connection) throws -> [PoolState] {
        let closed = try Services.closedHosts(in: connection)
        return try pools(in: connection) { !closed.contains($0) }
    }

    /// The pools of the backends for which `isWanted`, with what is promised of them.
    private func pools(in connection: any Connection, of isWanted: (_ host: String) -> Bool) throws -> [PoolState] {
        let allocations = try Pools.allocations(in: connection)
        return entries.flatMap { isWanted($0.host) ? $0.pools(allocations) : [] }
    }
}
