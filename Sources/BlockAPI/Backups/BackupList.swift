import BlockStorage
import HTTPServer
import JSON

extension BackupQuery: ListQuery {}

/// The lists of backups: what the query's words mean.
enum BackupList {
    static func list(_ store: Store) -> List<BackupQuery, Backup, [Backup]> {
        List(
            store: store, view: BackupView.view, path: "backups",
            reading: .rules(
                ListFilters.Rules(
                    resource: "backup", allTenants: .flag, older: .only(["name", "status", "volume_id"]), countsSince: 45)),
            linksKey: "backups_links", count: (since: 45, rows: { try $0.count(in: $1) }),
            filter: { filter, request, wantsAllProjects, query in
                // Without all_tenants the list is the caller's project's, whatever is asked.
                if filter.name == "project_id", !wantsAllProjects { return }
                // Before patterns came, `name~` was the name of no column.
                if filter.name == "name", filter.isLike, request.version < 31 { return }
                query.filters.append(try condition(filter))
            },
            column: { name, request in BackupQuery.Column(rawValue: name == "name" && request.version >= 37 ? "display_name" : name) },
            read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    private static func condition(_ filter: ListFilters.Filter) throws(HTTPError) -> BackupQuery.Filter {
        if filter.name == "metadata", !filter.isLike { return try ListFilters.pairs(filter).map { .metadata($0) } ?? .nothing }
        let name = filter.name == "name" ? "display_name" : filter.name
        guard let column = BackupQuery.Column(rawValue: name) else { return .nothing }
        // Compared as times by none: nothing has the text.
        if [.created_at, .updated_at, .data_timestamp].contains(column), !filter.isLike { return .nothing }
        return .matches(column, try ListFilters.match(filter, isInteger: column.isInteger, readsLiterals: false))
    }
}
