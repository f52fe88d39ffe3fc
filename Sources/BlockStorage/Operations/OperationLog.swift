public import Database
public import JSON
import Primitives

extension Topic {
    /// Operations that can run: the subject is the operation's id.
    public static let runnableOperations = Topic("operations.runnable")
    /// Operations that somebody asked to be taken back: the subject is the operation's id.
    public static let cancelledOperations = Topic("operations.cancelled")
}

/// The operation log.
public enum Operations {
    static let insertSQL = SQL(
        """
        INSERT INTO operations (id, flow, version, state, reverting, attempts, resource_type, resource_id, project_id, user_id,
            request_id, arguments, step_state, created_at, updated_at)
        VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, '{}', ?, ?)
        """)
    static let byID = SQL("SELECT \(Operation.columns) FROM operations WHERE id = ?")
    static let runnableSQL = SQL(
        "SELECT \(Operation.columns) FROM operations WHERE finished_at IS NULL AND state = \(OperationState.running.sql) ORDER BY created_at"
    )
    static let waitingIDsSQL = SQL(
        "SELECT id FROM operations WHERE finished_at IS NULL AND state = \(OperationState.waiting.sql) ORDER BY created_at")
    static let insertClaimSQL = SQL("INSERT INTO claims (resource, ticket, operation_id, exclusive, held) VALUES (?, ?, ?, ?, ?)")
    static let conflictSQL = SQL("SELECT 1 FROM claims WHERE resource = ? AND operation_id <> ? AND (exclusive = 1 OR ? = 1) LIMIT 1")
    static let earlierSQL = SQL(
        """
        SELECT 1 FROM claims WHERE resource = ? AND operation_id <> ? AND (exclusive = 1 OR ? = 1) AND (held = 1 OR ticket < ?) LIMIT 1
        """)
    static let claimsSQL = SQL("SELECT resource, exclusive, ticket FROM claims WHERE operation_id = ? ORDER BY resource")
    static let waitersSQL = SQL("SELECT DISTINCT operation_id, ticket FROM claims WHERE resource = ? AND held = 0 ORDER BY ticket")
    static let claimedSQL = SQL("SELECT DISTINCT resource FROM claims")
    static let releaseSQL = SQL("DELETE FROM claims WHERE operation_id = ?")
    static let holdSQL = SQL("UPDATE claims SET held = 1 WHERE operation_id = ?")
    static let runSQL = SQL("UPDATE operations SET state = \(OperationState.running.sql), updated_at = ? WHERE id = ?")
    static let advanceSQL = SQL(
        "UPDATE operations SET step_name = ?, reverting = ?, attempts = ?, step_state = ?, error = ?, updated_at = ? WHERE id = ?")
    // What was asked for and what steps recorded is for the flow alone, and clients choose how long it is.
    static let finishSQL = SQL(
        "UPDATE operations SET state = ?, error = ?, finished_at = ?, updated_at = ?, arguments = '{}', step_state = '{}' WHERE id = ?")
    static let verdictsSQL = SQL("UPDATE operations SET verdicts = ? WHERE id = ?")

    /// Writes an operation into the log, in the transaction that makes the change it belongs to. It runs at once if
    /// nothing that is before it claims the same; `Topic.runnableOperations` is rung for every operation that can run.
    public static func create(
        _ arguments: some FlowArguments, resourceType: String, resourceID: String, projectID: String, caller: Caller,
        claims: [Claim], in tx: any Transaction
    ) throws -> String {
        let id = UUID.random()
        let flow = type(of: arguments).flow
        let now = tx.now
        let ticket = now + id
        // Always in the order of ids: two operations that need the same two things never wait for each other.
        let ordered = claims.sorted { $0.resource < $1.resource }
        let free = try ordered.allSatisfy { try !tx.exists(conflictSQL, .text($0.resource), .text(id), .bool($0.isExclusive)) }
        if !free { try checkQueues(ordered, in: tx) }
        try tx.run(
            insertSQL, .text(id), .text(flow.name), .int(flow.version), (free ? OperationState.running : .waiting).bound,
            .text(resourceType),
            .text(resourceID),
            .text(projectID), .text(caller.userID), .text(caller.requestID), .text(arguments.text), .text(now), .text(now))
        for claim in ordered {
            try tx.run(insertClaimSQL, .text(claim.resource), .text(ticket), .text(id), .bool(claim.isExclusive), .bool(free))
            // Of what may be another one from now on nothing more is cloned as an image.
            if claim.isExclusive, claim.isOfRow { try ImageCacheEntries.remove(claim.resource, in: tx) }
        }
        try Events.append(
            "operation.accepted", resourceType: resourceType, resourceID: resourceID, projectID: projectID, operationID: id,
            requestID: caller.requestID, data: ["flow": .string(flow.name)], in: tx)
        try NotificationOutbox.noteAccepted(flow, arguments, resourceID: resourceID, caller: caller, in: tx)
        if free { tx.ring(.runnableOperations, id) }
        return id
    }

    /// Operations that may wait for one resource: who asks leaves as he likes, what he asked for stays until its turn.
    static let mostWaiting = 1000
    static let waitingCountSQL = SQL("SELECT count(*) FROM claims WHERE resource = ? AND held = 0")

    private static func checkQueues(_ claims: [Claim], in connection: any Connection) throws {
        for claim in claims {
            let count = try connection.first(waitingCountSQL, .text(claim.resource)) { $0.int(0) } ?? 0
            guard count < mostWaiting else {
                throw StorageError(.conflict, "\(count) operations wait for \(claim.resource), the most that may.")
            }
        }
    }

    /// Locks the row of an operation that the transaction carries on, and the volumes and snapshots whose claims it may give up. To be called
    /// before anything else is locked.
    public static func lock(_ id: String, in tx: any Transaction) throws {
        tx.notesLocks { [RowLock(.operations, id)] }
        guard !tx.dialect.readsLock else { return }
        for sql in lockSQL { try tx.query(sql, [.text(id)]) { _ in true } }
    }

    private static let claimedByIt = "IN (SELECT resource FROM claims WHERE operation_id = ?)"
    private static let lockSQL = [
        SQL { table.selectLocked("WHERE o.id = ?", $0) },
        SQL { VolumeTable.table.selectLocked("WHERE v.id \(claimedByIt) ORDER BY v.id", $0) },
        SQL { SnapshotTable.table.selectLocked("WHERE s.id \(claimedByIt) ORDER BY s.id", $0) },
        SQL { BackupTable.table.selectLocked("WHERE b.id \(claimedByIt) ORDER BY b.id", $0) },
    ]

    static let claimedByAnySQL = SQL("SELECT 1 FROM claims WHERE resource = ? LIMIT 1")
    /// Whether an operation works on the resource, reads it or waits for it.
    static func isClaimed(_ resource: String, in connection: any Connection) throws -> Bool {
        try connection.exists(claimedByAnySQL, .text(resource))
    }

    static let changedSQL = SQL("SELECT 1 FROM claims WHERE resource = ? AND exclusive = 1 LIMIT 1")
    /// Whether an operation changes the resource, or waits to.
    public static func isChanged(_ resource: String, in connection: any Connection) throws -> Bool {
        try connection.exists(changedSQL, .text(resource))
    }

    static let latestSQL = SQL(
        "SELECT \(Operation.columns) FROM operations WHERE resource_id = ? ORDER BY created_at DESC, id DESC LIMIT 1")
    /// The latest operation on a resource.
    public static func latest(of resource: String, in connection: any Connection) throws -> Operation? {
        try connection.first(latestSQL, .text(resource)) { Operation($0) }
    }

    /// An operation that the caller may see.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Operation {
        guard let operation = try find(id, in: connection), caller.isAdmin || operation.projectID == caller.projectID else {
            throw StorageError.operationNotFound(id)
        }
        return operation
    }

    static let cancelSQL = SQL("UPDATE operations SET cancelled = 1, updated_at = ? WHERE id = ? AND finished_at IS NULL AND reverting = 0")
    /// Asks for the operation to be taken back; false if it is over, or being taken back already.
    public static func cancel(_ operation: Operation, caller: Caller, in tx: any Transaction) throws -> Bool {
        try lock(operation.id, in: tx)
        guard try tx.run(cancelSQL, .text(tx.now), .text(operation.id)) == 1 else { return false }
        try Events.append(
            "operation.cancel", resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
            operationID: operation.id, requestID: caller.requestID, data: ["flow": .string(operation.flow.name)], in: tx)
        tx.ring(.cancelledOperations, operation.id)
        return true
    }

    static let verdictsOfSQL = SQL("SELECT verdicts FROM operations WHERE id = ?")
    /// What the scheduler said of each pool; nil if it was not asked.
    public static func verdicts(of id: String, in connection: any Connection) throws -> JSON? {
        try connection.first(verdictsOfSQL, .text(id)) { try $0.optionalText(0).map { try JSON(parsing: $0) } } ?? nil
    }

    public static func find(_ id: String, in connection: any Connection) throws -> Operation? {
        try connection.first(byID, .text(id)) { Operation($0) }
    }

    /// Ids of those that wait for another one's claim.
    public static func waiting(in connection: any Connection) throws -> [String] { try connection.rows(waitingIDsSQL) { $0.text(0) } }

    /// Everything that a process which died left running.
    public static func runnable(in connection: any Connection) throws -> [Operation] {
        try connection.rows(runnableSQL) { Operation($0) }
    }

    /// Records where the operation stands: `step` and `state` as `Operation.step` and `Operation.stepState`.
    public static func advance(
        _ id: String, step: String?, reverting: Bool, attempts: Int, state: some JSONConvertible, error: String?, in tx: any Transaction
    ) throws {
        try tx.run(
            advanceSQL, .string(step), .bool(reverting), .int(attempts), .text(state.text), .string(error), .text(tx.now),
            .text(id))
    }

    /// Notes that bytes are about to be written to what the operation makes. False: an attempt before this one has begun to.
    public static func beginWriting(_ id: String, in tx: any Transaction) throws -> Bool {
        guard try tx.first(of: table, table.id(id), map: { $0[table.hasWritten] }) == false else { return false }
        try tx.update(table, table.id(id), set: table.hasWritten(true))
        return true
    }

    static let checkpointSQL = SQL("UPDATE operations SET step_state = ?, updated_at = ? WHERE id = ? AND finished_at IS NULL")
    /// Records how far the present step got, so that its repetition need not begin at nothing.
    public static func checkpoint(_ id: String, state: some JSONConvertible, in tx: any Transaction) throws {
        try tx.run(checkpointSQL, .text(state.text), .text(tx.now), .text(id))
    }

    public static func setVerdicts(_ verdicts: JSON, of id: String, in tx: any Transaction) throws {
        try tx.run(verdictsSQL, .text(verdicts.text), .text(id))
    }

    /// Ends an operation, gives its claims up and lets those run that waited for them.
    public static func finish(_ operation: Operation, state: OperationState, error: String?, in tx: any Transaction) throws {
        let now = tx.now
        try tx.run(finishSQL, state.bound, .string(error), .text(now), .text(now), .text(operation.id))
        let resources = try tx.rows(claimsSQL, .text(operation.id)) { $0.text(0) }
        try tx.run(releaseSQL, .text(operation.id))
        try Events.append(
            "operation.\(state)", resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
            operationID: operation.id, requestID: operation.requestID,
            data: error.map { ["flow": .string(operation.flow.name), "error": .string($0)] } ?? ["flow": .string(operation.flow.name)],
            in: tx)
        try runWaiters(for: resources, in: tx)
    }

    static let releaseOneSQL = SQL("DELETE FROM claims WHERE operation_id = ? AND resource = ?")
    /// Gives up one claim of an operation that goes on without it. Called last in its transaction.
    public static func release(_ resource: String, of operation: Operation, in tx: any Transaction) throws {
        guard try tx.run(releaseOneSQL, .text(operation.id), .text(resource)) == 1 else { return }
        try runWaiters(for: [resource], in: tx)
    }

    /// Lets those run that waited for claims on the resources.
    private static func runWaiters(for resources: [String], in tx: any Transaction) throws {
        var waiters: [String: String] = [:]
        for resource in resources {
            for (waiter, ticket) in try tx.rows(waitersSQL, .text(resource), map: { ($0.text(0), $0.text(1)) }) { waiters[ticket] = waiter }
        }
        for (ticket, waiter) in waiters.sorted(by: { $0.key < $1.key }) {
            tx.notesLocks { [RowLock(.waiters, ticket)] }
            try run(waiting: waiter, in: tx)
        }
    }

    static let ticketSQL = SQL("SELECT ticket FROM claims WHERE operation_id = ? LIMIT 1")
    static let claimedByOneSQL = SQL("SELECT 1 FROM claims WHERE resource = ? AND operation_id = ?")

    /// Claims one more resource, shared, for an operation that runs. False, and nothing is claimed, where another one changes it or waits to: an
    /// operation that holds claims waits for none, so that no two wait for each other.
    static func share(_ row: Locked<some Lockable>, by operation: Operation, in tx: any Transaction) throws -> Bool {
        let resource = row.value.id
        if try tx.exists(claimedByOneSQL, .text(resource), .text(operation.id)) { return true }
        guard try !tx.exists(conflictSQL, .text(resource), .text(operation.id), .bool(false)) else { return false }
        guard let ticket = try tx.first(ticketSQL, .text(operation.id), map: { $0.text(0) }) else { return false }
        try tx.run(insertClaimSQL, .text(resource), .text(ticket), .text(operation.id), .bool(false), .bool(true))
        return true
    }

    /// Whether nothing that is before the operation claims what it claims.
    static func canRun(_ id: String, in connection: any Connection) throws -> Bool {
        try connection.rows(claimsSQL, .text(id)) { ($0.text(0), $0.bool(1), $0.text(2)) }.allSatisfy {
            try !connection.exists(earlierSQL, .text($0.0), .text(id), .bool($0.1), .text($0.2))
        }
    }

    /// Lets a waiting operation run if it can.
    @discardableResult
    static func run(waiting id: String, in tx: any Transaction) throws -> Bool {
        guard try canRun(id, in: tx) else { return false }
        try tx.run(holdSQL, .text(id))
        try tx.run(runSQL, .text(tx.now), .text(id))
        tx.ring(.runnableOperations, id)
        return true
    }

    static let purgeSQL = SQL {
        $0.deleteFirst(
            from: "operations", key: "id", where: "finished_at IS NOT NULL AND finished_at < ?", orderBy: "finished_at", limit: 10_000)
    }
    /// Removes a bounded number of operations that finished before the time.
    public static func purge(before time: String, in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(time)) }

    /// Resources that operations are at work on or wait for.
    public static func claimed(in connection: any Connection) throws -> Set<String> { Set(try connection.rows(claimedSQL) { $0.text(0) }) }

    static let unfinishedSQL = SQL(
        "SELECT flow, state, count(*), min(created_at) FROM operations WHERE finished_at IS NULL GROUP BY flow, state ORDER BY flow, state")
    /// How many operations of each flow and state are not finished, and since when the oldest is there.
    public static func unfinished(in connection: any Connection) throws -> [(flow: String, state: String, count: Int, oldest: String)] {
        try connection.rows(unfinishedSQL) { ($0.text(0), $0.text(1), $0.int(2), $0.text(3)) }
    }
}
