import BlockStorage

extension AttachmentQuery: ListQuery {}

/// The lists of attachments: what the query's words mean.
enum AttachmentList {
    static func list(_ store: Store) -> List<AttachmentQuery, Attachment, [Attachment]> {
        List(
            store: store, view: AttachmentView.view, path: "attachments",
            reading: .rules(
                ListFilters.Rules(
                    resource: "attachment", allTenants: .presence, older: .only(["volume_id", "status", "instance_id", "attach_status"]))),
            filter: { filter, _, wantsAllProjects, query in
                if filter.name == "project_id" {
                    // Without all_tenants the list is the caller's project's, whatever is asked.
                    if wantsAllProjects { query.projectID = filter.value }
                } else if let column = column(filter.name) {
                    query.filters.append((column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
                } else {
                    query.matchesNothing = true
                }
            },
            column: { name, _ in name == "instance_id" ? nil : column(name) }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    /// A column under the name that Cinder's table has for it.
    private static func column(_ name: String) -> AttachmentQuery.Column? {
        name == "instance_uuid" ? .instance_id : AttachmentQuery.Column(rawValue: name)
    }
}
