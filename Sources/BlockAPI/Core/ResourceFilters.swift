import HTTPServer
import JSON

/// What users may filter lists by, and `/resource_filters`, since 3.33, which says so.
enum ResourceFilters {
    /// In the order of the answer.
    static let all: [(resource: String, filters: [String])] = [
        (
            "volume",
            [
                "name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size", "created_at",
                "updated_at", "consumes_quota",
            ]
        ),
        ("backup", ["name", "status", "volume_id"]),
        ("snapshot", ["name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"]),
        ("group", ["name"]), ("group_snapshot", ["name", "status", "group_id"]),
        ("attachment", ["volume_id", "status", "instance_id", "attach_status"]),
        ("message", ["resource_uuid", "resource_type", "event_id", "request_id", "message_level"]), ("pool", ["name", "volume_type"]),
        ("volume_type", ["is_public", "extra_specs"]),
    ]

    static func of(_ resource: String) -> Set<String> { Set(all.first { $0.resource == resource }?.filters ?? []) }
}

/// `/resource_filters`
struct ResourceFilterResource: Resource {
    private struct Filters: Sendable {
        let resource: String
        let names: [String]

        static let view = View<Filters>(
            "resource_filter", "resource_filters",
            [
                .text("resource") { $0.resource },
                .written("filters", .list(.text)) { filters, _, writer in
                    writer.beginArray()
                    for name in filters.names { writer.string(name) }
                    writer.endArray()
                },
            ])
    }

    var operations: [APIOperation] {
        [
            APIOperation(
                "resource-filters:list", "GET", "/resource_filters", versions: 33...71,
                query: [APIOperation.Parameter("resource", .text, "Only what this resource is filtered by.")],
                answers: .all(Filters.view), summary: "List what lists can be filtered by"
            ) { request in
                let asked = request.query("resource").flatMap { $0.isEmpty ? nil : $0 }
                return ResourceFilters.all.filter { asked == nil || $0.resource == asked }.map {
                    Filters(resource: $0.resource, names: $0.filters)
                }
            }
        ]
    }
}
