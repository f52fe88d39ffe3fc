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

    public func page(in connection: any Connection) throws -> [Snapshot] { try rows(in: connection) { Snapshot($0) } }

    /// How many there are, whatever the page.
    public func count(in connection: any Connection) throws -> Int { try rowCount(in: connection) }
}

extension SnapshotQuery: PageQuery {
    static var table: Table { Snapshots.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { .snapshotNotFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
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
    }
}
