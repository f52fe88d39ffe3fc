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

    static let operations: [APIOperation] = [
        APIOperation("resource-filters:list", "GET", "/resource_filters", versions: 33...71, summary: "List what lists can be filtered by")
        {
            request in
            let asked = request.query("resource")
            let shown = all.filter { asked == nil || $0.resource == asked }
            return HTTPResponse.json(
                of: "resource_filters",
                .array(shown.map { ["resource": .string($0.resource), "filters": .array($0.filters.map { .string($0) })] }))
        }
    ]
}

extension APIRequest {
    /// Calls `body` with each of the query's filters that counts: its name, without the `~` that asks for LIKE, and its value.
    ///
    /// Members' filters outside of `allowed` are passed over; since 3.31 they are errors, told once every other filter has been read.
    /// Of one that comes several times the last counts.
    func eachFilter(allowed: Set<String>, _ body: (_ name: String, _ value: String, _ isLike: Bool) throws -> Void) throws {
        var unknown: [String] = []
        for (name, value) in http.filters {
            let isLike = name.hasSuffix("~")
            let key = isLike ? String(name.dropLast()) : name
            if !identity.isAdmin, !allowed.contains(key) {
                unknown.append(name)
                continue
            }
            if isLike && version < 34 { continue }
            if key == "project_id" && wantsAllTenants { continue }
            try body(key, value, isLike)
        }
        if !unknown.isEmpty, version >= 31 {
            throw HTTPError.badRequest("Invalid filters \(unknown.sorted().joined(separator: ",")) are found in query options.")
        }
    }
}

extension HTTPRequest {
    /// The query's items that are neither page nor order, each name once, with its last value, in the order of the first.
    var filters: [(name: String, value: String)] {
        if rawQuery.isEmpty { return [] }
        var result: [(name: String, value: String)] = []
        var places: [String: Int] = [:]
        for item in query where !Paging.names.contains(item.name) {
            if let place = places[item.name] {
                result[place].value = item.value
            } else {
                places[item.name] = result.count
                result.append(item)
            }
        }
        return result
    }
}

/// Filters by pairs of names and values.
enum FilterPairs {
    /// What a client may ask for at once: each pair is looked for in every row.
    private static let most = 64

    /// The pairs of a filter's value; nil if it is no dictionary.
    static func read(_ name: String, _ text: String) throws(HTTPError) -> [(key: String, value: String)]? {
        guard let pairs = PythonText.dictionary(text) else { return nil }
        guard pairs.count <= most else {
            throw .badRequest("Invalid input received: \(name) has \(pairs.count) pairs, more than \(most)")
        }
        return pairs
    }
}
