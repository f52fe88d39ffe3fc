public import Database
import Settings

/// What a project may have and has. Usage is a row per project and resource, changed in the transaction that changes
/// the thing charged, so it cannot drift.
public enum Quotas {
    /// A resource with its configured limit, in the order of the answers.
    public struct Resource: Sendable {
        public let name: String
        public let defaultLimit: Int
    }

    /// The configured limits.
    public struct Defaults: Sendable {
        let resources: [Resource]
        /// Whether the limits of the class `default` go before these.
        let yieldsToClass: Bool

        public init(_ settings: Settings) {
            resources = [
                Resource(name: "volumes", defaultLimit: settings[Options.storage.quotaVolumes]),
                Resource(name: "per_volume_gigabytes", defaultLimit: settings[Options.storage.perVolumeSizeLimit]),
                Resource(name: "snapshots", defaultLimit: settings[Options.storage.quotaSnapshots]),
                Resource(name: "gigabytes", defaultLimit: settings[Options.storage.quotaGigabytes]),
                Resource(name: "backups", defaultLimit: settings[Options.storage.quotaBackups]),
                Resource(name: "backup_gigabytes", defaultLimit: settings[Options.storage.quotaBackupGigabytes]),
                Resource(name: "groups", defaultLimit: settings[Options.storage.quotaGroups]),
            ]
            yieldsToClass = settings[Options.storage.usesDefaultQuotaClass]
        }
    }

    /// A limit with what is used of it.
    public struct Entry: Sendable {
        public let resource: String
        public var limit: Int
        public var inUse: Int
    }

    static let limitsSQL = SQL("SELECT resource, hard_limit FROM quota_limits WHERE project_id = ?")
    static let classSQL = SQL("SELECT resource, hard_limit FROM quota_class_limits WHERE class_name = ?")
    static let usagesSQL = SQL("SELECT resource, in_use FROM quota_usages WHERE project_id = ?")
    /// By the number of rows: a charge changes up to three, and as many under its type's name.
    private static let addSQLs = (1...6).map { rows in
        SQL {
            $0.upsert(
                into: "quota_usages", columns: ["project_id", "resource", "in_use"], key: ["project_id", "resource"],
                changes: [("in_use", "quota_usages.in_use + " + $0.inserted("in_use"))], rows: rows)
        }
    }
    static let setUsageSQL = SQL {
        $0.upsert(
            into: "quota_usages", columns: ["project_id", "resource", "in_use"], key: ["project_id", "resource"],
            changes: [("in_use", $0.inserted("in_use"))])
    }

    /// All limits of a project (its own, else the default class's where that counts, else the configured), with usage.
    public static func entries(
        project: String, defaults: Defaults, ignoringOwnLimits: Bool = false, in connection: any Connection
    ) throws -> [Entry] {
        var limits = defaults.yieldsToClass ? try pairs(classSQL, "default", in: connection) : [:]
        if !ignoringOwnLimits { limits.merge(try pairs(limitsSQL, project, in: connection)) { $1 } }
        let usages = try pairs(usagesSQL, project, in: connection)
        return try names(defaults, in: connection).map {
            Entry(resource: $0.name, limit: limits[$0.name] ?? $0.defaultLimit, inUse: usages[$0.name] ?? 0)
        }
    }

    /// The limits of a class, without usage; those that it does not set are the configured ones.
    public static func entries(ofClass name: String, defaults: Defaults, in connection: any Connection) throws -> [Entry] {
        let limits = try pairs(classSQL, name, in: connection)
        return try names(defaults, in: connection).map { Entry(resource: $0.name, limit: limits[$0.name] ?? $0.defaultLimit, inUse: 0) }
    }

    static let setClassSQL = SQL {
        $0.upsert(
            into: "quota_class_limits", columns: ["class_name", "resource", "hard_limit"], key: ["class_name", "resource"],
            changes: [("hard_limit", $0.inserted("hard_limit"))])
    }
    /// Sets limits of a class; those of the class `default` hold for every project that has none of its own.
    public static func setLimits(_ limits: [(resource: String, limit: Int)], class name: String, in tx: any Transaction) throws {
        for (resource, limit) in limits { try tx.run(setClassSQL, .text(name), .text(resource), .int(limit)) }
    }

    /// All resources in the order of the answers, those of types among them.
    private static func names(_ defaults: Defaults, in connection: any Connection) throws -> [Resource] {
        let types = try VolumeTypes.all(in: connection).flatMap { type in
            ["volumes", "gigabytes", "snapshots"].map { Resource(name: "\($0)_\(type.name)", defaultLimit: -1) }
        }
        return defaults.resources.dropLast() + types + defaults.resources.suffix(1)
    }

    static func usages(ofProject project: String, in connection: any Connection) throws -> [String: Int] {
        try pairs(usagesSQL, project, in: connection)
    }

    private static func pairs(_ sql: SQL, _ key: String, in connection: any Connection) throws -> [String: Int] {
        Dictionary(try connection.rows(sql, .text(key)) { ($0.text(0), $0.int(1)) }, uniquingKeysWith: { $1 })
    }

    /// Charges a resource, or refuses it with Cinder's words. The rows of the quotas are changed first and compared after, so that who comes
    /// meanwhile waits for this transaction; they are the last that it locks. `totalSize`: of the volume, for the limit of a single one.
    /// `replaced`: what is given back for it.
    public static func charge(
        _ charge: Charge, type: String, totalSize: Int = 0, replacing replaced: [(charge: Charge, type: String)] = [], project: String,
        defaults: Defaults, in tx: any Transaction
    ) throws {
        let entries = charge.entries(type)
        if replaced.isEmpty {
            try add(entries, project: project, in: tx)
        } else {
            // By name, whatever type they are of.
            var amounts = Dictionary(uniqueKeysWithValues: entries.map { ($0.resource, $0.amount) })
            for (old, type) in replaced { for entry in old.entries(type) { amounts[entry.resource, default: 0] -= entry.amount } }
            let changes = amounts.sorted { $0.key < $1.key }.map { (resource: $0.key, amount: $0.value) }
            for start in stride(from: 0, to: changes.count, by: addSQLs.count) {
                try add(Array(changes[start..<min(start + addSQLs.count, changes.count)]), project: project, in: tx)
            }
        }
        let standing = try Standing([perVolume] + entries.map(\.resource), of: project, defaults: defaults, in: tx)
        try check(charge, type, totalSize, standing)
    }

    /// Charges what changes its type under the new one's name, or refuses it.
    static func chargeType(_ type: String, _ charge: Charge, project: String, defaults: Defaults, in tx: any Transaction) throws {
        let entries = charge.entries(ofType: type)
        try add(entries, project: project, in: tx)
        let standing = try Standing(entries.map(\.resource), of: project, defaults: defaults, in: tx)
        for (resource, delta) in [("volumes", charge.volumes), ("gigabytes", charge.gigabytes), ("snapshots", charge.snapshots)] {
            let name = "\(resource)_\(type)"
            guard delta > 0, let limit = standing.exceeded(name) else { continue }
            throw StorageError(
                .overQuota,
                "Quota exceeded for \(name): \(delta) requested, the limit is \(limit) and \(standing.used(name) - delta) is used already.")
        }
    }

    /// Changes what is charged, without a look at the limits.
    public static func add(_ charge: Charge, type: String, project: String, in tx: any Transaction) throws {
        try add(charge.entries(type), project: project, in: tx)
    }

    /// Changes what is charged under the name of a type.
    public static func addType(_ type: String, _ charge: Charge, project: String, in tx: any Transaction) throws {
        try add(charge.entries(ofType: type), project: project, in: tx)
    }

    /// Locks the rows that charges will change one after the other, which together are this one.
    static func lock(_ charge: Charge, type: String, project: String, in tx: any Transaction) throws {
        let entries = charge.entries(type)
        tx.notesLocks { entries.map { RowLock(.quotas, "\(project) \($0.resource)") } }
        if !tx.dialect.readsLock { try add(entries.map { ($0.resource, 0) }, project: project, in: tx) }
    }

    static func add(_ entries: [(resource: String, amount: Int)], project: String, in tx: any Transaction) throws {
        guard !entries.isEmpty else { return }
        tx.notesLocks { entries.map { RowLock(.quotas, "\(project) \($0.resource)") } }
        try tx.run(addSQLs[entries.count - 1], entries.flatMap { [.text(project), .text($0.resource), .int($0.amount)] })
    }

    /// Sets what is charged to what was counted.
    static func setUsage(_ amount: Int, of resource: String, project: String, in tx: any Transaction) throws {
        tx.notesLocks { [RowLock(.quotas, "\(project) \(resource)")] }
        try tx.run(setUsageSQL, .text(project), .text(resource), .int(amount))
    }

    /// The resource whose limit is that of a single volume.
    private static let perVolume = "per_volume_gigabytes"

    /// What a project may have and has of some resources.
    struct Standing {
        private struct Line {
            let resource: String
            var limit: Int?
            var ownLimit: Int?
            var used = 0
        }
        private var lines: [Line]

        init(_ resources: [String], of project: String, defaults: Defaults, in tx: any Transaction) throws {
            var lines = resources.map { name in
                Line(resource: name, limit: defaults.resources.first { $0.name == name }?.defaultLimit)
            }
            try tx.query(standingSQL, [.text(project), .text(project)]) { row in
                guard let name = row.bytes(1), let index = lines.firstIndex(where: { $0.resource.utf8.elementsEqual(name) }) else {
                    return true
                }
                let amount = row.int(2)
                switch row.int(0) {
                case 0: if defaults.yieldsToClass { lines[index].limit = amount }
                case 1: lines[index].ownLimit = amount
                default: lines[index].used = amount
                }
                return true
            }
            self.lines = lines
        }

        private func line(_ name: String) -> Line? { lines.first { $0.resource == name } }

        func limit(_ name: String) -> Int? { line(name).flatMap { $0.ownLimit ?? $0.limit } }
        func used(_ name: String) -> Int { line(name)?.used ?? 0 }
        /// The limit, if there is one and more is used.
        func exceeded(_ name: String) -> Int? { limit(name).flatMap { $0 >= 0 && used(name) > $0 ? $0 : nil } }
    }

    static let standingSQL = SQL(
        """
        SELECT 0, resource, hard_limit FROM quota_class_limits WHERE class_name = 'default'
        UNION ALL SELECT 1, resource, hard_limit FROM quota_limits WHERE project_id = ?
        UNION ALL SELECT 2, resource, in_use FROM quota_usages WHERE project_id = ?
        """)

    /// Compares what is charged already.
    private static func check(_ charge: Charge, _ type: String, _ totalSize: Int, _ standing: Standing) throws(StorageError) {
        if let limit = standing.limit(perVolume), limit >= 0, totalSize > limit {
            throw StorageError(
                .overQuota,
                "VolumeSizeExceedsLimit: Requested volume size \(totalSize)G is larger than maximum allowed limit \(limit)G.")
        }
        for name in ["gigabytes", "gigabytes_" + type] where charge.gigabytes > 0 {
            if let limit = standing.exceeded(name) {
                throw StorageError(
                    .overQuota,
                    "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed \(name) quota. "
                        + "Requested \(charge.gigabytes)G, quota is \(limit)G and \(standing.used(name) - charge.gigabytes)G has been consumed."
                )
            }
        }
        for name in ["volumes", "volumes_" + type] where charge.volumes > 0 {
            if let limit = standing.exceeded(name) {
                throw StorageError(
                    .overQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (\(limit)) exceeded for quota '\(name)'.")
            }
        }
        for name in ["snapshots", "snapshots_" + type] where charge.snapshots > 0 {
            if let limit = standing.exceeded(name) {
                throw StorageError(.overQuota, "SnapshotLimitExceeded: Maximum number of snapshots allowed (\(limit)) exceeded")
            }
        }
    }

    // MARK: limits

    static let setSQL = SQL {
        $0.upsert(
            into: "quota_limits", columns: ["project_id", "resource", "hard_limit"], key: ["project_id", "resource"],
            changes: [("hard_limit", $0.inserted("hard_limit"))])
    }

    /// Sets limits of a project. A limit below the present use is refused if the project has one of its own already.
    public static func setLimits(_ limits: [(resource: String, limit: Int)], project: String, defaults: Defaults, in tx: any Transaction)
        throws
    {
        let known = try entries(project: project, defaults: defaults, in: tx)
        let bad = limits.filter { limit in !known.contains { $0.resource == limit.resource } }.map(\.resource).sorted()
        guard bad.isEmpty else { throw StorageError.invalidInput("Bad key(s) in quota set: \(bad.joined(separator: ", "))") }
        let own = try pairs(limitsSQL, project, in: tx)
        for (resource, limit) in limits {
            if own[resource] != nil, limit >= 0, let entry = known.first(where: { $0.resource == resource }), entry.inUse > limit {
                throw StorageError(
                    .invalid,
                    "Quota \(resource) limit must be equal or greater than existing resources. Current usage is \(entry.inUse) and the "
                        + "requested limit is \(limit).")
            }
            try tx.run(setSQL, .text(project), .text(resource), .int(limit))
        }
    }

    public static func clearLimits(project: String, in tx: any Transaction) throws {
        try tx.delete(from: QuotaLimitTable.table, QuotaLimitTable.table.projectID(project))
    }

    // MARK: types come and go

    private static let tables: [(table: Table, resource: Column<String>)] = [
        (QuotaLimitTable.table, QuotaLimitTable.table.resource), (QuotaClassTable.table, QuotaClassTable.table.resource),
        (QuotaUsageTable.table, QuotaUsageTable.table.resource),
    ]

    static func renameType(_ old: String, to new: String, in tx: any Transaction) throws {
        // What is left of a type that had the name before is nobody's any more.
        try removeType(new, in: tx)
        for kind in ["volumes", "gigabytes", "snapshots"] {
            for (table, resource) in tables { try tx.update(table, resource("\(kind)_\(old)"), set: resource("\(kind)_\(new)")) }
        }
    }

    static func removeType(_ name: String, in tx: any Transaction) throws {
        for kind in ["volumes", "gigabytes", "snapshots"] {
            for (table, resource) in tables { try tx.delete(from: table, resource("\(kind)_\(name)")) }
        }
    }
}
