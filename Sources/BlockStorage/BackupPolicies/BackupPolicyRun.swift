public import Database
import JSON
import Primitives

/// One run of a policy: a copy of each volume that has it, and the end of those copies that are kept no longer.
public struct BackupPolicyRun: Sendable {
    public struct Status: BlockStorage.Status {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// Its volumes are not found yet.
        public static let preparing = Self(rawValue: "preparing")
        public static let running = Self(rawValue: "running")
        /// Every copy was made; some were; none was.
        public static let success = Self(rawValue: "success"), partial = Self(rawValue: "partial"), failed = Self(rawValue: "failed")
        /// Nobody was there to begin it in time.
        public static let missed = Self(rawValue: "missed")
        /// The run before it was still going on, or the policy was paused.
        public static let skipped = Self(rawValue: "skipped")
    }

    public let id, policyID, requestID, createdAt: String
    /// The time of the schedule that it is for; nil: somebody asked for it.
    public let occurrenceAt, finishedAt, message: String?
    public let status: Status

    init(_ row: any Row) {
        let t = BackupPolicyRunTable.table
        id = row[t.id]
        policyID = row[t.policyID]
        requestID = row[t.requestID]
        createdAt = row[t.createdAt]
        occurrenceAt = row[t.occurrenceAt]
        finishedAt = row[t.finishedAt]
        message = row[t.message]
        status = row[t.status]
    }
}

/// What a run makes of one volume.
public struct BackupPolicyItem: Sendable {
    public struct Status: BlockStorage.Status {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        public static let pending = Self(rawValue: "pending")
        /// The copy is being made.
        public static let started = Self(rawValue: "started")
        /// It is there, and is being verified.
        public static let verifying = Self(rawValue: "verifying")
        /// It is there; older ones are deleted.
        public static let retaining = Self(rawValue: "retaining")
        public static let done = Self(rawValue: "done"), failed = Self(rawValue: "failed"), skipped = Self(rawValue: "skipped")
    }

    public let runID, volumeID, projectID, updatedAt: String
    public let status: Status
    public let copyID, message: String?

    init(_ row: any Row) {
        let t = BackupPolicyItemTable.table
        runID = row[t.runID]
        volumeID = row[t.volumeID]
        projectID = row[t.projectID]
        updatedAt = row[t.updatedAt]
        status = row[t.status]
        copyID = row[t.copyID]
        message = row[t.message]
    }
}

/// Statements about runs. A policy's lock is also that of its runs and their items.
public enum BackupPolicyRuns {
    static let table = BackupPolicyRunTable.table
    static let items = BackupPolicyItemTable.table

    static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "Run \(id) of a backup policy could not be found.") }

    static func find(_ id: String, in connection: any Connection) throws -> BackupPolicyRun? {
        try connection.first(of: table, table.id(id)) { BackupPolicyRun($0) }
    }

    /// A run of a policy that is the caller's.
    public static func get(_ id: String, of policyID: String, for caller: Caller, in connection: any Connection) throws -> BackupPolicyRun {
        try requireVisible(policyID, to: caller, in: connection)
        guard let run = try find(id, in: connection), run.policyID == policyID else { throw notFound(id) }
        return run
    }

    /// Who may change a policy sees its runs.
    public static func requireVisible(_ policyID: String, to caller: Caller, in connection: any Connection) throws {
        try BackupPolicies.requireOwn(BackupPolicies.get(policyID, for: caller, in: connection), caller)
    }

    static let unfinishedSQL = SQL(table.select("WHERE r.finished_at IS NULL ORDER BY r.id"))
    public static func unfinished(in connection: any Connection) throws -> [BackupPolicyRun] {
        try connection.rows(unfinishedSQL) { BackupPolicyRun($0) }
    }

    static let unfinishedOfSQL = SQL(table.select("WHERE r.policy_id = ? AND r.finished_at IS NULL LIMIT 1"))
    static func unfinished(of policyID: String, in connection: any Connection) throws -> BackupPolicyRun? {
        try connection.first(unfinishedOfSQL, .text(policyID)) { BackupPolicyRun($0) }
    }

    static let countsSQL = SQL("SELECT status, count(*) FROM backup_policy_items WHERE run_id = ? GROUP BY status")
    public static func counts(of id: String, in connection: any Connection) throws -> [BackupPolicyItem.Status: Int] {
        try counts(of: id, project: nil, in: connection)
    }

    static let projectCountsSQL = SQL(
        "SELECT status, count(*) FROM backup_policy_items WHERE run_id = ? AND project_id = ? GROUP BY status")
    /// `project`: of its volumes alone; nil: of all.
    public static func counts(of id: String, project: String?, in connection: any Connection) throws -> [BackupPolicyItem.Status: Int] {
        func pair(_ row: any Row) -> (BackupPolicyItem.Status, Int) { (BackupPolicyItem.Status(rawValue: row.text(0)), row.int(1)) }
        let pairs =
            try project.map { try connection.rows(projectCountsSQL, .text(id), .text($0), map: pair) }
            ?? connection.rows(countsSQL, .text(id), map: pair)
        return Dictionary(pairs, uniquingKeysWith: +)
    }

    static let itemsSQL = SQL(items.select("WHERE i.run_id = ? ORDER BY i.volume_id LIMIT ?"))
    /// Its volumes, at most so many.
    public static func items(of id: String, limit: Int, in connection: any Connection) throws -> [BackupPolicyItem] {
        try connection.rows(itemsSQL, .text(id), .int(limit)) { BackupPolicyItem($0) }
    }

    static let projectItemsSQL = SQL(items.select("WHERE i.run_id = ? AND i.project_id = ? ORDER BY i.volume_id LIMIT ?"))
    /// `project`: its volumes alone; nil: all.
    public static func items(of id: String, project: String?, limit: Int, in connection: any Connection) throws -> [BackupPolicyItem] {
        guard let project else { return try items(of: id, limit: limit, in: connection) }
        return try connection.rows(projectItemsSQL, .text(id), .text(project), .int(limit)) { BackupPolicyItem($0) }
    }

    static let itemsInSQL = SQL(items.select("WHERE i.run_id = ? AND i.status = ? ORDER BY i.volume_id LIMIT ?"))
    public static func items(of id: String, _ status: BackupPolicyItem.Status, limit: Int, in connection: any Connection) throws
        -> [BackupPolicyItem]
    {
        try connection.rows(itemsInSQL, .text(id), status.bound, .int(limit)) { BackupPolicyItem($0) }
    }

    // MARK: begin and end

    /// Begins a run, as somebody asks.
    public static func begin(_ policyID: String, caller: Caller, in tx: any Transaction) throws -> BackupPolicyRun {
        let policy = try BackupPolicies.lockOwn(policyID, for: caller, in: tx)
        guard policy.settings.enabled else {
            throw StorageError(.conflict, "Backup policy \(policyID) is paused: it is run again when it was resumed.")
        }
        if let run = try unfinished(of: policyID, in: tx) {
            throw StorageError(.conflict, "Run \(run.id) of backup policy \(policyID) is still going on.")
        }
        let id = try insert(policy, occurrence: nil, .preparing, message: nil, requestID: caller.requestID, in: tx)
        try BackupPolicies.append("backup_policy.run", policy.value, caller: caller, data: ["run_id": .string(id)], in: tx)
        guard let run = try find(id, in: tx) else { throw notFound(id) }
        return run
    }

    static let dueSQL = SQL("SELECT id FROM backup_policies WHERE next_run_at <= ? ORDER BY next_run_at, id LIMIT 100")
    /// Policies whose schedule says that a run is to be begun.
    public static func due(in connection: any Connection) throws -> [String] {
        try connection.rows(dueSQL, .text(Timestamp.format(connection.time))) { $0.text(0) }
    }

    /// Begins the run of a policy that is due, tells of those that were missed, and notes when the next one is. Returns what became of it; nil:
    /// none is due.
    public static func beginDue(_ policyID: String, in tx: any Transaction) throws -> BackupPolicyRun.Status? {
        guard let policy = try BackupPolicies.lock(policyID, in: tx), let first = policy.value.next else { return nil }
        guard policy.settings.enabled, let schedule = policy.settings.schedule(of: policyID) else {
            // A zone that this machine no longer knows.
            try BackupPolicies.setNext(nil, of: policy, in: tx)
            return nil
        }
        let now = Int(tx.time)
        guard let due = schedule.due(from: first, at: now) else { return nil }
        try BackupPolicies.plan(policy, after: now, in: tx)
        let lost = due.missed + (due.isLate ? 1 : 0)
        var message: String?
        if lost > 0 {
            func shown(_ time: Int) -> String { String(Timestamp.format(seconds: time, microseconds: 0).prefix(19)) }
            message =
                "\(due.isMore ? "more than " : "")\(lost) \(lost == 1 ? "run was" : "runs were") missed from \(shown(first.start)) on, up to \(shown(now)): "
                + "the service did not run then, or its clock was moved."
        }
        let caller = Caller.service(requestID: "req-" + UUID.random())
        let occurrence = Timestamp.format(seconds: due.latest.time, microseconds: 0)
        guard try !tx.exists(BackupPolicies.ranSQL, .text(policyID), .text(occurrence)) else { return nil }
        var status = BackupPolicyRun.Status.preparing
        if let running = try unfinished(of: policyID, in: tx) {
            status = .skipped
            message = "run \(running.id) was still going on." + (message.map { " " + $0 } ?? "")
        } else if due.isLate, policy.settings.missed == .skip {
            status = .missed
        }
        let id = try insert(policy, occurrence: occurrence, status, message: message, requestID: caller.requestID, in: tx)
        if status != .preparing { try noteLast(status, of: policy, in: tx) }
        try BackupPolicies.append(
            lost > 0 || status != .preparing ? "backup_policy.missed" : "backup_policy.run", policy.value, caller: caller,
            data: ["run_id": .string(id), "message": JSON(message)], in: tx)
        return status
    }

    static let plannedSQL = SQL(
        "SELECT id FROM backup_policies WHERE next_run_at > ? OR (next_run_at IS NULL AND schedule IS NOT NULL AND enabled = 1)")
    /// Policies that wait for their next run.
    public static func waiting(in connection: any Connection) throws -> [String] {
        try connection.rows(plannedSQL, .text(Timestamp.format(connection.time))) { $0.text(0) }
    }

    /// Notes anew when the next run is: the clock, or what is known of the time zone, may have changed.
    public static func replan(_ policyID: String, in tx: any Transaction) throws {
        guard let policy = try BackupPolicies.lock(policyID, in: tx) else { return }
        let now = Int(tx.time)
        guard policy.value.next.map({ $0.start > now }) ?? true else { return }
        try BackupPolicies.plan(policy, after: now, in: tx)
    }

    private static func insert(
        _ policy: Locked<BackupPolicy>, occurrence: String?, _ status: BackupPolicyRun.Status, message: String?, requestID: String,
        in tx: any Transaction
    ) throws -> String {
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.policyID(policy.id), table.occurrenceAt(occurrence), table.status(status),
            table.message(message), table.volumes(0), table.requestID(requestID), table.createdAt(tx.now),
            table.finishedAt(status == .preparing ? nil : tx.now))
        return id
    }

    /// Volumes that a run is for.
    public struct Volumes: Sendable {
        let volumes: [BackupPolicies.CoveredVolume]
    }

    public static func volumes(of run: BackupPolicyRun, in connection: any Connection) throws -> Volumes? {
        try BackupPolicies.find(run.policyID, in: connection).map { Volumes(volumes: try BackupPolicies.volumes(of: $0, in: connection)) }
    }

    /// Notes the volumes of a run whose volumes are not known yet.
    public static func prepare(_ run: BackupPolicyRun, _ volumes: Volumes, in tx: any Transaction) throws {
        guard try BackupPolicies.lock(run.policyID, in: tx) != nil, try find(run.id, in: tx)?.status == .preparing else { return }
        for volume in volumes.volumes {
            try tx.insert(
                into: items, items.runID(run.id), items.volumeID(volume.id), items.projectID(volume.projectID), items.status(.pending),
                items.updatedAt(tx.now))
        }
        let none = "no volume has the policy."
        try tx.update(
            table, table.id(run.id), set: table.status(.running), table.volumes(volumes.volumes.count),
            table.message(volumes.volumes.isEmpty ? (run.message.map { $0 + " " } ?? "") + none : run.message))
    }

    /// Sets an item's state where it is still as it was seen; false: it is not.
    @discardableResult
    static func set(
        _ status: BackupPolicyItem.Status, of item: BackupPolicyItem, copyID: String? = nil, message: String? = nil, in tx: any Transaction
    ) throws -> Bool {
        try tx.update(
            items, items.runID(item.runID), items.volumeID(item.volumeID), items.status(item.status), set: items.status(status),
            items.copyID(copyID ?? item.copyID), items.message(message ?? item.message), items.updatedAt(tx.now)) == 1
    }

    /// Notes how an item went on.
    public static func move(
        _ item: BackupPolicyItem, to status: BackupPolicyItem.Status, message: String? = nil, of run: BackupPolicyRun,
        in tx: any Transaction
    ) throws {
        guard try BackupPolicies.lock(run.policyID, in: tx) != nil else { return }
        try set(status, of: item, message: message, in: tx)
    }

    static let skipSQL = SQL(
        "UPDATE backup_policy_items SET status = 'skipped', message = ?, updated_at = ? WHERE run_id = ? AND status = 'pending'")
    /// Begins nothing more of a run.
    public static func skipRest(of run: BackupPolicyRun, message: String, in tx: any Transaction) throws {
        guard try BackupPolicies.lock(run.policyID, in: tx) != nil else { return }
        try tx.run(skipSQL, .text(message), .text(tx.now), .text(run.id))
    }

    static let openSQL = SQL(
        "SELECT 1 FROM backup_policy_items WHERE run_id = ? AND status IN ('pending', 'started', 'verifying', 'retaining') LIMIT 1")
    /// Ends a run of which nothing is to be done any more; returns how it went.
    public static func finish(_ run: BackupPolicyRun, in tx: any Transaction) throws -> BackupPolicyRun.Status? {
        guard let policy = try BackupPolicies.lock(run.policyID, in: tx), try find(run.id, in: tx)?.status == .running,
            try !tx.exists(openSQL, .text(run.id))
        else { return nil }
        let counts = try counts(of: run.id, in: tx)
        let (done, failed, skipped) = (counts[.done] ?? 0, counts[.failed] ?? 0, counts[.skipped] ?? 0)
        let status: BackupPolicyRun.Status =
            failed == 0 && skipped == 0 ? .success : done > 0 ? .partial : failed > 0 ? .failed : .skipped
        try tx.update(table, table.id(run.id), set: table.status(status), table.finishedAt(tx.now))
        try noteLast(status, of: policy, in: tx)
        try BackupPolicies.append(
            "backup_policy.finished", policy.value, caller: .service(requestID: run.requestID),
            data: ["run_id": .string(run.id), "status": .string(status.rawValue)], in: tx)
        return status
    }

    private static func noteLast(_ status: BackupPolicyRun.Status, of policy: Locked<BackupPolicy>, in tx: any Transaction) throws {
        let t = BackupPolicies.table
        try tx.update(t, t.id(policy.id), set: t.lastRunAt(tx.now), t.lastStatus(status.rawValue))
    }
}
