import Database

/// A page of a table's rows: of one project's or all, with filters, an order and a place, turned into SQL. Pages are found by key, not by
/// counting, so a deep page costs what the first one does.
protocol PageQuery {
    associatedtype Column: Equatable
    static var table: Table { get }
    /// The column of the time of creation, which orders a page where nothing else is asked, and breaks ties.
    static var newest: Column { get }
    /// The column of the project that the rows belong to. It and the sort keys are of the table itself: a marker is found without joins.
    static var owner: AnyColumn { get }
    /// The error for a marker that is no row's.
    static func notFound(_ id: String) -> StorageError
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key
    /// The order of a page where nothing else is asked: what `orderedByNewest` makes, made once.
    static var newestFirst: KeysetPage { get }

    var projectID: String? { get }
    var sort: [(column: Column, ascending: Bool)] { get }
    var limit: Int { get }
    var offset: Int { get }
    /// The id of the row that the page begins behind.
    var marker: String? { get }
    /// Whether the order is one in which indexes give the rows.
    var isOrdered: Bool { get }
    /// Adds the conditions of the filters.
    func filter(_ conditions: inout Conditions, _ dialect: any Dialect)
}

extension PageQuery {
    static var owner: AnyColumn { table.column("project_id") }

    static func orderedByNewest() -> KeysetPage { order([key(newest, ascending: false)]) }

    private static func order(_ asked: [KeysetPage.Key]) -> KeysetPage {
        KeysetPage(table, asked: asked, ties: [table.column("created_at"), table.column("id")])
    }

    var isOrdered: Bool {
        (sort.isEmpty || (sort.count == 1 && sort[0].column == Self.newest)) && offset <= KeysetPage.shortOffset
    }

    private func conditions(_ dialect: any Dialect) -> Conditions {
        var conditions = Conditions()
        if let projectID { conditions.add(Self.owner, is: .text(projectID)) }
        filter(&conditions, dialect)
        return conditions
    }

    /// The statement that selects the page. `select`: what it begins with, where that is not all columns.
    func statement(select: String? = nil, in connection: any Connection) throws -> (text: String, values: [Value]) {
        var conditions = conditions(connection.dialect)
        let order = sort.isEmpty ? Self.newestFirst : Self.order(sort.map { Self.key($0.column, ascending: $0.ascending) })
        if let marker {
            let scope = projectID.map { (sql: "\(Self.owner.sql) = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, scope: scope, in: connection) else { throw Self.notFound(marker) }
            conditions.add(behind.sql, behind.values)
        }
        return order.statement(conditions, select: select, isOrdered: isOrdered, limit: limit, offset: offset, connection.dialect)
    }

    /// The page's rows; none is asked for where the page holds none.
    func rows<T>(in connection: any Connection, map: (any Row) throws -> T) throws -> [T] {
        guard limit > 0 else { return [] }
        let (text, values) = try statement(in: connection)
        var result: [T] = []
        try connection.query(text: text, values) {
            result.append(try map($0))
            return true
        }
        return result
    }

    /// How many rows match, whatever the page.
    func rowCount(in connection: any Connection) throws -> Int {
        let conditions = conditions(connection.dialect)
        var count = 0
        try connection.query(text: "SELECT count(*) FROM \(Self.table.source)" + conditions.whereClause, conditions.values) {
            count = $0.int(0)
            return false
        }
        return count
    }
}
