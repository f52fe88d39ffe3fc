import Database
import Primitives

/// A database as a process sees it that dies at one of its writes: from then on nothing of the process reaches it.
final class DyingDatabase: Database {
    struct Death: Error {}

    private struct State {
        var writes = 0
        var isDead = false
    }
    private let database: any Database
    /// Which write, counted from 0, and whether it is committed; nil: the process lives.
    private let death: (write: Int, isCommitted: Bool)?
    private let state = Guarded(State())

    init(_ database: any Database, death: (write: Int, isCommitted: Bool)? = nil) {
        self.database = database
        self.death = death
    }

    var writes: Int { state.withLock { $0.writes } }

    nonisolated(nonsending) func read<T: Sendable>(_ limit: ReadLimit, _ body: @Sendable (any Connection) throws -> T) async throws -> T {
        if state.withLock({ $0.isDead }) { throw Death() }
        return try await database.read(limit, body)
    }

    func readBlocking<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T {
        try database.readBlocking(limit, body)
    }

    nonisolated(nonsending) func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        let (isDead, diesNow) = state.withLock { state in
            let diesNow = death.map { $0.write == state.writes } ?? false
            defer {
                state.writes += 1
                if diesNow { state.isDead = true }
            }
            return (state.isDead, diesNow)
        }
        if isDead { throw Death() }
        guard diesNow else { return try await database.write(body) }
        if death?.isCommitted == true { _ = try await database.write(body) }
        throw Death()
    }

    func listen(to topic: Topic, _ listener: @escaping @Sendable (_ subject: String) -> Void) {}
    func migrate(_ migrations: [Migration]) async throws { try await database.migrate(migrations) }
    func close() {}
}
