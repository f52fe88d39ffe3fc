import BlockStorage
import HTTPServer
import JSON

extension VolumeQuery: ListQuery {}

/// The lists of volumes: what the query's words mean.
enum VolumeList {
    static func list(_ store: Store) -> List<VolumeQuery, VolumeView.Source, VolumeRows> {
        List(
            store: store, view: VolumeView.view, path: "volumes",
            reading: .rules(
                ListFilters.Rules(
                    resource: "volume", allTenants: .boolean, older: .configured,
                    since: ["glance_metadata": 4, "group_id": 10, "created_at": 60, "updated_at": 60],
                    renames: ["consumes_quota": "use_quota"], countsSince: 45)),
            linksKey: "volumes_links", capacity: (16 * 1024, 96 * 1024), count: (since: 45, rows: { try $0.count(in: $1) }),
            filter: { filter, request, wantsAllProjects, query in
                // Without all_tenants the list is the caller's project's, whatever is asked.
                if filter.name == "project_id", !wantsAllProjects { return }
                query.filters += try conditions(filter, request)
            },
            column: { name, _ in column(name == "name" ? "display_name" : name) },
            prepare: { request, query in
                if !request.identity.isAdmin { query.filters.append(.hasNoMigrationTarget) }
            },
            read: { try $0.page(in: $1) }, write: write)
    }

    @Sendable private static func write(
        _ rows: VolumeRows, _ plan: ViewPlan<VolumeView.Source>, _ writer: inout JSONWriter
    ) -> List<VolumeQuery, VolumeView.Source, VolumeRows>.Written {
        var written = List<VolumeQuery, VolumeView.Source, VolumeRows>.Written()
        rows.forEach { row, type, attachments in
            written.count += 1
            if written.count == rows.count { written.lastID = row[VolumeTable.table.id] }
            plan.write(VolumeView.Source(row: row, type: type, attachments: attachments), &writer)
        }
        return written
    }

    /// A column under the name that Cinder's table has for it.
    private static func column(_ name: String) -> VolumeQuery.Column? {
        switch name {
        case "use_quota": .consumes_quota
        case "_name_id": .name_id
        case "name", "description", "consumes_quota", "name_id": nil
        default: VolumeQuery.Column(rawValue: name)
        }
    }

    private static func conditions(_ filter: ListFilters.Filter, _ request: APIRequest) throws(HTTPError) -> [VolumeQuery.Filter] {
        if !filter.isLike {
            switch filter.name {
            case "metadata", "glance_metadata":
                guard let pairs = try ListFilters.pairs(filter) else { return [.nothing] }
                return [.map(filter.name == "metadata" ? .metadata : .image_metadata, pairs)]
            case "host", "cluster_name":
                guard case .equals(.text(let text)) = try ListFilters.match(filter, isInteger: false, readsLiterals: true), !text.isEmpty
                else { return [] }
                return [filter.name == "host" ? .host(text) : .equals(.cluster_name, .text(text))]
            case "created_at", "updated_at":
                let column: VolumeQuery.Column = filter.name == "created_at" ? .created_at : .updated_at
                return try ListFilters.times(filter).map { .compare(column, $0.comparison, .text($0.time)) }
            case "use_quota": return [.equals(.consumes_quota, .bool(try APIRequest.flag(filter.name, filter.value)))]
            // As it stands: a volume may be called None.
            case "name", "display_name": return [.equals(.display_name, .text(filter.value))]
            default: break
            }
        } else if filter.name == "name" || filter.name == "description" {
            // Renamed since 3.31.
            guard request.version >= 31 else { return filter.name == "name" ? [] : [.nothing] }
            return [
                .matches(
                    filter.name == "name" ? .display_name : .display_description,
                    try ListFilters.match(filter, isInteger: false, readsLiterals: true))
            ]
        }
        guard let column = column(filter.name) else { return [.nothing] }
        if column.isBoolean, !filter.isLike {
            if request.version < 2 { return [.equals(column, .bool(!["False", "false", "FALSE", ""].contains(filter.value)))] }
            guard let bool = PythonText.bool(filter.value.trimmed) else {
                throw .badRequest("Invalid input received: '\(filter.name) = \(filter.value)'")
            }
            return [.equals(column, .bool(bool))]
        }
        let match = try ListFilters.match(filter, isInteger: column.isInteger, readsLiterals: true)
        if case .equals(let value) = match { return [.equals(column, value)] }
        return [.matches(column, match)]
    }
}
