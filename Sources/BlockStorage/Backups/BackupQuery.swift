public import Database

/// A page of backups.
public struct BackupQuery: Sendable {
    /// Columns by which backups are filtered and sorted, under the names of Cinder's table.
    public enum Column: String, Sendable, CaseIterable {
        case id, user_id, project_id, volume_id, host, availability_zone, display_name, display_description, container, parent_id, status
        case fail_reason, service_metadata, service, size, object_count, temp_snapshot_id, snapshot_id, data_timestamp, restore_volume_id
        case encryption_key_id, created_at, updated_at

        var column: AnyColumn {
            switch self {
            case .display_name: Backups.table.name
            case .display_description: Backups.table.description
            default: Backups.table.column(rawValue)
            }
        }
        public var isInteger: Bool { column.storage.kind != .text }
    }

    public enum Filter: Sendable {
        case matches(Column, ColumnMatch)
        /// A value that is nil no map has.
        case metadata([(key: String, value: String?)])
        case nothing
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool {
        isOrdered
            && filters.allSatisfy { filter in
                switch filter {
                case .matches(.id, .equals), .nothing: true
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

    public func page(in connection: any Connection) throws -> [Backup] { try rows(in: connection) { Backup($0) } }

    /// How many there are, whatever the page.
    public func count(in connection: any Connection) throws -> Int { try rowCount(in: connection) }
}

extension BackupQuery: PageQuery {
    static var table: Table { Backups.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { .backupNotFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters {
            switch filter {
            case .matches(let column, let match): conditions.add(column.column.sql, match, dialect)
            case .metadata(let pairs):
                for pair in pairs { conditions.add(dialect.hasMember("b.metadata"), .text(pair.key), .string(pair.value)) }
            case .nothing: conditions.add(dialect.never)
            }
        }
    }
}
