import BlockStorage
import Database

/// The database as the resources of the API use it.
struct Store: Sendable {
    let database: any Database
    /// For what no index bounds.
    let longReads: LongReads
    /// For what is bounded by its rows, but has many.
    let pageReads: LongReads
    /// The most that one page may hold.
    let pageLimit: Int
    /// What may be filtered by, as it is now.
    var resourceFilters: @Sendable () -> ResourceFilters = { .standard }

    /// Reads what an index finds: on this thread, and not without end.
    func read<T: Sendable>(_ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await database.read(.seconds(longReads.patience), body)
    }

    /// Reads what may be long, or have many rows, and makes the answer of it. A page of few rows that an index serves is made on this
    /// thread; what turns out to be more, or need not even be tried while others wait, takes its turn on threads that nobody else waits
    /// for. The closure may so be called twice.
    ///
    /// `isShort`: an index serves it, whatever the tables hold. `rows`: how many it may have, where that is known.
    func list<T: Sendable>(
        for caller: Caller, isShort: Bool, rows: Int = 0, _ body: @escaping @Sendable (any Connection) throws -> T
    ) async throws -> T {
        let reads = isShort ? pageReads : longReads
        if (isShort && rows <= Self.fewRows) || reads.isIdle {
            do {
                return try await database.read(.steps(isShort ? Self.shortSteps : Self.triedSteps, rows: Self.triedRows), body)
            } catch let error as DatabaseError where error.kind == .tooLong {}
        }
        // Each user's turns are its own: one who asks for much keeps nobody of his project waiting.
        return try await reads.read(for: caller.projectID + " " + caller.userID, body)
    }

    /// Rows of a page that is tried at once.
    private static let fewRows = 100
    /// Rows that are read on a thread that others wait for, about a millisecond: those of a short page and what belongs to each.
    private static let triedRows = 250
    /// Steps of the database within which so many rows that an index gives are read.
    private static let shortSteps = 500_000
    /// Steps that are tried on a thread that others wait for, milliseconds.
    private static let triedSteps = 100_000

    /// Makes a change, and returns when it is on stable storage. The closure may be run again: it decides and writes, and what the client
    /// is answered is made afterwards of what it returns.
    func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        try await database.write(body)
    }

    /// Makes a change that others are notified of also where it is refused: of a refusal that is all that is kept.
    func write<T: Sendable>(
        for caller: Caller, refused: @escaping @Sendable (StorageError, any Transaction) throws -> CatalogueNotification?,
        _ body: @escaping @Sendable (any Transaction) throws -> T
    ) async throws -> T {
        do { return try await database.write(body) } catch let error as StorageError {
            // The client is told why its request was refused, whatever becomes of the note.
            try? await database.write { try refused(error, $0)?.note(by: caller, in: $0) }
            throw error
        }
    }
}
