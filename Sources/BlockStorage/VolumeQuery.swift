public import Database
import JSON
import Primitives

/// A page of volumes: filters, order and place, turned into SQL. Pages are found by key, not by counting, so a deep page
/// costs what the first one does.
public struct VolumeQuery: Sendable {
    public enum Filter: Sendable {
        case equals(Column, Value)
        case matches(Column, ColumnMatch)
        case compare(Column, String, Value)
        /// `host`, `host@backend` or `host@backend#pool`
        case host(String)
        /// Members of a JSON map; a value that is nil no map has.
        case map(MapColumn, [(key: String, value: String?)])
        case hasNoMigrationTarget
        /// Nothing can match.
        case nothing
    }

    public enum MapColumn: String, Sendable { case metadata, image_metadata }

    /// Columns by which volumes are filtered and sorted, under the names of the API.
    public enum Column: String, Sendable, CaseIterable {
        case id, size, status, name, description, host, bootable, multiattach
        case created_at, updated_at, launched_at, scheduled_at
        case project_id, user_id, availability_zone, attach_status, migration_status, replication_status, cluster_name
        case volume_type_id, snapshot_id, source_volid, group_id, encryption_key_id, provider_id, consumes_quota, service_uuid
        case display_name, display_description, name_id, shared_targets, previous_status
        // What Cinder's table has and this one need not: it holds nothing.
        case ec2_id, terminated_at, provider_location, provider_auth, provider_geometry, consistencygroup_id, replication_extended_status
        case replication_driver_data, deleted_at, deleted

        /// nil: it holds nothing.
        private var column: AnyColumn? {
            switch self {
            case .display_name: Volumes.table.name
            case .display_description: Volumes.table.description
            case .ec2_id, .terminated_at, .provider_location, .provider_auth, .provider_geometry, .consistencygroup_id,
                .replication_extended_status, .replication_driver_data, .deleted_at, .deleted:
                nil
            default: Volumes.table.column(rawValue)
            }
        }

        var sql: String { column?.sql ?? (self == .deleted ? "coalesce(NULL, 0)" : "NULL") }
        public var isBoolean: Bool { column.map { $0.storage.kind == .boolean } ?? (self == .deleted) }
        public var isInteger: Bool { column.map { $0.storage.kind != .text } ?? (self == .deleted) }
        /// The column with a place for NULL in the order: before every text.
        var sortable: String { column?.sortable ?? (self == .deleted ? sql : "coalesce(NULL, '')") }
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public var isShort: Bool {
        isOrdered
            && filters.allSatisfy { filter in
                switch filter {
                case .equals(.id, _), .hasNoMigrationTarget, .nothing: true
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

    /// How the database would find the page, a line for each step.
    func plan(in connection: any Connection) throws -> [String] {
        let (text, values) = try statement(select: VolumeTable.pageColumns, in: connection)
        let plan = connection.dialect.explain(text)
        var lines: [String] = []
        try connection.query(text: plan.text, values) {
            lines.append($0.text(plan.column))
            return true
        }
        return lines
    }

    public func page(in connection: any Connection) throws -> VolumeRows {
        let (text, values) = try statement(select: VolumeTable.pageColumns, in: connection)
        return try VolumeRows(
            try connection.collect(text: text, values, expecting: min(limit, 64)), areJoined: false, in: connection)
    }

    /// How many match, whatever the page.
    public func count(in connection: any Connection) throws -> Int { try rowCount(in: connection) }

    static let projectSummary = SQL("SELECT count(*), coalesce(sum(size), 0) FROM volumes WHERE project_id = ?")
    static let shownSummary = SQL {
        "SELECT count(*), coalesce(sum(size), 0) FROM volumes WHERE project_id = ? "
            + "AND \(MigrationStatus.isNoTarget("migration_status", $0))"
    }
    static let wholeSummary = SQL("SELECT count(*), coalesce(sum(size), 0) FROM volumes")
    static let projectMetadata = SQL("SELECT DISTINCT metadata FROM volumes WHERE project_id = ? AND metadata <> '{}'")
    static let shownMetadata = SQL {
        "SELECT DISTINCT metadata FROM volumes WHERE project_id = ? AND metadata <> '{}' "
            + "AND \(MigrationStatus.isNoTarget("migration_status", $0))"
    }
    static let wholeMetadata = SQL("SELECT DISTINCT metadata FROM volumes WHERE metadata <> '{}'")

    /// Number, total GiB and the distinct values of each metadata key.
    /// - Parameters:
    ///   - projectID: nil: of all projects.
    ///   - hidesCopies: whether the copies that instances are moved to count for nothing, as lists do not show them.
    public static func summary(projectID: String?, hidesCopies: Bool, in connection: any Connection) throws -> (
        count: Int, size: Int, metadata: [(key: String, values: [String])]
    ) {
        var totals = (0, 0)
        var values: [String: Set<String>] = [:]
        // As each row comes: the read's limit holds for this work too.
        func take(_ row: any Row) throws -> Bool {
            for member in (try JSON(parsing: row.text(0))).object?.members ?? [] {
                values[member.name, default: []].insert(member.value.string ?? "")
            }
            return true
        }
        if let projectID, hidesCopies {
            let values: [Value] = [.text(projectID), .text(MigrationStatus.targets)]
            try connection.query(shownSummary, values) { row in
                totals = (row.int(0), row.int(1))
                return false
            }
            try connection.query(shownMetadata, values, take)
        } else if let projectID {
            totals = try connection.first(projectSummary, .text(projectID)) { ($0.int(0), $0.int(1)) } ?? totals
            try connection.query(projectMetadata, [.text(projectID)], take)
        } else {
            totals = try connection.first(wholeSummary) { ($0.int(0), $0.int(1)) } ?? totals
            try connection.query(wholeMetadata, [], take)
        }
        return (totals.0, totals.1, values.map { (key: $0.key, values: $0.value.sorted()) }.sorted { $0.key < $1.key })
    }
}

extension VolumeQuery: PageQuery {
    static var table: Table { Volumes.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { .volumeNotFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key {
        KeysetPage.Key(sql: column.sortable, ascending: ascending, isInteger: column.isInteger)
    }

    /// Of one project's volumes many may share a state, but its index finds everybody's: it is kept away, so that no more is read
    /// than the project's rows.
    private func searched(_ column: Column, _ dialect: any Dialect) -> String {
        projectID != nil && [.status, .host, .volume_type_id].contains(column) ? dialect.withoutIndex(column.sql) : column.sql
    }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters {
            switch filter {
            case .equals(let column, .null): conditions.add("\(column.sql) IS NULL")
            case .equals(let column, let value): conditions.add("\(searched(column, dialect)) = ?", value)
            case .matches(let column, let match): conditions.add(searched(column, dialect), match, dialect)
            case .compare(let column, let comparison, let value): conditions.add("\(column.sql) \(comparison) ?", value)
            case .host(let host):
                conditions.add(
                    dialect.isWithin(searched(.host, dialect), HostName.separators), dialect.prefixValues(host, HostName.separators))
            case .map(let column, let pairs):
                for pair in pairs {
                    guard let value = pair.value, let path = dialect.memberPath(pair.key) else {
                        conditions.add(dialect.never)
                        continue
                    }
                    let text = Value.text(value)
                    if column == .metadata {
                        // What is shown among the user's metadata is found as it is.
                        let (own, shown) = (dialect.member(of: "v.metadata"), dialect.member(of: "v.admin_metadata"))
                        conditions.add("(\(own) = ? OR \(shown) = ?)", path, text, path, text)
                    } else {
                        conditions.add("\(dialect.member(of: Volumes.table.column(column.rawValue).sql)) = ?", path, text)
                    }
                }
            case .hasNoMigrationTarget:
                conditions.add(MigrationStatus.isNoTarget("v.migration_status", dialect), .text(MigrationStatus.targets))
            case .nothing: conditions.add(dialect.never)
            }
        }
    }
}
