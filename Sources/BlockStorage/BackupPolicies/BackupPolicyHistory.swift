public import Database

/// How many runs are kept, and of how many volumes they tell: policies make them by the clock, as often as every minute.
public struct BackupPolicyHistoryLimits: Sendable {
    public let runsOfPolicy, runsOfProject, itemsOfProject: Int

    public init(runsOfPolicy: Int, runsOfProject: Int, itemsOfProject: Int) {
        self.runsOfPolicy = runsOfPolicy
        self.runsOfProject = runsOfProject
        self.itemsOfProject = itemsOfProject
    }
}

/// Removes what is known of old runs, a bounded number of rows in each transaction. The last run of a policy stays, and what is going on.
extension BackupPolicyRuns {
    /// Rows that one transaction removes at most.
    private static let mostRemoved = 5000

    static let removeItemsSQL = SQL(
        """
        DELETE FROM backup_policy_items WHERE run_id = ? AND volume_id IN (SELECT i.volume_id FROM backup_policy_items i WHERE i.run_id = ?
            ORDER BY i.volume_id LIMIT ?)
        """)
    /// Removes runs with their items, as far as they are few enough. Returns the number of rows that were removed.
    static func remove(_ ids: [String], in tx: any Transaction) throws -> Int {
        var room = mostRemoved
        for id in ids {
            room -= try tx.run(removeItemsSQL, .text(id), .text(id), .int(room))
            guard room > 0 else { break }
            room -= try tx.delete(from: table, table.id(id))
            guard room > 0 else { break }
        }
        return mostRemoved - room
    }

    private static let isRemovable = """
        r.finished_at IS NOT NULL AND EXISTS (SELECT 1 FROM backup_policy_runs s WHERE s.policy_id = r.policy_id
            AND (s.created_at > r.created_at OR (s.created_at = r.created_at AND s.id > r.id)))
        """
    static let oldSQL = SQL(
        "SELECT r.id FROM backup_policy_runs r WHERE r.created_at < ? AND \(isRemovable) ORDER BY r.created_at, r.id LIMIT 100")
    /// Removes what ended before a time. Returns the number of rows that were removed: 0 when there is nothing left.
    public static func purge(before time: String, in tx: any Transaction) throws -> Int {
        try remove(tx.rows(oldSQL, .text(time)) { $0.text(0) }, in: tx)
    }

    static let sizesSQL = SQL(
        """
        SELECT y.project_id, r.policy_id, count(*), sum(r.volumes) FROM backup_policy_runs r JOIN backup_policies y ON y.id = r.policy_id
        GROUP BY y.project_id, r.policy_id
        """)
    static let oldestOfPolicySQL = SQL(
        "SELECT r.id FROM backup_policy_runs r WHERE r.policy_id = ? AND \(isRemovable) ORDER BY r.created_at, r.id LIMIT ?")
    static let oldestOfProjectSQL = SQL(
        """
        SELECT r.id, r.volumes FROM backup_policy_runs r JOIN backup_policies y ON y.id = r.policy_id WHERE y.project_id = ? AND \(isRemovable)
        ORDER BY r.created_at, r.id LIMIT ?
        """)
    /// Runs that are looked at for one survey.
    private static let mostSurveyed = 10_000

    /// The runs that are too many, at most so many as one survey looks at. What is over a limit is brought down to nine tenths of it: the next
    /// survey need not come soon.
    public static func excess(_ limits: BackupPolicyHistoryLimits, in connection: any Connection) throws -> [String] {
        func surplus(_ count: Int, _ limit: Int) -> Int { count > limit ? count - (limit - limit / 10) : 0 }
        let sizes = try connection.rows(sizesSQL) { (project: $0.text(0), policy: $0.text(1), runs: $0.int(2), items: $0.int(3)) }
        var found: [String] = []
        var seen: Set<String> = []
        func add(_ id: String) { if seen.insert(id).inserted { found.append(id) } }
        for size in sizes where found.count < mostSurveyed {
            let count = surplus(size.runs, limits.runsOfPolicy)
            guard count > 0 else { continue }
            for id in try connection.rows(oldestOfPolicySQL, .text(size.policy), .int(min(count, mostSurveyed)), map: { $0.text(0) }) {
                add(id)
            }
        }
        for (project, sizes) in Dictionary(grouping: sizes, by: { $0.project }).sorted(by: { $0.key < $1.key })
        where found.count < mostSurveyed {
            var runs = surplus(sizes.reduce(0) { $0 + $1.runs }, limits.runsOfProject)
            var items = surplus(sizes.reduce(0) { $0 + $1.items }, limits.itemsOfProject)
            guard runs > 0 || items > 0 else { continue }
            for (id, volumes) in try connection.rows(
                oldestOfProjectSQL, .text(project), .int(mostSurveyed), map: { ($0.text(0), $0.int(1)) })
            {
                guard runs > 0 || items > 0 else { break }
                runs -= 1
                items -= volumes
                add(id)
            }
        }
        return found
    }

    /// Removes some of the runs. Returns those that are left.
    public static func trim(_ ids: [String], in tx: any Transaction) throws -> [String] {
        _ = try remove(Array(ids.prefix(100)), in: tx)
        let left = try ids.prefix(100).filter { try find($0, in: tx) != nil }
        return Array(left) + ids.dropFirst(100)
    }

    static let ofPolicySQL = SQL("SELECT id FROM backup_policy_runs WHERE policy_id = ? ORDER BY created_at, id LIMIT 100")
    /// Removes runs of a policy that is being deleted, whatever they are at. False: there is none.
    static func removeSome(of policy: Locked<BackupPolicy>, in tx: any Transaction) throws -> Bool {
        try remove(tx.rows(ofPolicySQL, .text(policy.id)) { $0.text(0) }, in: tx) > 0
    }
}
