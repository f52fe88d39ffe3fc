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
        if let projectID { conditions.add("o.project_id = ?", .text(projectID)) }
        for filter in filters { conditions.add("\(Operations.table.column(filter.column.rawValue).sql) = ?", .text(filter.value)) }
        if isUnfinished { conditions.add("o.finished_at IS NULL") }
        if let backend {
            conditions.add(
                "o.resource_id IN (SELECT v.id FROM volumes v WHERE \(connection.dialect.isWithin("v.host", HostName.poolSeparators)))",
                connection.dialect.prefixValues(backend, HostName.poolSeparators))
        }
        let table = Operations.table
        let order = KeysetPage(table, asked: [.newest(table.createdAt)], ties: [table.createdAt, table.id])
        if let marker {
            let scope = projectID.map { (sql: "o.project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, scope: scope, in: connection) else {
                throw StorageError.operationNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(
            conditions, select: "SELECT \(Operation.columns) FROM \(table.source)", isOrdered: true, limit: limit, offset: 0, in: connection
        ) { Operation($0) }
    }
}
