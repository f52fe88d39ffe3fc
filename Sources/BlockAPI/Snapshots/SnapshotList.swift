import BlockStorage
import HTTPServer
import JSON

extension SnapshotQuery: ListQuery {}

/// The lists of snapshots: what the query's words mean.
enum SnapshotList {
    static func list(_ store: Store) -> List<SnapshotQuery, Snapshot, [Snapshot]> {
        List(
            store: store, view: SnapshotView.view, path: "snapshots",
            reading: .rules(
                ListFilters.Rules(
                    resource: "snapshot", allTenants: .lenient, older: .only(["status", "volume_id", "name", "metadata"]),
                    since: ["metadata": 22],
                    renames: ["consumes_quota": "use_quota"], countsSince: 45)),
            linksKey: "snapshots_links", count: (since: 45, rows: { try $0.count(in: $1) }),
            filter: { filter, request, wantsAllProjects, query in
                if filter.name == "project_id", !wantsAllProjects { return }
                query.filters += try conditions(filter, request)
            },
            column: { name, request in column(name == "name" && request.version >= 30 ? "display_name" : name) },
            read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    /// A column under the name that Cinder's table has for it.
    private static func column(_ name: String) -> SnapshotQuery.Column? {
        switch name {
        case "volume_size": .size
        case "use_quota": .consumes_quota
        case "name", "description", "size", "consumes_quota": nil
        default: SnapshotQuery.Column(rawValue: name)
        }
    }

    private static func conditions(_ filter: ListFilters.Filter, _ request: APIRequest) throws(HTTPError) -> [SnapshotQuery.Filter] {
        var name = filter.name
        if name == "name" {
            if filter.isLike, request.version < 31 { return [] }
            name = "display_name"
        } else if name == "description", filter.isLike, request.version >= 31 {
            name = "display_description"
        }
        if !filter.isLike {
            switch name {
            case "metadata": return [try ListFilters.pairs(filter).map { .metadata($0) } ?? .nothing]
            case "availability_zone": return filter.value.isEmpty ? [] : [.zone(filter.value)]
            case "host": return filter.value.isEmpty ? [] : [.host(filter.value)]
            case "cluster_name": return filter.value.isEmpty ? [] : [.nothing]
            case "use_quota": return [.equals(.consumes_quota, .bool(try APIRequest.flag(name, filter.value)))]
            // Compared as times since no microversion: nothing has the text.
            case "created_at", "updated_at": return [.nothing]
            default: break
            }
        }
        guard let column = column(name) else { return [.nothing] }
        let match = try ListFilters.match(filter, isInteger: column.isInteger, readsLiterals: false)
        if case .equals(let value) = match { return [.equals(column, value)] }
        return [.matches(column, match)]
    }
}
