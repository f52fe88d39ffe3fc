import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

extension BackupPolicyQuery: ListQuery {}
extension BackupPolicyRunQuery: ListQuery {}

/// `/backup-policies`. Beside Cinder's API.
struct BackupPolicyResource: Resource {
    let store: Store
    /// Days for which a policy may protect what it makes at most.
    let mostProtectDays: Int
    /// The format of new backups that ask for this availability zone; nil: there is no store.
    let format: @Sendable (_ zone: String?) -> String?

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-backup-policies", name: "BackupPolicies",
                description: "Makes backups and snapshots by a schedule, and deletes those that are kept no longer.",
                updated: "2026-11-30T00:00:00+00:00", operations: policies + actions + runs + assignments)
        ]
    }

    private static func rule(_ name: String) -> Policies.Rule { Policies.Rule(stringLiteral: "clinker:backup_policies_\(name)") }

    private var list: List<BackupPolicyQuery, BackupPolicy, [BackupPolicy]> {
        let known = BackupPolicyQuery.Column.allCases
        return List(
            store: store, view: BackupPolicyView.view, path: "backup-policies",
            reading: .onlyKnown(known.map(\.rawValue).filter { !$0.hasSuffix("_at") }, hasAllTenants: true),
            linksKey: "backup_policies_links",
            filter: { filter, _, _, query in
                guard let column = BackupPolicyQuery.Column(rawValue: filter.name) else { return }
                if column.isBoolean {
                    query.filters.append((column: column, match: .equals(.bool(try APIRequest.flag(filter.name, filter.value)))))
                } else {
                    query.filters.append((column: column, match: .equals(.text(filter.value))))
                }
            },
            column: { name, _ in BackupPolicyQuery.Column(rawValue: name) }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    private var policies: [APIOperation] {
        [
            list.operation("backup-policies:list", policies: [Self.rule("get")], parts: .summary, summary: "List backup policies"),
            list.operation(
                "backup-policies:detail", at: "backup-policies/detail", policies: [Self.rule("get")], parts: .whole,
                summary: "List backup policies in detail"),
            APIOperation(
                "backup-policies:show", "GET", "/backup-policies/{id}", policies: [Self.rule("get")], answers: .one(BackupPolicyView.view),
                summary: "Show a backup policy"
            ) { request in try await store.read { try BackupPolicies.get(request.parameters[0], for: request.caller, in: $0) } },
            APIOperation(
                "backup-policies:create", "POST", "/backup-policies", policies: [Self.rule("create")], body: BackupPolicyBodies.creation,
                answers: .one(BackupPolicyView.view, status: 201), summary: "Create a backup policy"
            ) { request in
                var settings = BackupPolicySettings()
                try BackupPolicyBodies.apply(request, to: &settings)
                try settings.checkProtection(most: mostProtectDays)
                if settings.isPublic { try request.enforce(Self.rule("publish")) }
                try Self.enforceCopies(request, settings.action)
                return try await store.write { [settings] in try BackupPolicies.create(settings, caller: request.caller, in: $0) }
            },
            APIOperation(
                "backup-policies:update", "PUT", "/backup-policies/{id}", policies: [Self.rule("update")], body: BackupPolicyBodies.update,
                answers: .one(BackupPolicyView.view), summary: "Change a backup policy"
            ) { request in
                let mayPublish = request.allows(Self.rule("publish"))
                return try await store.write { tx in
                    try BackupPolicies.update(request.parameters[0], caller: request.caller, in: tx) { settings in
                        let wasPublic = settings.isPublic
                        let days = settings.protectDays
                        try BackupPolicyBodies.apply(request, to: &settings)
                        // What was permitted once does not keep the rest from being changed.
                        if settings.protectDays != days { try settings.checkProtection(most: mostProtectDays) }
                        try Self.enforceCopies(request, settings.action)
                        if settings.isPublic || wasPublic, !mayPublish { throw Self.unpublished }
                    }
                }
            },
            APIOperation(
                "backup-policies:delete", "DELETE", "/backup-policies/{id}", policies: [Self.rule("delete")],
                answers: .empty(204, as: nil), summary: "Delete a backup policy; what it has made stays"
            ) { request in
                let mayPublish = request.allows(Self.rule("publish"))
                while try await !store.write({ tx in
                    try Self.requirePublisher(request, mayPublish, in: tx)
                    return try BackupPolicies.delete(request.parameters[0], caller: request.caller, in: tx)
                }) {}
            },
        ]
    }

    private static let unpublished = StorageError(
        .forbidden, "Policy doesn't allow \(rule("publish").name) to be performed.")

    /// What is public has copies of other projects' volumes: whoever may not publish changes and runs none, of the own project neither.
    private static func requirePublisher(_ request: APIRequest, _ mayPublish: Bool, in connection: any Connection) throws {
        let policy = try BackupPolicies.get(request.parameters[0], for: request.caller, in: connection)
        if policy.settings.isPublic, !mayPublish { throw unpublished }
    }

    /// A policy makes and deletes what its project could by itself.
    private static func enforceCopies(_ request: APIRequest, _ action: BackupPolicySettings.Action) throws {
        let rules: [Policies.Rule] =
            action == .backup ? ["backup:create", "backup:delete"] : ["volume:create_snapshot", "volume:delete_snapshot"]
        for rule in rules { try request.enforce(rule) }
    }

    // MARK: actions

    private func action<Output>(
        _ key: String, body: Schema = .any, answers: Reply<Output>, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Output
    ) -> APIOperation {
        APIOperation(
            "backup-policies:\(key)", "POST", "/backup-policies/{id}/action", action: key, policies: [Self.rule("run")],
            body: .action(key, body), answers: answers, summary: summary, handler: handler)
    }

    private func setEnabled(_ isEnabled: Bool, _ request: APIRequest) async throws {
        let mayPublish = request.allows(Self.rule("publish"))
        try await store.write { tx in
            try Self.requirePublisher(request, mayPublish, in: tx)
            try BackupPolicies.setEnabled(isEnabled, of: request.parameters[0], caller: request.caller, in: tx)
        }
    }

    private var actions: [APIOperation] {
        [
            action("run", answers: .one(BackupPolicyView.run, .summary, status: 202), summary: "Run a backup policy now") { request in
                let mayPublish = request.allows(Self.rule("publish"))
                let run = try await store.write { tx in
                    try Self.requirePublisher(request, mayPublish, in: tx)
                    return try BackupPolicyRuns.begin(request.parameters[0], caller: request.caller, in: tx)
                }
                return BackupPolicyView.RunSource(run: run, counts: [:])
            },
            action("pause", answers: .empty(202), summary: "Have a backup policy's schedule not count") { request in
                try await setEnabled(false, request)
            },
            action("resume", answers: .empty(202), summary: "Have a backup policy's schedule count again") { request in
                try await setEnabled(true, request)
            },
            action(
                "preview", body: BackupPolicyBodies.preview, answers: .one(BackupPolicyView.preview),
                summary: "Tell what a backup policy would make and delete in the next days"
            ) { request in
                let days = request.body["preview"]?["days"]?.lenientInteger ?? 7
                return try await store.list(for: request.caller, isShort: false) {
                    try PolicyPreview(
                        request.parameters[0], days: days, mostProtectDays: mostProtectDays, format: format, caller: request.caller, in: $0)
                }
            },
        ]
    }

    // MARK: runs

    private static let mostItems = 10_000

    /// Whose volumes are told of: a public policy's runs have those of all projects. nil: everybody's.
    private static func viewer(_ request: APIRequest) -> String? { request.caller.isAdmin ? nil : request.caller.projectID }

    private var runList: List<BackupPolicyRunQuery, BackupPolicyView.RunSource, [BackupPolicyView.RunSource]> {
        List(
            store: store, view: BackupPolicyView.run, path: "backup-policies/{id}/runs",
            reading: .onlyKnown(["status"], hasAllTenants: false),
            filter: { filter, _, _, query in
                if let column = BackupPolicyRunQuery.Column(rawValue: filter.name) { query.filters.append((column, filter.value)) }
            },
            prepare: { request, query in
                query.policyID = request.parameters[0]
                query.viewer = Self.viewer(request)
                try await store.read { try BackupPolicyRuns.requireVisible(request.parameters[0], to: request.caller, in: $0) }
            },
            read: { query, connection in
                try query.page(in: connection).map {
                    BackupPolicyView.RunSource(
                        run: $0, counts: try BackupPolicyRuns.counts(of: $0.id, project: query.viewer, in: connection))
                }
            }, write: List.each { $0.run.id })
    }

    private var runs: [APIOperation] {
        [
            runList.operation(
                "backup-policies:runs", policies: [Self.rule("get")], parts: .summary, summary: "List the runs of a backup policy"),
            APIOperation(
                "backup-policies:run-show", "GET", "/backup-policies/{id}/runs/{run_id}", policies: [Self.rule("get")],
                answers: .one(BackupPolicyView.run), summary: "Show a run of a backup policy and what became of each volume"
            ) { request in
                try await store.list(for: request.caller, isShort: false) { connection in
                    let run = try BackupPolicyRuns.get(
                        request.parameters[1], of: request.parameters[0], for: request.caller, in: connection)
                    let viewer = Self.viewer(request)
                    return BackupPolicyView.RunSource(
                        run: run, counts: try BackupPolicyRuns.counts(of: run.id, project: viewer, in: connection),
                        items: try BackupPolicyRuns.items(of: run.id, project: viewer, limit: Self.mostItems, in: connection))
                }
            },
        ]
    }

    // MARK: assignments

    private var assignments: [APIOperation] {
        [
            APIOperation(
                "backup-policies:assignments", "GET", "/backup-policies/{id}/assignments", policies: [Self.rule("get")],
                answers: .all(BackupPolicyView.assignment), summary: "List what a backup policy is assigned to"
            ) { request in
                try await store.list(for: request.caller, isShort: false) {
                    try BackupPolicyAssignments.of(request.parameters[0], for: request.caller, in: $0)
                }
            },
            APIOperation(
                "backup-policies:assign", "POST", "/backup-policies/{id}/assignments", policies: [Self.rule("assign")],
                body: BackupPolicyBodies.assignment, answers: .one(BackupPolicyView.assignment, status: 201),
                summary: "Assign a backup policy to a volume, or to the project's volumes of a type, or to all volumes of a project"
            ) { request in
                let body = request.body["assignment"]
                let target = BackupPolicyAssignment.Target(rawValue: body?["target_type"]?.string ?? "")
                return try await store.write {
                    try BackupPolicyAssignments.create(
                        request.parameters[0], target, body?["target_id"]?.string ?? "", caller: request.caller, in: $0)
                }
            },
            APIOperation(
                "backup-policies:unassign", "DELETE", "/backup-policies/{id}/assignments/{assignment_id}", policies: [Self.rule("assign")],
                answers: .empty(204, as: nil), summary: "Take an assignment of a backup policy back"
            ) { request in
                try await store.write {
                    try BackupPolicyAssignments.delete(request.parameters[1], of: request.parameters[0], caller: request.caller, in: $0)
                }
            },
        ]
    }
}
