public import Database

/// A page of snapshots.
public struct SnapshotQuery: Sendable {
    /// Columns by which snapshots are filtered and sorted, under the names of the API.
    public enum Column: String, Sendable, CaseIterable {
        case id, volume_id, name, status, size, created_at, updated_at, project_id, user_id, description, volume_type_id, consumes_quota
        case display_name, display_description, progress, group_snapshot_id, encryption_key_id, provider_id

        var column: AnyColumn {
            switch self {
            case .display_name: Snapshots.table.name
            case .display_description: Snapshots.table.description
            default: Snapshots.table.column(rawValue)
            }
        }
        public var isInteger: Bool { column.storage.kind != .text }
    }

    public enum Filter: Sendable {
        case equals(Column, Value)
        case matches(Column, ColumnMatch)
        /// A value that is nil no map has.
        case metadata([(key: String, value: String?)])
        /// The zone of the volume.
        case zone(String)
        /// Where the volume lies: `host`, `host@backend` or `host@backend#pool`.
        case host(String)
        case nothing
    }

    /// Whether the order is one in which indexes give the rows.
    private var isOrdered: Bool {
        (sort.isEmpty || (sort.count == 1 && sort[0].column == .created_at)) && offset <= KeysetPage.shortOffset
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool {
        isOrdered
            && filters.allSatisfy { filter in
                switch filter {
                case .equals(.id, _), .nothing: true
                default: false
                }
            }
    }

    public var projectID: String?
    public var filters: [Filter] = []
    public var sort: [(column: Column, ascending: Bool)] = []
    public var limit: Int
    public var offset = 0
    public var marker: String?

    public init(projectID: String?, limit: Int) {
        self.projectID = projectID
        self.limit = limit
    }

    private func conditions(_ dialect: any Dialect) -> Conditions {
        var conditions = Conditions()
        if let projectID { conditions.add("s.project_id = ?", .text(projectID)) }
        for filter in filters {
            switch filter {
            case .equals(let column, .null): conditions.add("\(column.column.sql) IS NULL")
            case .equals(let column, let value): conditions.add("\(column.column.sql) = ?", value)
            case .matches(let column, let match): conditions.add(column.column.sql, match, dialect)
            case .metadata(let pairs):
                for pair in pairs {
                    conditions.add(dialect.hasMember("s.metadata"), .text(pair.key), .string(pair.value))
                }
            case .host(let host):
                conditions.add(
                    "EXISTS (SELECT 1 FROM volumes v WHERE v.id = s.volume_id AND \(dialect.isWithin("v.host", HostName.separators)))",
                    dialect.prefixValues(host, HostName.separators))
            case .zone(let zone):
                conditions.add("EXISTS (SELECT 1 FROM volumes v WHERE v.id = s.volume_id AND v.availability_zone = ?)", .text(zone))
            case .nothing: conditions.add(dialect.never)
            }
        }
        return conditions
    }

    public func page(in connection: any Connection) throws -> [Snapshot] {
        if limit == 0 { return [] }
        var conditions = conditions(connection.dialect)
        let table = Snapshots.table
        let order = KeysetPage(
            table,
            asked: sort.isEmpty ? [.newest(table.createdAt)] : sort.map { KeysetPage.Key($0.column.column, ascending: $0.ascending) },
            ties: [table.createdAt, table.id])
        if let marker {
            let scope = projectID.map { (sql: "s.project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, scope: scope, in: connection) else {
                throw StorageError.snapshotNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(conditions, isOrdered: isOrdered, limit: limit, offset: offset, in: connection) { Snapshot($0) }
    }

    /// How many there are, whatever the page.
    public func count(in connection: any Connection) throws -> Int {
        let conditions = conditions(connection.dialect)
        var count = 0
        try connection.query(text: "SELECT count(*) FROM snapshots s" + conditions.whereClause, conditions.values) {
            count = $0.int(0)
            return false
        }
        return count
    }
}
