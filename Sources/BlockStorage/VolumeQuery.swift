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

        var sql: String {
            switch self {
            case .display_name: "v.name"
            case .display_description: "v.description"
            case .ec2_id, .terminated_at, .provider_location, .provider_auth, .provider_geometry, .consistencygroup_id,
                .replication_extended_status, .replication_driver_data, .deleted_at:
                "NULL"
            case .deleted: "coalesce(NULL, 0)"
            default: "v.\(rawValue)"
            }
        }

        public var isInteger: Bool { self == .size || isBoolean }
        public var isBoolean: Bool { [.bootable, .multiattach, .consumes_quota, .shared_targets, .deleted].contains(self) }
        var isNullable: Bool {
            ![
                .id, .size, .status, .created_at, .project_id, .user_id, .attach_status, .volume_type_id, .bootable, .multiattach,
                .consumes_quota, .deleted,
            ].contains(self)
        }
        /// The column with a place for NULL in the order: before every text.
        var sortable: String { isNullable ? isInteger ? "coalesce(\(sql), -1)" : "coalesce(\(sql), '')" : sql }
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

    private var order: KeysetPage {
        KeysetPage(
            table: "volumes v",
            asked: (sort.isEmpty ? [(column: Column.created_at, ascending: false)] : sort).map {
                KeysetPage.Key(sql: $0.column.sortable, ascending: $0.ascending, isInteger: $0.column.isInteger)
            }, ties: [Column.created_at.sortable, Column.id.sortable])
    }

    /// Of one project's volumes many may share a state, but its index finds everybody's: the plus keeps it away, so that no
    /// more is read than the project's rows.
    private func searched(_ column: Column) -> String {
        projectID != nil && [.status, .host, .volume_type_id].contains(column) ? "+" + column.sql : column.sql
    }

    private func conditions() -> Conditions {
        var conditions = Conditions()
        if let projectID { conditions.add("v.project_id = ?", .text(projectID)) }
        for filter in filters {
            switch filter {
            case .equals(let column, .null): conditions.add("\(column.sql) IS NULL")
            case .equals(let column, let value): conditions.add("\(searched(column)) = ?", value)
            case .matches(let column, let match): conditions.add(searched(column), match)
            case .compare(let column, let comparison, let value): conditions.add("\(column.sql) \(comparison) ?", value)
            case .host(let host):
                // Prefixes as ranges: an index serves them, and no character of the name is a pattern.
                let h = searched(.host)
                conditions.add(
                    "(\(h) = ? OR (\(h) > ? AND \(h) < ?) OR (\(h) > ? AND \(h) < ?))", .text(host), .text(host + "@"),
                    .text(host + "A"),
                    .text(host + "#"), .text(host + "$"))
            case .map(let column, let pairs):
                for pair in pairs {
                    guard let value = pair.value, !pair.key.utf8.contains(UInt8(ascii: "\"")) else {
                        conditions.add("1 = 0")
                        continue
                    }
                    let (path, text) = (Value.text("$.\"\(pair.key)\""), Value.text(value))
                    if column == .metadata {
                        // What is shown among the user's metadata is found as it is.
                        conditions.add(
                            "(json_extract(v.metadata, ?) = ? OR json_extract(v.admin_metadata, ?) = ?)", path, text, path, text)
                    } else {
                        conditions.add("json_extract(v.\(column.rawValue), ?) = ?", path, text)
                    }
                }
            case .hasNoMigrationTarget: conditions.add("(v.migration_status IS NULL OR v.migration_status NOT LIKE 'target:%')")
            case .nothing: conditions.add("1 = 0")
            }
        }
        return conditions
    }

    private func statement(in connection: any Connection) throws -> (text: String, values: [Value]) {
        var conditions = conditions()
        let order = order
        if let marker {
            let scope = projectID.map { (sql: "v.project_id = ?", values: [Value.text($0)]) }
            guard let behind = try order.behind(marker, idColumn: "v.id", scope: scope, in: connection) else {
                throw StorageError.volumeNotFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        return order.statement(
            VolumeColumn.select, rowID: "v.rowid", conditions, isOrdered: isOrdered, limit: limit, offset: offset)
    }

    /// How the database would find the page, a line for each step.
    func plan(in connection: any Connection) throws -> [String] {
        let (text, values) = try statement(in: connection)
        var lines: [String] = []
        try connection.query(text: "EXPLAIN QUERY PLAN " + text, values) {
            lines.append($0.text(3))
            return true
        }
        return lines
    }

    public func page(in connection: any Connection) throws -> VolumeRows {
        let (text, values) = try statement(in: connection)
        return try VolumeRows(try connection.collect(text: text, values, expecting: min(limit, 64)), in: connection)
    }

    /// How many match, whatever the page.
    public func count(in connection: any Connection) throws -> Int {
        let conditions = conditions()
        var count = 0
        try connection.query(text: "SELECT count(*) FROM volumes v" + conditions.whereClause, conditions.values) {
            count = $0.int(0)
            return false
        }
        return count
    }

    static let projectSummary = SQL("SELECT count(*), coalesce(sum(size), 0) FROM volumes WHERE project_id = ?")
    static let wholeSummary = SQL("SELECT count(*), coalesce(sum(size), 0) FROM volumes")
    static let projectMetadata = SQL("SELECT DISTINCT metadata FROM volumes WHERE project_id = ? AND metadata <> '{}'")
    static let wholeMetadata = SQL("SELECT DISTINCT metadata FROM volumes WHERE metadata <> '{}'")

    /// Number, total GiB and the distinct values of each metadata key.
    public static func summary(projectID: String?, in connection: any Connection) throws -> (
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
        if let projectID {
            totals = try connection.first(projectSummary, .text(projectID)) { ($0.int(0), $0.int(1)) } ?? totals
            try connection.query(projectMetadata, [.text(projectID)], take)
        } else {
            totals = try connection.first(wholeSummary) { ($0.int(0), $0.int(1)) } ?? totals
            try connection.query(wholeMetadata, [], take)
        }
        return (totals.0, totals.1, values.map { (key: $0.key, values: $0.value.sorted()) }.sorted { $0.key < $1.key })
    }
}
