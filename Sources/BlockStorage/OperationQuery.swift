public import Database

/// A page of the operation log, newest first.
public struct OperationQuery: Sendable {
    /// What operations are filtered by, under the names of the API.
    public enum Column: String, Sendable, CaseIterable { case state, flow, resource_type, resource_id, request_id, user_id }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool { !isUnfinished && backend == nil && filters.allSatisfy { $0.column == .resource_id } }

    public var projectID: String?
    public var filters: [(column: Column, value: String)] = []
    /// Only those that are not finished.
    public var isUnfinished = false
    /// Of resources on this `node@backend`.
    public var backend: String?
    public var limit: Int
    public var marker: String?

    public init(projectID: String?, limit: Int) {
        self.projectID = projectID
        self.limit = limit
    }

    public func page(in connection: any Connection) throws -> [Operation] {
        if limit == 0 { return [] }
        var conditions = Conditions()
        if let projectID { conditions.add("project_id = ?", .text(projectID)) }
        for filter in filters { conditions.add("\(filter.column.rawValue) = ?", .text(filter.value)) }
        if isUnfinished { conditions.add("finished_at IS NULL", []) }
        if let backend {
            conditions.add(
                "resource_id IN (SELECT id FROM volumes WHERE host = ? OR (host > ? AND host < ?))", .text(backend), .text(backend + "#"),
                .text(backend + "$"))
        }
        let order = KeysetPage(
            table: "operations", asked: [KeysetPage.Key(sql: "created_at", ascending: false)], ties: ["created_at", "id"])
        if let marker {
            let scope = projectID.map { (sql: "project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, idColumn: "id", scope: scope, in: connection) else {
                throw StorageError.operationNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        var result: [Operation] = []
        let text = "SELECT \(Operation.columns) FROM operations" + conditions.whereClause + " ORDER BY \(order.orderBy) LIMIT ?"
        try connection.query(text: text, conditions.values + [.int(limit)]) {
            result.append(try Operation($0))
            return true
        }
        return result
    }
}
