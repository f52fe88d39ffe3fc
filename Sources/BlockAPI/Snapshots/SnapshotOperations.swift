import BlockStorage
import Database
import HTTPServer
import JSON

/// `/snapshots`
enum SnapshotOperations {
    static let all: [APIOperation] = [
        APIOperation("snapshots:list", "GET", "/snapshots", policies: ["volume:get_all_snapshots"], summary: "List snapshots") {
            try await list($0, detail: false)
        },
        APIOperation(
            "snapshots:detail", "GET", "/snapshots/detail", policies: ["volume:get_all_snapshots"], summary: "List snapshots in detail"
        ) { try await list($0, detail: true) },
        APIOperation("snapshots:show", "GET", "/snapshots/{id}", policies: ["volume:get_snapshot"], summary: "Show a snapshot") { request in
            try answer(
                try await request.database { try Snapshots.get(request.parameters[0], for: request.caller, in: $0) }, request,
                extended: true)
        },
        APIOperation(
            "snapshots:create", "POST", "/snapshots", policies: ["volume:create_snapshot"],
            body: .object(
                [
                    (
                        "snapshot",
                        .object(
                            [
                                ("name", .string(0, 255, nullable: true)), ("display_name", .string(0, 255, nullable: true)),
                                ("description", .string(0, 255, nullable: true, format: .printable)), ("volume_id", .optionalUUID),
                                ("force", .boolean), ("metadata", .metadata(nullable: true)),
                            ], required: ["volume_id"])
                    )
                ], required: ["snapshot"]), success: 202, summary: "Create a snapshot", handler: create),
        APIOperation(
            "snapshots:update", "PUT", "/snapshots/{id}", policies: ["volume:update_snapshot"],
            body: {
                var snapshot = Schema.object([
                    ("name", .string(0, 255, nullable: true)), ("description", .string(0, 255, nullable: true, format: .printable)),
                    ("display_name", .string(0, 255, nullable: true)),
                    ("display_description", .string(0, 255, nullable: true, format: .printable)),
                ])
                snapshot.anyRequired = ["name", "description", "display_name", "display_description"]
                return .object([("snapshot", snapshot)], required: ["snapshot"])
            }(), summary: "Change name or description of a snapshot"
        ) { request in
            let body = request.body["snapshot"]
            func text(_ name: String, _ older: String) -> JSON? { (body?[name] ?? body?[older]).map { JSON($0.trimmedString) } }
            let name = text("name", "display_name")
            let description = text("description", "display_description")
            let snapshot = try await request.change { tx in
                try Snapshots.update(request.parameters[0], name: name, description: description, caller: request.caller, in: tx)
                return try Snapshots.get(request.parameters[0], for: request.caller, in: tx)
            }
            return try answer(snapshot, request, extended: false)
        },
        APIOperation(
            "snapshots:delete", "DELETE", "/snapshots/{id}", policies: ["volume:delete_snapshot"], success: 202,
            summary: "Delete a snapshot"
        ) { request in
            try await request.change {
                try request.service.requests.deleteSnapshot(request.parameters[0], force: false, caller: request.caller, in: $0)
            }
            return HTTPResponse(status: 202, contentType: "text/html; charset=UTF-8")
        },
    ]

    private static let accepted = HTTPResponse(status: 202)
    private static let state: Schema = {
        let shown = "(" + SnapshotStatus.all.map { "'\($0)'" }.joined(separator: ", ") + ")"
        return Schema(kinds: [.string], format: .state("Snapshot status", SnapshotStatus.all, shown: shown, isNeeded: true))
    }()

    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-extended-snapshot-attributes", name: "ExtendedSnapshotAttributes",
            description: "Extended SnapshotAttributes support.",
            updated: "2012-06-19T00:00:00+00:00"),
        APIExtension(
            alias: "os-snapshot-actions", name: "SnapshotActions", description: "Enable snapshot manager actions.",
            updated: "2013-07-16T00:00:00+00:00",
            operations: [
                APIOperation(
                    "snapshots:os-update_snapshot_status", "POST", "/snapshots/{id}/action", action: "os-update_snapshot_status",
                    policies: ["snapshot_extension:snapshot_actions:update_snapshot_status"],
                    body: .action(
                        "os-update_snapshot_status",
                        .object(
                            [("status", .string()), ("progress", Schema(kinds: [.string, .null], format: .progress))], required: ["status"])
                    ),
                    success: 202, summary: "Report the state of a snapshot that another service makes"
                ) { request in
                    let body = request.body["os-update_snapshot_status"]
                    try await request.change {
                        try Snapshots.report(
                            request.parameters[0], status: body?["status"]?.string ?? "", progress: body?["progress"]?.string,
                            caller: request.caller, in: $0)
                    }
                    return HTTPResponse(status: 202, contentType: "text/html; charset=UTF-8")
                },
                APIOperation(
                    "snapshots:os-reset_status", "POST", "/snapshots/{id}/action", action: "os-reset_status",
                    policies: ["volume_extension:snapshot_admin_actions:reset_status"],
                    body: .action("os-reset_status", .object([("status", state)], required: ["status"])), success: 202,
                    summary: "Set the state of a snapshot"
                ) { request in
                    try await request.change {
                        try Snapshots.resetStatus(
                            request.parameters[0], status: request.body["os-reset_status"]?["status"]?.string ?? "", caller: request.caller,
                            in: $0)
                    }
                    return accepted
                },
                APIOperation(
                    "snapshots:os-force_delete", "POST", "/snapshots/{id}/action", action: "os-force_delete",
                    policies: ["volume_extension:snapshot_admin_actions:force_delete"], body: .action("os-force_delete", .any),
                    success: 202,
                    summary: "Delete a snapshot whatever its state"
                ) { request in
                    try await request.change {
                        try request.service.requests.deleteSnapshot(request.parameters[0], force: true, caller: request.caller, in: $0)
                    }
                    return accepted
                },
            ]),
    ]

    // MARK: handlers

    @Sendable private static func create(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["snapshot"]
        let force = body?["force"]?.lenientBool
        if request.version >= 66, force == false {
            throw HTTPError.badRequest(
                "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, "
                    + "when the 'force' flag is passed with a value evaluating to True, it is silently ignored.")
        }
        var new = NewSnapshot()
        new.name = (body?["name"] ?? body?["display_name"])?.trimmedString
        new.description = body?["description"]?.trimmedString
        new.metadata = body?["metadata"]?.object ?? [:]
        let asked = new
        let allowsInUse = request.version >= 66 || force == true
        let snapshot = try await request.change { tx in
            let id = try request.service.requests.createSnapshot(
                of: body?["volume_id"]?.string ?? "None", asked, allowsInUse: allowsInUse, caller: request.caller, in: tx)
            return try Snapshots.get(id, for: request.caller, in: tx)
        }
        return try answer(snapshot, request, extended: false, status: 202)
    }

    private static let rules = ListFilters.Rules(
        resource: "snapshot", allTenants: .lenient, older: ["status", "volume_id", "name", "metadata"], since: ["metadata": 22],
        renames: ["consumes_quota": "use_quota"], countsSince: 45)

    /// A column under the name that Cinder's table has for it.
    private static func column(_ name: String) -> SnapshotQuery.Column? {
        switch name {
        case "volume_size": .size
        case "use_quota": .consumes_quota
        case "name", "description", "size", "consumes_quota": nil
        default: SnapshotQuery.Column(rawValue: name)
        }
    }

    private static func filter(_ filter: ListFilters.Filter, _ request: APIRequest) throws(HTTPError) -> [SnapshotQuery.Filter] {
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

    private static func list(_ request: APIRequest, detail: Bool) async throws -> HTTPResponse {
        let paging = try Paging(request)
        let filters = try ListFilters(request, rules)
        var query = SnapshotQuery(projectID: filters.wantsAllProjects ? nil : request.caller.projectID, limit: paging.limit)
        query.offset = paging.offset
        query.marker = paging.marker
        for filter in filters.filters where filter.name != "project_id" || filters.wantsAllProjects {
            query.filters += try self.filter(filter, request)
        }
        query.sort = try paging.order { column($0 == "name" && request.version >= 30 ? "display_name" : $0) }
        let counts = try request.version >= 45 && request.flag("with_count")
        let asked = query
        let (found, total) = try await request.list(isShort: query.isShort && !counts) { connection in
            (try asked.page(in: connection), counts ? try asked.count(in: connection) : nil)
        }
        return try .json(capacity: 8192) { writer in
            writer.beginObject()
            writer.key("snapshots")
            writer.beginArray()
            for snapshot in found { try view(snapshot, request, isFull: detail, extended: detail, &writer) }
            writer.endArray()
            if asked.limit > 0, found.count >= asked.limit, let last = found.last {
                request.links.writeNext(
                    "snapshots_links", path: detail ? "snapshots/detail" : "snapshots", request: request.http, marker: last.id, &writer)
            }
            if let total { writer.member("count", total) }
            writer.endObject()
        }
    }

    // MARK: views

    static func answer(_ snapshot: Snapshot, _ request: APIRequest, extended: Bool, status: Int = 200) throws -> HTTPResponse {
        try .json(status) { writer in
            writer.beginObject()
            writer.key("snapshot")
            try view(snapshot, request, isFull: true, extended: extended, &writer)
            writer.endObject()
        }
    }

    /// `isFull`: more than a summary; `extended`: with the fields of the extension.
    private static func view(_ snapshot: Snapshot, _ request: APIRequest, isFull: Bool, extended: Bool, _ writer: inout JSONWriter) throws {
        writer.beginObject()
        writer.member("id", snapshot.id)
        writer.member("created_at", snapshot.createdAt)
        writer.member("updated_at", snapshot.updatedAt)
        writer.member("name", snapshot.name)
        writer.member("description", snapshot.description)
        writer.member("volume_id", snapshot.volumeID)
        writer.member("status", snapshot.status)
        writer.member("size", snapshot.size)
        writer.key("metadata")
        writer.raw(snapshot.metadata)
        if isFull {
            if request.version >= 14 { writer.memberNull("group_snapshot_id") }
            if request.version >= 41 { writer.member("user_id", snapshot.userID) }
            if request.version >= 65 { writer.member("consumes_quota", snapshot.consumesQuota) }
        }
        if extended, request.allows("volume_extension:extended_snapshot_attributes") {
            writer.member("os-extended-snapshot-attributes:project_id", snapshot.projectID)
            writer.member("os-extended-snapshot-attributes:progress", snapshot.progress)
        }
        writer.endObject()
    }
}
