public import Database
import JSON
import Primitives

/// When copies (backups, or snapshots) of volumes are made, and how many are kept.
public struct BackupPolicy: Sendable {
    public let id, projectID, userID: String
    public let settings: BackupPolicySettings
    public let lastRunAt, lastStatus: String?
    /// When the next run is begun, and the time of its schedule that it is for.
    public let nextRunAt, nextOccurrenceAt: String?
    public let createdAt: String
    public let updatedAt: String?

    public init(_ row: any Row) throws {
        let t = BackupPolicyTable.table
        id = row[t.id]
        projectID = row[t.projectID]
        userID = row[t.userID]
        var settings = BackupPolicySettings()
        settings.name = row[t.name]
        settings.description = row[t.description]
        settings.enabled = row[t.isEnabled]
        settings.isPublic = row[t.isPublic]
        settings.action = BackupPolicySettings.Action(rawValue: row[t.action]) ?? .backup
        settings.schedule = row[t.schedule]
        settings.timezone = row[t.timezone]
        settings.jitterSeconds = row[t.jitterSeconds]
        settings.missed = BackupPolicySettings.Missed(rawValue: row[t.missed]) ?? .runOnce
        settings.incremental = row[t.incremental].flatMap { Retention.Increments(rawValue: $0) }
        settings.fullEvery = row[t.fullEvery]
        settings.keepLast = row[t.keepLast]
        settings.keepHourly = row[t.keepHourly]
        settings.keepDaily = row[t.keepDaily]
        settings.keepWeekly = row[t.keepWeekly]
        settings.keepMonthly = row[t.keepMonthly]
        settings.keepYearly = row[t.keepYearly]
        settings.keepWithin = row[t.keepWithin]
        settings.minimumKeep = row[t.minimumKeep]
        settings.maxParallel = row[t.maxParallel]
        settings.windowStart = row[t.windowStart]
        settings.windowEnd = row[t.windowEnd]
        settings.container = row[t.container]
        settings.availabilityZone = row[t.availabilityZone]
        settings.verifyAfter = row[t.verifyAfter]
        settings.verifyEvery = row[t.verifyEvery]
        settings.maxBytesPerSecond = row[t.maxBytesPerSecond]
        settings.protectDays = row[t.protectDays]
        settings.metadata = try JSON(parsing: row[t.metadata]).object ?? [:]
        self.settings = settings
        lastRunAt = row[t.lastRunAt]
        lastStatus = row[t.lastStatus]
        nextRunAt = row[t.nextRunAt]
        nextOccurrenceAt = row[t.nextOccurrenceAt]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
    }

    /// The run that is to be begun next; nil: there is none.
    var next: BackupSchedule.Occurrence? {
        guard let start = nextRunAt.flatMap(Timestamp.parse), let time = nextOccurrenceAt.flatMap(Timestamp.parse) else { return nil }
        return BackupSchedule.Occurrence(time: Int(time), start: Int(start))
    }

    /// Its own project's, and where it is public everybody's.
    func isVisible(to caller: Caller) -> Bool { settings.isPublic || isOwned(by: caller) }
    func isOwned(by caller: Caller) -> Bool { caller.isAdmin || projectID == caller.projectID }
}

/// Statements about backup policies.
public enum BackupPolicies {
    static let table = BackupPolicyTable.table

    public static func find(_ id: String, in connection: any Connection) throws -> BackupPolicy? {
        try connection.first(BackupPolicy.findStatement, .text(id)) { try BackupPolicy($0) }
    }

    static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "Backup policy \(id) could not be found.") }

    /// A policy that the caller may see.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> BackupPolicy {
        guard let policy = try find(id, in: connection), policy.isVisible(to: caller) else { throw notFound(id) }
        return policy
    }

    /// One that the caller may change too.
    static func lockOwn(_ id: String, for caller: Caller, in tx: any Transaction) throws -> Locked<BackupPolicy> {
        guard let policy = try lock(id, in: tx), policy.value.isVisible(to: caller) else { throw notFound(id) }
        try requireOwn(policy.value, caller)
        return policy
    }

    static func requireOwn(_ policy: BackupPolicy, _ caller: Caller) throws {
        guard policy.isOwned(by: caller) else {
            throw StorageError(.forbidden, "Backup policy \(policy.id) is another project's: it may be used, but not be changed or run.")
        }
    }

    static let namedSQL = SQL(table.select("WHERE y.name = ? AND (y.project_id = ? OR y.is_public = 1) ORDER BY y.is_public, y.id"))
    /// The policy of that name that a volume's property means: the project's own, else a public one.
    static func named(_ name: String, in project: String, _ connection: any Connection) throws -> BackupPolicy? {
        let found = try connection.rows(namedSQL, .text(name), .text(project)) { try BackupPolicy($0) }
        return found.first { $0.projectID == project } ?? found.first
    }

    static let verifyingSQL = SQL(table.select("WHERE y.verify_every IS NOT NULL AND y.enabled = 1 ORDER BY y.id"))
    /// Those by which backups are verified again and again.
    public static func verifying(in connection: any Connection) throws -> [BackupPolicy] {
        try connection.rows(verifyingSQL) { try BackupPolicy($0) }
    }

    /// Bytes per second that may be read for a backup at most, by its policy; nil: as many as there are.
    public static func bytesPerSecond(of backup: Backup, in connection: any Connection) throws -> Int? {
        try backup.policyID.flatMap { try find($0, in: connection) }?.settings.bytesPerSecondOfCopy
    }

    // MARK: what users change

    public static func create(_ settings: BackupPolicySettings, caller: Caller, in tx: any Transaction) throws -> BackupPolicy {
        guard !caller.projectID.isEmpty else {
            throw StorageError.invalidInput("a backup policy belongs to a project, and the token is for none.")
        }
        try settings.check()
        try refuseTaken(settings, project: caller.projectID, except: nil, in: tx)
        let count = try tx.first(countSQL, .text(caller.projectID)) { $0.int(0) } ?? 0
        guard count < mostOfProject else {
            throw StorageError(.conflict, "The project has \(count) backup policies, the most that it may have.")
        }
        let id = UUID.random()
        let t = table
        try tx.insert(
            into: t, t.id(id), t.projectID(caller.projectID), t.userID(caller.userID), t.name(settings.name), t.isEnabled(settings.enabled),
            t.isPublic(settings.isPublic), t.action(settings.action.rawValue), t.timezone(settings.timezone), t.jitterSeconds(0),
            t.missed(settings.missed.rawValue), t.minimumKeep(1), t.maxParallel(1), t.metadata("{}"), t.createdAt(tx.now))
        try store(settings, of: id, before: [:], updatedAt: nil, in: tx)
        guard let made = try lock(id, in: tx) else { throw notFound(id) }
        try plan(made, after: Int(tx.time), in: tx)
        try append("backup_policy.create", made.value, caller: caller, in: tx)
        return try find(id, in: tx) ?? made.value
    }

    /// So many policies a project may have.
    static let mostOfProject = 1000
    static let countSQL = SQL("SELECT count(*) FROM backup_policies WHERE project_id = ?")

    /// Changes what `change` changes.
    public static func update(
        _ id: String, caller: Caller, in tx: any Transaction, _ change: (inout BackupPolicySettings) throws -> Void
    ) throws -> BackupPolicy {
        let before = try lockOwn(id, for: caller, in: tx)
        var settings = before.settings
        try change(&settings)
        guard settings.action == before.settings.action else {
            throw StorageError.invalidInput("action: it cannot be changed, since it says what the policy's copies are.")
        }
        try settings.check()
        try refuseTaken(settings, project: before.projectID, except: id, in: tx)
        if before.settings.isPublic, !settings.isPublic, try tx.exists(foreignAssignmentSQL, .text(id), .text(before.projectID)) {
            throw StorageError(.conflict, "is_public: volumes of other projects are assigned to the policy.")
        }
        try store(settings, of: id, before: before.settings.metadata, updatedAt: tx.now, in: tx)
        guard let after = try lock(id, in: tx) else { throw notFound(id) }
        let old = before.settings
        if old.schedule != settings.schedule || old.timezone != settings.timezone || old.jitterSeconds != settings.jitterSeconds
            || old.windowStart != settings.windowStart || old.windowEnd != settings.windowEnd || old.enabled != settings.enabled
        {
            try plan(after, after: Int(tx.time), in: tx)
        }
        try append("backup_policy.update", after.value, caller: caller, in: tx)
        return try find(id, in: tx) ?? after.value
    }

    static let foreignAssignmentSQL = SQL("SELECT 1 FROM backup_policy_assignments WHERE policy_id = ? AND project_id <> ? LIMIT 1")

    /// Whether its schedule counts. A run that is going on begins nothing more once it does not.
    public static func setEnabled(_ isEnabled: Bool, of id: String, caller: Caller, in tx: any Transaction) throws {
        let policy = try lockOwn(id, for: caller, in: tx)
        guard policy.settings.enabled != isEnabled else { return }
        try tx.update(table, table.id(id), set: table.isEnabled(isEnabled), table.updatedAt(tx.now))
        guard let after = try lock(id, in: tx) else { return }
        try plan(after, after: Int(tx.time), in: tx)
        try append("backup_policy.\(isEnabled ? "resume" : "pause")", after.value, caller: caller, in: tx)
    }

    /// Removes the policy with its assignments and what is known of its runs. What it has made stays. The past may be long: it goes in steps,
    /// each of which is a transaction, until one returns true. After the first the policy is paused.
    public static func delete(_ id: String, caller: Caller, in tx: any Transaction) throws -> Bool {
        let policy = try lockOwn(id, for: caller, in: tx)
        if policy.settings.enabled {
            try tx.update(table, table.id(id), set: table.isEnabled(false), table.nextRunAt(nil), table.nextOccurrenceAt(nil))
        }
        guard try !BackupPolicyRuns.removeSome(of: policy, in: tx) else { return false }
        try tx.delete(from: BackupPolicyAssignments.table, BackupPolicyAssignments.table.policyID(id))
        try tx.delete(from: table, table.id(id))
        try append("backup_policy.delete", policy.value, caller: caller, in: tx)
        return true
    }

    // MARK: rows

    static let takenSQL = SQL("SELECT 1 FROM backup_policies WHERE name = ? AND id <> ? AND (project_id = ? OR (is_public = 1 AND ? = 1))")
    /// A name means one policy in a project, and one public policy.
    private static func refuseTaken(_ settings: BackupPolicySettings, project: String, except id: String?, in tx: any Transaction) throws {
        guard try tx.exists(takenSQL, .text(settings.name), .text(id ?? ""), .text(project), .bool(settings.isPublic)) else { return }
        throw StorageError(.conflict, "name: there is a backup policy '\(settings.name)' already.")
    }

    private static func store(
        _ s: BackupPolicySettings, of id: String, before: JSONObject, updatedAt: String?, in tx: any Transaction
    ) throws {
        let t = table
        try tx.update(
            t, t.id(id), set: t.name(s.name), t.description(s.description), t.isEnabled(s.enabled), t.isPublic(s.isPublic),
            t.schedule(s.schedule), t.timezone(s.timezone), t.jitterSeconds(s.jitterSeconds), t.missed(s.missed.rawValue),
            t.incremental(s.incremental?.rawValue), t.fullEvery(s.fullEvery), t.keepLast(s.keepLast), t.keepHourly(s.keepHourly),
            t.keepDaily(s.keepDaily), t.keepWeekly(s.keepWeekly), t.keepMonthly(s.keepMonthly), t.keepYearly(s.keepYearly),
            t.keepWithin(s.keepWithin), t.minimumKeep(s.minimumKeep), t.maxParallel(s.maxParallel), t.windowStart(s.windowStart),
            t.windowEnd(s.windowEnd), t.container(s.container), t.availabilityZone(s.availabilityZone), t.verifyAfter(s.verifyAfter),
            t.verifyEvery(s.verifyEvery), t.maxBytesPerSecond(s.maxBytesPerSecond), t.protectDays(s.protectDays),
            t.metadata(try s.metadata.stored("metadata", before: before)), t.updatedAt(updatedAt))
    }

    /// Notes when the next run is, if there is one, behind a moment.
    static func plan(_ policy: Locked<BackupPolicy>, after time: Int, in tx: any Transaction) throws {
        var next: BackupSchedule.Occurrence?
        if policy.settings.enabled, let schedule = policy.settings.schedule(of: policy.id) {
            // A time that a run was for is not run again, wherever the clock was moved to.
            next = try schedule.occurrences(after: time).first { occurrence in
                try !tx.exists(ranSQL, .text(policy.id), .text(Timestamp.format(seconds: occurrence.time, microseconds: 0)))
            }
        }
        try setNext(next, of: policy, in: tx)
    }

    static let ranSQL = SQL("SELECT 1 FROM backup_policy_runs WHERE policy_id = ? AND occurrence_at = ?")

    static func setNext(_ next: BackupSchedule.Occurrence?, of policy: Locked<BackupPolicy>, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(policy.id), set: table.nextRunAt(next.map { Timestamp.format(seconds: $0.start, microseconds: 0) }),
            table.nextOccurrenceAt(next.map { Timestamp.format(seconds: $0.time, microseconds: 0) }))
    }

    static func append(_ kind: String, _ policy: BackupPolicy, caller: Caller, data: JSONObject = [:], in tx: any Transaction) throws {
        try Events.append(
            kind, resourceType: "backup_policy", resourceID: policy.id, projectID: policy.projectID, operationID: nil,
            requestID: caller.requestID, data: data, in: tx)
    }
}
