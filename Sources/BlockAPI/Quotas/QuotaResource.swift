import BlockStorage
import Database
import HTTPServer
import JSON

/// `/os-quota-sets`, `/os-quota-class-sets` and `/limits`
struct QuotaResource: Resource {
    let store: Store
    /// The configured limits.
    let defaults: Quotas.Defaults

    var operations: [APIOperation] {
        [
            APIOperation(
                "limits:show", "GET", "/limits", policies: ["limits_extension:used_limits"],
                query: [
                    APIOperation.Parameter("project_id", .text, "For administrators: of this project.", since: 39),
                    APIOperation.Parameter("tenant_id", .text, "The same.", since: 39),
                ], answers: .one(ProjectLimits.view), summary: "Show a project's limits"
            ) { request in
                var project = request.caller.projectID
                if request.version >= 39, request.identity.isAdmin, let other = request.query("project_id") ?? request.query("tenant_id") {
                    project = other
                }
                let asked = project
                return ProjectLimits(
                    entries: try await store.list(for: request.caller, isShort: true) {
                        try Quotas.entries(project: asked, defaults: defaults, in: $0)
                    })
            }
        ]
    }

    var extensions: [APIExtension] {
        [
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
    }

    // MARK: projects

    private var quotaSets: [APIOperation] {
        [
            APIOperation(
                "quota-sets:show", "GET", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:show"],
                query: [APIOperation.Parameter("usage", .text, "Whether to show what is used too.")],
                answers: QuotaSet.answer("quota_set"), summary: "Show a project's quotas"
            ) { request in
                let usage = try request.flag("usage")
                let project = try target(request)
                let entries = try await store.list(for: request.caller, isShort: true) {
                    try Quotas.entries(project: project, defaults: defaults, in: $0)
                }
                return QuotaSet(entries: entries, id: project, showsUsage: usage)
            },
            APIOperation(
                "quota-sets:defaults", "GET", "/os-quota-sets/{id}/defaults", policies: ["volume_extension:quotas:show"],
                answers: QuotaSet.answer("quota_set"), summary: "Show the quotas of a project that has none of its own"
            ) { request in
                let project = try target(request)
                let entries = try await store.list(for: request.caller, isShort: true) {
                    try Quotas.entries(project: project, defaults: defaults, ignoringOwnLimits: true, in: $0)
                }
                return QuotaSet(entries: entries, id: project)
            },
            APIOperation(
                "quota-sets:update", "PUT", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:update"],
                body: {
                    var set = Schema.object(others: true)
                    set.minimumMembers = 1
                    return .object([("quota_set", set)], required: ["quota_set"])
                }(), answers: QuotaSet.answer("quota_set"), summary: "Set quotas of a project"
            ) { request in
                let project = try target(request)
                let known = try await store.list(for: request.caller, isShort: true) {
                    try Quotas.entries(project: project, defaults: defaults, in: $0)
                }
                let limits = try Self.limits(request.body["quota_set"]?.object ?? [:], known, "quota set")
                return try await store.write { tx in
                    try Quotas.setLimits(limits, project: project, defaults: defaults, in: tx)
                    return QuotaSet(entries: try Quotas.entries(project: project, defaults: defaults, in: tx))
                }
            },
            APIOperation(
                "quota-sets:delete", "DELETE", "/os-quota-sets/{id}", policies: ["volume_extension:quotas:delete"], answers: .empty(200),
                summary: "Give a project the default quotas again"
            ) { request in
                let project = try target(request)
                try await store.write { try Quotas.clearLimits(project: project, in: $0) }
            },
        ]
    }

    /// The project asked about: one's own, or any for administrators.
    private func target(_ request: APIRequest) throws(HTTPError) -> String {
        let project = request.parameters[0]
        guard request.identity.isAdmin || project == request.caller.projectID else {
            throw HTTPError(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
        }
        guard project.utf8.count <= 255 else { throw .badRequest("Invalid input received: a project id has at most 255 characters.") }
        return project
    }

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

    // MARK: classes

    private static let classLimits: Schema = {
        let limit = Schema(kinds: [.integer, .string], minimumLength: 1, minimum: -1, maximum: 2_147_483_647, pattern: .digitsOrNone)
        return Schema(kinds: [.object], patternProperties: [(.quotaKey, limit)], allowsOthers: false)
    }()

    private var classes: [APIOperation] {
        [
            APIOperation(
                "quota-classes:show", "GET", "/os-quota-class-sets/{id}", policies: ["volume_extension:quota_classes:get"],
                answers: QuotaSet.answer("quota_class_set"), summary: "Show the quotas of a class"
            ) { request in
                let name = request.parameters[0]
                let entries = try await store.list(for: request.caller, isShort: true) {
                    try Quotas.entries(ofClass: name, defaults: defaults, in: $0)
                }
                return QuotaSet(entries: entries, id: name)
            },
            APIOperation(
                "quota-classes:update", "PUT", "/os-quota-class-sets/{id}", policies: ["volume_extension:quota_classes:update"],
                body: .object([("quota_class_set", .object(others: true))], required: ["quota_class_set"]),
                answers: QuotaSet.answer("quota_class_set"), summary: "Set quotas of a class"
            ) { request in
                let name = request.parameters[0]
                guard name.utf8.count <= 255 else {
                    throw HTTPError.badRequest("Invalid input received: quota_class has more than 255 characters.")
                }
                return try await store.write { tx in
                    // In the same transaction: a type that goes meanwhile leaves no limit behind.
                    let known = try Quotas.entries(ofClass: name, defaults: defaults, in: tx)
                    let limits = try Self.limits(
                        request.body["quota_class_set"]?.object ?? [:], known, "quota class set", Self.classLimits)
                    try Quotas.setLimits(limits, class: name, in: tx)
                    return QuotaSet(entries: try Quotas.entries(ofClass: name, defaults: defaults, in: tx))
                }
            },
        ]
    }
}
