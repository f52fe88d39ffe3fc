import BlockStorage
import HTTPServer
import JSON

/// `/os-quota-sets` and `/limits`
enum QuotaOperations {
    static let core: [APIOperation] = [
        APIOperation(
            "limits:show", "GET", "/limits", policies: ["limits_extension:used_limits"], summary: "Show a project's limits",
            handler: limits)
    ]

    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-quota-sets", name: "Quotas", description: "Quota management support.", updated: "2011-08-08T00:00:00+00:00",
            operations: quotaSets),
        APIExtension(
            alias: "os-quota-class-sets", name: "QuotaClasses", description: "Quota classes management support.",
            updated: "2012-03-12T00:00:00+00:00", operations: classes),
        APIExtension(
            alias: "os-used-limits", name: "UsedLimits", description: "Provide data on limited resources that are being used.",
            updated: "2013-10-03T00:00:00+00:00"),
    ]

    private static let quotaSets: [APIOperation] = [
        APIOperation(
            "quota-sets:show", "GET", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:show"],
            summary: "Show a project's quotas"
        ) { request in
            let usage = try request.flag("usage")
            let project = try target(request)
            let entries = try await request.database {
                try Quotas.entries(project: project, defaults: request.service.requests.quotas, in: $0)
            }
            return answer(entries, id: project, usage: usage)
        },
        APIOperation(
            "quota-sets:defaults", "GET", "/os-quota-sets/{id}/defaults", policies: ["volume_extension:quotas:show"],
            summary: "Show the quotas of a project that has none of its own"
        ) { request in
            let project = try target(request)
            let entries = try await request.database {
                try Quotas.entries(project: project, defaults: request.service.requests.quotas, ignoringOwnLimits: true, in: $0)
            }
            return answer(entries, id: project, usage: false)
        },
        APIOperation(
            "quota-sets:update", "PUT", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:update"],
            body: {
                var set = Schema.object(others: true)
                set.minimumMembers = 1
                return .object([("quota_set", set)], required: ["quota_set"])
            }(), summary: "Set quotas of a project"
        ) { request in
            let project = try target(request)
            let known = try await request.database {
                try Quotas.entries(project: project, defaults: request.service.requests.quotas, in: $0)
            }
            let limits = try limits(request.body["quota_set"]?.object ?? [:], known, "quota set")
            let entries = try await request.change { tx in
                try Quotas.setLimits(limits, project: project, defaults: request.service.requests.quotas, in: tx)
                return try Quotas.entries(project: project, defaults: request.service.requests.quotas, in: tx)
            }
            return answer(entries, id: nil, usage: false)
        },
        APIOperation(
            "quota-sets:delete", "DELETE", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:delete"],
            summary: "Give a project the default quotas again"
        ) { request in
            let project = try target(request)
            try await request.change { try Quotas.clearLimits(project: project, in: $0) }
            return HTTPResponse(status: 200)
        },
    ]

    /// Limits as a body gives them, checked against the resources that there are.
    private static func limits(_ set: JSONObject, _ known: [Quotas.Entry], _ what: String, _ values: Schema = .any) throws(HTTPError) -> [(
        resource: String, limit: Int
    )] {
        let given = set.members.filter { $0.name != "tenant_id" && $0.name != "id" }
        let bad = given.map(\.name).filter { name in !known.contains { $0.resource == name } }.sorted()
        guard bad.isEmpty else { throw .badRequest("Invalid input received: Bad key(s) in \(what): \(bad.joined(separator: ", "))") }
        try values.check(.object(set))
        var limits: [(resource: String, limit: Int)] = []
        for (name, value) in given {
            guard let number = value.lenientInteger else { throw .badRequest("\(name) must be an integer") }
            guard number >= -1 else { throw .badRequest("\(name) must be >= -1") }
            guard number <= 2_147_483_647 else { throw .badRequest("\(name) must be <= 2147483647") }
            limits.append((resource: name, limit: number))
        }
        return limits
    }

    private static let classLimits: Schema = {
        let limit = Schema(kinds: [.integer, .string], minimumLength: 1, minimum: -1, maximum: 2_147_483_647, pattern: .digitsOrNone)
        return Schema(kinds: [.object], patternProperties: [(.quotaKey, limit)], allowsOthers: false)
    }()

    private static let classes: [APIOperation] = [
        APIOperation(
            "quota-classes:show", "GET", "/os-quota-class-sets/{id}", policies: ["volume_extension:quota_classes:get"],
            summary: "Show the quotas of a class"
        ) { request in
            let name = request.parameters[0]
            let entries = try await request.database {
                try Quotas.entries(ofClass: name, defaults: request.service.requests.quotas, in: $0)
            }
            return answer(entries, key: "quota_class_set", id: name, usage: false)
        },
        APIOperation(
            "quota-classes:update", "PUT", "/os-quota-class-sets/{id}", policies: ["volume_extension:quota_classes:update"],
            body: .object([("quota_class_set", .object(others: true))], required: ["quota_class_set"]), summary: "Set quotas of a class"
        ) { request in
            let name = request.parameters[0]
            guard name.utf8.count <= 255 else {
                throw HTTPError.badRequest("Invalid input received: quota_class has more than 255 characters.")
            }
            let defaults = request.service.requests.quotas
            let entries = try await request.change { tx in
                // In the same transaction: a type that goes meanwhile leaves no limit behind.
                let known = try Quotas.entries(ofClass: name, defaults: defaults, in: tx)
                let limits = try limits(request.body["quota_class_set"]?.object ?? [:], known, "quota class set", classLimits)
                try Quotas.setLimits(limits, class: name, in: tx)
                return try Quotas.entries(ofClass: name, defaults: defaults, in: tx)
            }
            return answer(entries, key: "quota_class_set", id: nil, usage: false)
        },
    ]

    /// The project asked about: one's own, or any for administrators.
    private static func target(_ request: APIRequest) throws(HTTPError) -> String {
        let project = request.parameters[0]
        guard request.identity.isAdmin || project == request.caller.projectID else {
            throw HTTPError(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
        }
        guard project.utf8.count <= 255 else { throw .badRequest("Invalid input received: a project id has at most 255 characters.") }
        return project
    }

    private static func answer(_ entries: [Quotas.Entry], key: StaticString = "quota_set", id: String?, usage: Bool) -> HTTPResponse {
        .json { writer in
            writer.beginObject()
            writer.key(key)
            writer.beginObject()
            for entry in entries {
                writer.key(entry.resource)
                if usage {
                    writer.beginObject()
                    writer.member("limit", entry.limit)
                    writer.member("in_use", entry.inUse)
                    writer.member("reserved", 0)
                    writer.endObject()
                } else {
                    writer.integer(Int64(entry.limit))
                }
            }
            if let id { writer.member("id", id) }
            writer.endObject()
            writer.endObject()
        }
    }

    private static let absolute: [(key: StaticString, resource: String)] = [
        ("maxTotalVolumes", "volumes"), ("maxTotalSnapshots", "snapshots"), ("maxTotalVolumeGigabytes", "gigabytes"),
        ("maxTotalBackups", "backups"), ("maxTotalBackupGigabytes", "backup_gigabytes"),
    ]
    private static let used: [(key: StaticString, resource: String)] = [
        ("totalVolumesUsed", "volumes"), ("totalGigabytesUsed", "gigabytes"), ("totalSnapshotsUsed", "snapshots"),
        ("totalBackupsUsed", "backups"), ("totalBackupGigabytesUsed", "backup_gigabytes"),
    ]

    @Sendable private static func limits(_ request: APIRequest) async throws -> HTTPResponse {
        var project = request.caller.projectID
        if request.version >= 39, request.identity.isAdmin, let other = request.query("project_id") ?? request.query("tenant_id") {
            project = other
        }
        let asked = project
        let entries = try await request.database { try Quotas.entries(project: asked, defaults: request.service.requests.quotas, in: $0) }
        func entry(_ resource: String) -> Quotas.Entry? { entries.first { $0.resource == resource } }
        return .json { writer in
            writer.beginObject()
            writer.key("limits")
            writer.beginObject()
            writer.key("rate")
            writer.beginArray()
            writer.endArray()
            writer.key("absolute")
            writer.beginObject()
            for (key, resource) in absolute { writer.member(key, entry(resource)?.limit ?? -1) }
            for (key, resource) in used { writer.member(key, entry(resource)?.inUse ?? 0) }
            writer.endObject()
            writer.endObject()
            writer.endObject()
        }
    }
}
