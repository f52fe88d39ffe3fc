public import Database

/// How much of the past is kept by number: events, finished operations and messages, each. Clients make them by asking, as fast as they
/// like; the oldest make room. A project's own limit keeps the others' past safe from its flood.
public struct HistoryLimits: Sendable {
    public let perProject, total: Int

    public init(perProject: Int, total: Int) {
        self.perProject = perProject
        self.total = total
    }
}

/// Rows of one table that are too many: all before `end` in the table's order are.
public struct HistoryExcess: Sendable {
    fileprivate let record: HistoryRecord
    /// nil: of all projects together.
    fileprivate let projectID: String?
    fileprivate let end: Value
    public var table: String { record.table }
}

/// What is known of the past's size.
public struct HistorySurvey: Sendable {
    public let excess: [HistoryExcess]
    /// While no event has a greater number nothing can have become too much.
    public let isTrueUntil: Int64
}

/// A table of the past.
private struct HistoryRecord: Sendable {
    let table: String
    /// What rows are ordered by, from old to new.
    let order: String
    let isNumbered: Bool
    let countsSQL, endSQL, endOfProjectSQL, trimSQL, trimProjectSQL: SQL

    /// `removable`: a condition, with an AND behind it.
    init(_ table: String, order: String, isNumbered: Bool = false, removable: String = "") {
        self.table = table
        self.order = order
        self.isNumbered = isNumbered
        countsSQL = SQL("SELECT project_id, count(*) FROM \(table) GROUP BY project_id")
        endSQL = SQL("SELECT \(order) FROM \(table) ORDER BY \(order) LIMIT 1 OFFSET ?")
        endOfProjectSQL = SQL("SELECT \(order) FROM \(table) WHERE project_id = ? ORDER BY \(order) LIMIT 1 OFFSET ?")
        func trim(_ scope: String) -> SQL {
            SQL { $0.deleteFirst(from: table, key: "id", where: "\(scope)\(removable)\(order) < ?", orderBy: order, limit: 10_000) }
        }
        trimSQL = trim("")
        trimProjectSQL = trim("project_id = ? AND ")
    }
}

/// Bounds the past by number.
public enum History {
    private static let records = [
        HistoryRecord("events", order: "id", isNumbered: true),
        HistoryRecord("operations", order: "created_at", removable: "finished_at IS NOT NULL AND "),
        HistoryRecord("messages", order: "created_at"),
    ]

    /// Counts the rows and says which are too many. What is over a limit is brought down to nine tenths of it: the next survey need not
    /// come soon.
    public static func survey(_ limits: HistoryLimits, in connection: any Connection) throws -> HistorySurvey {
        var excess: [HistoryExcess] = []
        // No row of the other tables comes without an event.
        var room = Int64.max
        let last = try Events.last(in: connection)
        for record in records {
            let counts = try connection.rows(record.countsSQL) { (project: $0.text(0), count: $0.int(1)) }
            var total = 0
            for (project, count) in counts {
                let kept = kept(of: count, limits.perProject)
                if kept < count,
                    let end = try connection.first(record.endOfProjectSQL, .text(project), .int(count - kept), map: record.end)
                {
                    excess.append(HistoryExcess(record: record, projectID: project, end: end))
                }
                total += kept
                room = min(room, Int64(limits.perProject - kept))
            }
            let kept = kept(of: total, limits.total)
            if kept < total, let end = try connection.first(record.endSQL, .int(total - kept), map: record.end) {
                excess.append(HistoryExcess(record: record, projectID: nil, end: end))
            }
            room = min(room, Int64(limits.total - kept))
        }
        return HistorySurvey(excess: excess, isTrueUntil: last + max(0, room))
    }

    private static func kept(of count: Int, _ limit: Int) -> Int { count > limit ? limit - limit / 10 : count }

    /// Removes a bounded number of rows that are too many; returns how many.
    public static func trim(_ excess: HistoryExcess, in tx: any Transaction) throws -> Int {
        if let projectID = excess.projectID { return try tx.run(excess.record.trimProjectSQL, .text(projectID), excess.end) }
        return try tx.run(excess.record.trimSQL, excess.end)
    }
}

extension HistoryRecord {
    fileprivate func end(_ row: any Row) -> Value { isNumbered ? .integer(row.integer(0)) : .text(row.text(0)) }
}
