import BlockStorage
import Database

/// The database as the resources of the API use it.
struct Store: Sendable {
    let database: any Database
    let longReads: LongReads
    /// The most that one page may hold.
    let pageLimit: Int

    /// Reads what an index finds: on this thread, and not without end.
    func read<T: Sendable>(_ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await database.read(.seconds(longReads.patience), body)
    }

    /// Reads what may be long. What is short is read on this thread; what turns out not to be, or need not even be tried while
    /// others wait for long reads, takes its turn among them. The closure may so be called twice.
    ///
    /// `isShort`: an index serves it, whatever the tables hold.
    func list<T: Sendable>(for caller: Caller, isShort: Bool, _ body: @escaping @Sendable (any Connection) throws -> T) async throws -> T {
        if isShort || longReads.isIdle {
            do {
                return try await database.read(.steps(isShort ? Self.shortSteps : Self.triedSteps), body)
            } catch let error as DatabaseError where error.kind == .tooLong {}
        }
        // Each user's turns are its own: one who asks for much keeps nobody of his project waiting.
        return try await longReads.read(for: caller.projectID + " " + caller.userID, body)
    }

    /// Steps of the database within which the longest page that an index serves is read.
    private static let shortSteps = 2_000_000
    /// Steps that are tried on a thread that others wait for, milliseconds.
    private static let triedSteps = 100_000

    /// Makes a change, and returns when it is on stable storage. The closure may be run again: it decides and writes, and what the client
    /// is answered is made afterwards of what it returns.
    func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        try await database.write(body)
    }
}
