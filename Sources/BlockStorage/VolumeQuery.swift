public import Database
import JSON

/// A page of volumes: filters, order and place, turned into SQL. Pages are found by key, not by counting, so a deep page
/// costs what the first one does.
public struct VolumeQuery: Sendable {
    public enum Filter: Sendable {
        case equals(Column, Value)
        /// A part of the text.
        case contains(Column, String)
        case compare(Column, String, Value)
        /// `host`, `host@backend` or `host@backend#pool`
        case host(String)
        /// Members of a JSON map.
        case map(MapColumn, [(key: String, value: String)])
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
        case display_name, display_description

        var sql: String {
            switch self {
            case .display_name: "v.name"
            case .display_description: "v.description"
            default: "v.\(rawValue)"
            }
        }

        public var isInteger: Bool { self == .size || isBoolean }
        public var isBoolean: Bool { [.bootable, .multiattach, .consumes_quota].contains(self) }
        public var isTime: Bool { [.created_at, .updated_at, .launched_at, .scheduled_at].contains(self) }
        var isNullable: Bool {
            ![
                .id, .size, .status, .created_at, .project_id, .user_id, .attach_status, .volume_type_id, .bootable, .multiattach,
                .consumes_quota,
            ].contains(self)
        }
        /// The column with a place for NULL in the order: before every text.
        var sortable: String { isNullable ? "coalesce(\(sql), '')" : sql }
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

    /// The order with its tie-breakers, which take the first direction.
    private var order: [(column: Column, ascending: Bool)] {
        var order = sort.isEmpty ? [(column: Column.created_at, ascending: false)] : sort
        let first = order[0].ascending
        for column in [Column.created_at, .id] where !order.contains(where: { $0.column == column }) {
            order.append((column: column, ascending: first))
        }
        return order
    }

    private func conditions() -> (sql: [String], values: [Value]) {
        var sql: [String] = []
        var values: [Value] = []
        if let projectID {
            sql.append("v.project_id = ?")
            values.append(.text(projectID))
        }
        for filter in filters {
            switch filter {
            case .equals(let column, .null): sql.append("\(column.sql) IS NULL")
            case .equals(let column, let value):
                sql.append("\(column.sql) = ?")
                values.append(value)
            case .contains(let column, let text):
                sql.append("\(column.sql) LIKE ? ESCAPE '\\'")
                values.append(.text("%" + text.map { "%_\\".contains($0) ? "\\\($0)" : String($0) }.joined() + "%"))
            case .compare(let column, let comparison, let value):
                sql.append("\(column.sql) \(comparison) ?")
                values.append(value)
            case .host(let host):
                sql.append("(v.host = ? OR (v.host > ? AND v.host < ?) OR (v.host > ? AND v.host < ?))")
                // Prefixes as ranges: an index serves them, and no character of the name is a pattern.
                values += [.text(host), .text(host + "@"), .text(host + "A"), .text(host + "#"), .text(host + "$")]
            case .map(let column, let pairs):
                for pair in pairs {
                    guard !pair.key.contains("\"") else {
                        sql.append("1 = 0")
                        continue
                    }
                    sql.append("json_extract(v.\(column.rawValue), ?) = ?")
                    values += [.text("$.\"\(pair.key)\""), .text(pair.value)]
                }
            case .hasNoMigrationTarget: sql.append("(v.migration_status IS NULL OR v.migration_status NOT LIKE 'target:%')")
            case .nothing: sql.append("1 = 0")
            }
        }
        return (sql, values)
    }

    /// Calls the closure for each row of the page, with the columns of `VolumeColumn`.
    public func page(in connection: any Connection, _ each: (any Row) throws -> Void) throws {
        var (conditions, values) = conditions()
        let order = order
        if let marker {
            var place: [Value]?
            let columns = order.map { $0.column.sortable }.joined(separator: ", ")
            try connection.query(
                text: "SELECT \(columns) FROM volumes v WHERE v.id = ?\(projectID == nil ? "" : " AND v.project_id = ?")",
                [.text(marker)] + (projectID.map { [.text($0)] } ?? [])
            ) { row in
                place = order.indices.map { order[$0].column.isInteger ? .integer(row.integer($0)) : .text(row.text($0)) }
                return false
            }
            guard let place else { throw StorageError.volumeNotFound(marker) }
            if order.allSatisfy({ $0.ascending == order[0].ascending }) {
                let marks = order.map { _ in "?" }.joined(separator: ", ")
                conditions.append("(\(columns)) \(order[0].ascending ? ">" : "<") (\(marks))")
                values += place
            } else {
                // Mixed directions: equal in the first n columns, beyond in the next.
                var alternatives: [String] = []
                for index in order.indices {
                    var terms = order[..<index].map { "\($0.column.sortable) = ?" }
                    terms.append("\(order[index].column.sortable) \(order[index].ascending ? ">" : "<") ?")
                    alternatives.append("(" + terms.joined(separator: " AND ") + ")")
                    values += place[...index]
                }
                conditions.append("(" + alternatives.joined(separator: " OR ") + ")")
            }
        }
        let by = order.map { "\($0.column.sortable) \($0.ascending ? "ASC" : "DESC")" }.joined(separator: ", ")
        let text =
            VolumeColumn.select + (conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND "))
            + " ORDER BY \(by) LIMIT ? OFFSET ?"
        try connection.query(text: text, values + [.int(limit), .int(offset)]) {
            try each($0)
            return true
        }
    }

    /// How many match, whatever the page.
    public func count(in connection: any Connection) throws -> Int {
        let (conditions, values) = conditions()
        var count = 0
        try connection.query(
            text: "SELECT count(*) FROM volumes v" + (conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")), values
        ) {
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
        var texts: [String] = []
        if let projectID {
            totals = try connection.first(projectSummary, .text(projectID)) { ($0.int(0), $0.int(1)) } ?? totals
            texts = try connection.rows(projectMetadata, .text(projectID)) { $0.text(0) }
        } else {
            totals = try connection.first(wholeSummary) { ($0.int(0), $0.int(1)) } ?? totals
            texts = try connection.rows(wholeMetadata) { $0.text(0) }
        }
        var values: [String: Set<String>] = [:]
        for text in texts {
            for member in (try JSON(parsing: text)).object?.members ?? [] {
                values[member.name, default: []].insert(member.value.string ?? "")
            }
        }
        return (totals.0, totals.1, values.map { (key: $0.key, values: $0.value.sorted()) }.sorted { $0.key < $1.key })
    }
}
