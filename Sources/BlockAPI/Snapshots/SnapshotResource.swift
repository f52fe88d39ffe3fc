import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// `/snapshots`
struct SnapshotResource: Resource {
    let store: Store
    let requests: VolumeRequests

    var operations: [APIOperation] {
        let list = SnapshotList.list(store)
        return [
            list.operation("snapshots:list", policies: ["volume:get_all_snapshots"], parts: .summary, summary: "List snapshots"),
            list.operation(
                "snapshots:detail", at: "snapshots/detail", policies: ["volume:get_all_snapshots"], parts: .whole,
                summary: "List snapshots in detail"),
            APIOperation(
                "snapshots:show", "GET", "/snapshots/{id}", policies: ["volume:get_snapshot"], answers: .one(SnapshotView.view),
                summary: "Show a snapshot"
            ) { request in try await store.read { try Snapshots.get(request.parameters[0], for: request.caller, in: $0) } },
            APIOperation(
                "snapshots:create", "POST", "/snapshots", policies: ["volume:create_snapshot"], body: Self.creation,
                answers: .one(SnapshotView.view, .own, status: 202), summary: "Create a snapshot", handler: create),
            APIOperation(
                "snapshots:update", "PUT", "/snapshots/{id}", policies: ["volume:update_snapshot"], body: Self.change,
                answers: .one(SnapshotView.view, .own), summary: "Change name or description of a snapshot"
            ) { request in
                let body = request.body["snapshot"]
                func text(_ name: String, _ older: String) -> JSON? { (body?[name] ?? body?[older]).map { JSON($0.trimmedString) } }
                let name = text("name", "display_name")
                let description = text("description", "display_description")
                return try await store.write { tx in
                    try Snapshots.update(request.parameters[0], name: name, description: description, caller: request.caller, in: tx)
                    return try Snapshots.get(request.parameters[0], for: request.caller, in: tx)
                }
            },
            APIOperation(
                "snapshots:delete", "DELETE", "/snapshots/{id}", policies: ["volume:delete_snapshot"],
                answers: .empty(202, as: HTTPResponse.html), summary: "Delete a snapshot"
            ) { request in
                try await store.write {
                    try requests.deleteSnapshot(request.parameters[0], force: false, caller: request.caller, in: $0)
                }
            },
        ] + metadata.operations
    }

    private static let creation = Schema.object(
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
        ], required: ["snapshot"])

    private static let change: Schema = {
        var snapshot = Schema.object([
            ("name", .string(0, 255, nullable: true)), ("description", .string(0, 255, nullable: true, format: .printable)),
            ("display_name", .string(0, 255, nullable: true)),
            ("display_description", .string(0, 255, nullable: true, format: .printable)),
        ])
        snapshot.anyRequired = ["name", "description", "display_name", "display_description"]
        return .object([("snapshot", snapshot)], required: ["snapshot"])
    }()

    @Sendable private func create(_ request: APIRequest) async throws -> Snapshot {
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
        return try await store.write { tx in
            let id = try requests.createSnapshot(
                of: body?["volume_id"]?.string ?? "None", asked, allowsInUse: allowsInUse, caller: request.caller, in: tx)
            return try Snapshots.get(id, for: request.caller, in: tx)
        }
    }

    private var metadata: MetadataResource {
        MetadataResource(
            store: store, name: "snapshot-metadata", path: "/snapshots/{snapshot_id}/metadata", noun: "a snapshot's metadata",
            items: .metadata(keys: .plainMetadataKey), values: .text, allowsOthers: true,
            rules: MetadataResource.Rules(
                list: "volume:get_snapshot_metadata", show: "volume:get_snapshot_metadata", create: "volume:update_snapshot_metadata",
                replace: "volume:update_snapshot_metadata", update: "volume:update_snapshot_metadata",
                delete: "volume:delete_snapshot_metadata"),
            missing: { StorageError(.notFound, "Snapshot \($0) has no metadata with key \($1).") },
            read: { try JSON(parsing: Snapshots.get($0, for: $1, in: $2).metadata).object ?? [:] },
            change: { try Snapshots.updateMetadata($0, caller: $1, in: $2, $3) })
    }

    // MARK: actions

    private static let state: Schema = {
        let known = SnapshotStatus.settable.map(\.rawValue)
        let shown = "(" + known.map { "'\($0)'" }.joined(separator: ", ") + ")"
        return Schema(kinds: [.string], format: .state("Snapshot status", known, shown: shown, isNeeded: true))
    }()

    private func action<Output>(
        _ key: String, policy: Policies.Rule, body: Schema = .any, answers: Reply<Output>, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Output
    ) -> APIOperation {
        APIOperation(
            "snapshots:\(key)", "POST", "/snapshots/{id}/action", action: key, policies: [policy], body: .action(key, body),
            answers: answers, summary: summary, handler: handler)
    }

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-extended-snapshot-attributes", name: "ExtendedSnapshotAttributes",
                description: "Extended SnapshotAttributes support.", updated: "2012-06-19T00:00:00+00:00"),
            APIExtension(
                alias: "os-snapshot-actions", name: "SnapshotActions", description: "Enable snapshot manager actions.",
                updated: "2013-07-16T00:00:00+00:00",
                operations: [
                    action(
                        "os-update_snapshot_status", policy: "snapshot_extension:snapshot_actions:update_snapshot_status",
                        body: .object(
                            [("status", .string()), ("progress", Schema(kinds: [.string, .null], format: .progress))], required: ["status"]),
                        answers: .empty(202, as: HTTPResponse.html), summary: "Report the state of a snapshot that another service makes"
                    ) { request in
                        let body = request.body["os-update_snapshot_status"]
                        try await store.write {
                            try Snapshots.report(
                                request.parameters[0], status: body?["status"]?.string ?? "", progress: body?["progress"]?.string,
                                caller: request.caller, in: $0)
                        }
                    },
                    action(
                        "os-reset_status", policy: "volume_extension:snapshot_admin_actions:reset_status",
                        body: .object([("status", Self.state)], required: ["status"]), answers: .empty(202),
                        summary: "Set the state of a snapshot"
                    ) { request in
                        try await store.write {
                            try Snapshots.resetStatus(
                                request.parameters[0], status: request.body["os-reset_status"]?["status"]?.string ?? "",
                                caller: request.caller, in: $0)
                        }
                    },
                    action(
                        "os-force_delete", policy: "volume_extension:snapshot_admin_actions:force_delete", answers: .empty(202),
                        summary: "Delete a snapshot whatever its state"
                    ) { request in
                        try await store.write {
                            try requests.deleteSnapshot(request.parameters[0], force: true, caller: request.caller, in: $0)
                        }
                    },
                ]),
        ]
    }
}
