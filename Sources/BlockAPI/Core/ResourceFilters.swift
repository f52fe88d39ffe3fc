import HTTPServer
import JSON

/// What those who are no administrators may filter lists by (pools: everybody). A `ResourceFilterFile` can say it otherwise.
public struct ResourceFilters: Sendable {
    /// In the order of the answer.
    let all: [(resource: String, filters: [String])]
    private let byResource: [String: Set<String>]

    init(_ all: [(resource: String, filters: [String])]) {
        self.all = all
        byResource = Dictionary(all.map { ($0.resource, Set($0.filters)) }) { first, _ in first }
    }

    /// What holds where no file says otherwise.
    public static let standard = ResourceFilters([
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
    ])

    /// The filters of a resource's list; none of one that is not there.
    func of(_ resource: String) -> Set<String> { byResource[resource] ?? [] }

    /// Since which microversion the pattern `name~` that is configured allows `name` too.
    private static let patternsSince = 34

    /// Whether a list may be asked for this filter.
    func allows(_ name: String, of resource: String, version: Int) -> Bool {
        let configured = of(resource)
        return configured.contains(name) || (version >= Self.patternsSince && configured.contains(name + "~"))
    }
}

/// `/resource_filters`, since 3.33, which says what lists can be filtered by.
struct ResourceFilterResource: Resource {
    let configured: @Sendable () -> ResourceFilters

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
                return configured().all.filter { asked == nil || $0.resource == asked }.map {
                    Filters(resource: $0.resource, names: $0.filters)
                }
            }
        ]
    }
}
