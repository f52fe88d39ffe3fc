public import Database

/// The pools that backends report, as the API and the scheduler see them.
public protocol PoolReports: Sendable {
    /// All pools, with what is allocated of them.
    func pools(in connection: any Connection) throws -> [PoolState]
    /// Pools of backends that are enabled and not frozen.
    func usablePools(in connection: any Connection) throws -> [PoolState]
    /// Right after the start: waits until every backend has reported once, or long enough.
    func waitForReports() async
}
