import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

extension VolumeActionResource {
    private func rule(_ name: String) -> Policies.Rule { Policies.Rule(stringLiteral: "volume_extension:volume_admin_actions:\(name)") }

    /// What only administrators do.
    var administration: [APIOperation] {
        [
            action(
                "os-reset_status", policies: [rule("reset_status")],
                body: Self.states, summary: "Set a volume's states", handler: resetStatus),
            action("os-force_delete", policies: [rule("force_delete")], summary: "Delete a volume whatever its state") { request in
                try await store.write {
                    try requests.delete(request.parameters[0], force: true, caller: request.caller, in: $0)
                }
            },
            action(
                "os-force_detach", policies: [rule("force_detach")],
                body: .object([("connector", Schema(kinds: [.string, .object, .null])), ("attachment_id", .string(nullable: true))]),
                summary: "End a connection and detach"
            ) { request in
                let body = request.body["os-force_detach"]
                let permit = try await guardian.permit(ofVolume: request.parameters[0], request)
                let operation = try await store.write {
                    try requests.disconnect(
                        volumeID: request.parameters[0], connector: body?["connector"]?.object == nil ? nil : body?["connector"],
                        detach: .some(body?["attachment_id"]?.string), permit: permit, caller: request.caller, in: $0)
                }
                _ = try await outcomes.of(operation, failure: "Unable to detach the volume")
            },
        ]
    }

    private static let states: Schema = {
        func state(_ what: String, _ known: [some Status], _ open: String, _ close: String) -> Schema {
            let known = known.map(\.rawValue)
            let shown = open + known.map { "'\($0)'" }.joined(separator: ", ") + close
            return Schema(kinds: [.string, .null], format: .state("Volume \(what)", known, shown: shown, isNeeded: false))
        }
        var schema = Schema.object([
            ("status", state("status", VolumeStatus.settable, "(", ")")),
            ("attach_status", state("attach status", AttachmentStatus.settable, "[", "]")),
            ("migration_status", state("migration status", MigrationStatus.settable, "(", ")")),
        ])
        schema.rule = { body in
            ["status", "attach_status", "migration_status"].contains { body[$0].map(PythonText.isTrue) ?? false }
                ? nil : .badRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
        }
        return schema
    }()

    @Sendable private func resetStatus(_ request: APIRequest) async throws {
        let body = request.body["os-reset_status"]
        func value(_ key: String) -> String? { body?[key]?.string.flatMap { $0.isEmpty ? nil : $0.lowercased() } }
        let status = value("status").map { VolumeStatus(rawValue: $0) }
        let attach = value("attach_status").map { AttachmentStatus(rawValue: $0) }
        let migration = value("migration_status").map { MigrationStatus(rawValue: $0) }
        if status == .deleting { throw HTTPError.badRequest("Cannot reset-state to deleting") }
        try await store.write {
            try Volumes.resetStatus(
                request.parameters[0], status: status, attachStatus: attach, migrationStatus: migration, caller: request.caller, in: $0)
        }
    }

    // MARK: migration

    var migration: [APIOperation] {
        let flags: [(name: String, schema: Schema)] = [("force_host_copy", .boolean), ("lock_volume", .boolean)]
        let name = "os-migrate_volume"
        return [
            APIOperation(
                "volumes:os-migrate_volume", "POST", "/volumes/{id}/action", action: name, policies: [rule("migrate_volume")],
                bodies: [
                    (0...15, .action(name, .object([("host", .string(0, 255))] + flags, required: ["host"]))),
                    (
                        16...71,
                        .action(
                            name,
                            .object([("host", .string(0, 255, nullable: true)), ("cluster", .string(0, 255, nullable: true))] + flags))
                    ),
                ], answers: .empty(202), summary: "Copy a volume to another backend or pool"
            ) { request in
                let body = request.body["os-migrate_volume"]
                let (host, cluster) = (body?["host"]?.string ?? "", body?["cluster"]?.string ?? "")
                try request.oneOf(host: host, cluster: cluster, since: 16)
                guard cluster.isEmpty else { throw HTTPError.badRequest("Invalid host: No available service named '\(cluster)'") }
                try await store.write { tx in
                    try requests.migrate(
                        request.parameters[0], to: host, locks: body?["lock_volume"]?.lenientBool ?? false, downAfter: serviceDownTime,
                        caller: request.caller, in: tx)
                }
            },
            APIOperation(
                "volumes:os-migrate_volume_completion", "POST", "/volumes/{id}/action", action: Self.completionKey,
                policies: [rule("migrate_volume_completion")],
                body: .action(Self.completionKey, .object([("new_volume", .uuid), Self.error], required: ["new_volume"])),
                answers: .member("save_volume_id", .text), summary: "Say that the Compute service has copied an attached volume",
                handler: completeMigration),
            action(
                "os-extend_volume_completion", policies: [rule("extend_volume_completion")], body: .object([Self.error]),
                summary: "Say that the Compute service has extended a volume"
            ) { request in
                try await store.read { try Volumes.completeExtension(request.parameters[0], caller: request.caller, in: $0) }
            },
        ]
    }

    private static let completionKey = "os-migrate_volume_completion"
    private static var error: (String, Schema) { ("error", Schema(kinds: [.string, .null, .boolean])) }

    @Sendable private func completeMigration(_ request: APIRequest) async throws -> JSON {
        let body = request.body[Self.completionKey]
        let (id, other) = (request.parameters[0], body?["new_volume"]?.string ?? "")
        let hasFailed = body?["error"].map(PythonText.isTrue) ?? false
        let isMigrating = try await store.read { try Volumes.get(id, for: request.caller, in: $0).migrationStatus != nil }
        // Only where nothing is migrated is anything detached.
        let permit = isMigrating ? DetachPermit.unused([]) : try await guardian.permit(ofVolume: id, request)
        let end = try await store.write {
            try requests.completeMigration(
                of: id, to: other, hasFailed: hasFailed, permit: permit, caller: request.caller, in: $0)
        }
        switch end {
        case .none(let saved): return .string(saved)
        case .operation(let operation):
            _ = try await outcomes.of(operation, failure: "The migration could not be ended")
            return .string(id)
        }
    }
}
