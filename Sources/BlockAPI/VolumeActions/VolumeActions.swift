import BlockStorage
import HTTPServer
import JSON
import Policy

/// `POST /volumes/{id}/action`
enum VolumeActions {
    private static func action(
        _ key: String, policies: [Policies.Rule], body: Schema = .any, success: Int = 202, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> HTTPResponse
    ) -> APIOperation {
        APIOperation(
            "volumes:\(key)", "POST", "/volumes/{id}/action", action: key, policies: policies, body: .action(key, body), success: success,
            summary: summary, handler: handler)
    }

    private static func rule(_ name: String) -> Policies.Rule { Policies.Rule(stringLiteral: "volume_extension:volume_actions:\(name)") }
    private static func adminRule(_ name: String) -> Policies.Rule {
        Policies.Rule(stringLiteral: "volume_extension:volume_admin_actions:\(name)")
    }
    private static let accepted = HTTPResponse(status: 202)

    /// Every action is an extension in Cinder; this list is what the core has of its own: none.
    static let core: [APIOperation] = []

    /// Extension os-volume-actions.
    static let volumeActions: [APIOperation] = [
        APIOperation(
            "volumes:revert", "POST", "/volumes/{id}/action", action: "revert", versions: 40...71, policies: ["volume:revert_to_snapshot"],
            body: .action("revert", .object([("snapshot_id", Schema(kinds: [.string, .null]))], others: true)), success: 202,
            summary: "Bring a volume back to its latest snapshot"
        ) { request in
            try await request.change {
                try request.service.requests.revert(
                    request.parameters[0], to: request.body["revert"]?["snapshot_id"]?.string, caller: request.caller, in: $0)
            }
            return accepted
        },
        action(
            "os-attach", policies: [rule("attach")],
            body: {
                var schema = Schema.object(
                    [
                        ("instance_uuid", .uuid), ("mountpoint", .string(1, 255)), ("host_name", .string(0, 255)),
                        ("mode", .choice("rw", "ro")),
                    ], required: ["mountpoint"])
                schema.anyRequired = ["instance_uuid", "host_name"]
                return schema
            }(), summary: "Record that a volume is attached"
        ) { request in
            let body = request.body["os-attach"]
            try await request.change { tx in
                try Attachments.attach(
                    volumeID: request.parameters[0], instanceID: body?["instance_uuid"]?.string, host: body?["host_name"]?.string,
                    mountpoint: body?["mountpoint"]?.string ?? "", mode: body?["mode"]?.string ?? "rw", caller: request.caller, in: tx)
            }
            return accepted
        },
        action(
            "os-detach", policies: [rule("detach")], body: .object([("attachment_id", .optionalUUID)], nullable: true),
            summary: "Record that a volume is detached"
        ) { request in
            let (id, attachmentID) = (request.parameters[0], request.body["os-detach"]?["attachment_id"]?.string)
            let permit: DetachPermit
            if let attachmentID {
                let attachment = try await request.database {
                    _ = try Volumes.get(id, for: request.caller, in: $0)
                    return try Attachments.toDetach(volumeID: id, attachmentID: attachmentID, in: $0)
                }
                permit = try await request.detachPermit(attachment.map { [$0] } ?? [])
            } else {
                permit = try await request.detachPermit(ofVolume: id)
            }
            try await request.change {
                try Attachments.detach(volumeID: id, attachmentID: attachmentID, permit: permit, caller: request.caller, in: $0)
            }
            return accepted
        },
        action("os-reserve", policies: [rule("reserve")], summary: "Reserve a volume for an attachment") { request in
            try await request.change { try Volumes.reserve(request.parameters[0], caller: request.caller, in: $0) }
            return accepted
        },
        action("os-unreserve", policies: [rule("unreserve")], summary: "Take a reservation back") { request in
            try await request.change { try Volumes.unreserve(request.parameters[0], caller: request.caller, in: $0) }
            return accepted
        },
        action("os-begin_detaching", policies: [rule("begin_detaching")], summary: "Begin to detach") { request in
            try await request.change { try Volumes.beginDetaching(request.parameters[0], caller: request.caller, in: $0) }
            return accepted
        },
        action("os-roll_detaching", policies: [rule("roll_detaching")], summary: "Take the beginning of a detach back") { request in
            try await request.change { try Volumes.rollDetaching(request.parameters[0], caller: request.caller, in: $0) }
            return accepted
        },
        action(
            "os-initialize_connection", policies: [rule("initialize_connection")],
            body: .object([("connector", Schema(kinds: [.object, .string]))], required: ["connector"]), success: 200,
            summary: "Connect a volume to a host", handler: initializeConnection),
        action(
            "os-terminate_connection", policies: [rule("terminate_connection")],
            body: .object([("connector", Schema(kinds: [.string, .object, .null]))], required: ["connector"]), summary: "End a connection"
        ) { request in
            let connector = request.body["os-terminate_connection"]?["connector"]
            let permit = try await request.detachPermit(ofVolume: request.parameters[0])
            let operation = try await request.change {
                try request.service.requests.disconnect(
                    volumeID: request.parameters[0], connector: connector?.object == nil ? nil : connector, detach: nil,
                    permit: permit, caller: request.caller, in: $0)
            }
            _ = try await request.outcome(operation, failure: "Unable to terminate volume connection")
            return accepted
        },
        action(
            "os-extend", policies: ["volume:extend"],
            body: .object([("new_size", .size(nullable: false))], required: ["new_size"]),
            summary: "Make a volume larger"
        ) { request in
            let size = request.body["os-extend"]?["new_size"]?.lenientInteger ?? 0
            let allowAttached = request.version >= 42 && request.allows("volume:extend_attached_volume")
            try await request.change { tx in
                try request.service.requests.extend(
                    request.parameters[0], to: size, allowAttached: allowAttached, caller: request.caller, in: tx)
            }
            return accepted
        },
        action(
            "os-retype", policies: ["volume:retype"],
            body: .object(
                [("new_type", .string()), ("migration_policy", .choice("on-demand", "never", nullable: true))], required: ["new_type"]),
            summary: "Give a volume another type"
        ) { request in
            let body = request.body["os-retype"]
            try await request.change { tx in
                try request.service.requests.retype(
                    request.parameters[0], to: body?["new_type"]?.string ?? "",
                    mayMigrate: body?["migration_policy"]?.string == "on-demand", caller: request.caller, in: tx)
            }
            return accepted
        },
        action(
            "os-set_bootable", policies: ["volume:update"], body: .object([("bootable", .boolean)], required: ["bootable"]),
            success: 200,
            summary: "Say whether a volume can be booted from"
        ) { request in
            let bootable = request.body["os-set_bootable"]?["bootable"]?.lenientBool ?? false
            try await request.change { try Volumes.setBootable(bootable, of: request.parameters[0], caller: request.caller, in: $0) }
            return HTTPResponse(status: 200)
        },
        action(
            "os-update_readonly_flag", policies: ["volume:update_readonly_flag"],
            body: .object([("readonly", .boolean)], required: ["readonly"]),
            summary: "Say whether a volume may be attached for reading only"
        ) { request in
            let readOnly = request.body["os-update_readonly_flag"]?["readonly"]?.lenientBool ?? false
            try await request.change { try Volumes.setReadOnly(readOnly, of: request.parameters[0], caller: request.caller, in: $0) }
            return accepted
        },
    ]

    private static let states: Schema = {
        func list(_ known: [String], _ open: String, _ close: String) -> String {
            open + known.map { "'\($0)'" }.joined(separator: ", ") + close
        }
        func state(_ what: String, _ known: [String], _ shown: String) -> Schema {
            Schema(kinds: [.string, .null], format: .state("Volume \(what)", known, shown: shown, isNeeded: false))
        }
        var schema = Schema.object([
            ("status", state("status", VolumeStatus.settable, list(VolumeStatus.settable, "(", ")"))),
            ("attach_status", state("attach status", VolumeStatus.attachStatuses, list(VolumeStatus.attachStatuses, "[", "]"))),
            (
                "migration_status",
                state("migration status", VolumeStatus.migrationStatuses, list(VolumeStatus.migrationStatuses, "(", ")"))
            ),
        ])
        schema.rule = { body in
            ["status", "attach_status", "migration_status"].contains { body[$0].map(PythonText.isTrue) ?? false }
                ? nil : .badRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
        }
        return schema
    }()

    /// Extension os-admin-actions.
    static let adminActions: [APIOperation] =
        [
            action(
                "os-reset_status", policies: [adminRule("reset_status")],
                body: states, summary: "Set a volume's states", handler: resetStatus),
            action("os-force_delete", policies: [adminRule("force_delete")], summary: "Delete a volume whatever its state") { request in
                try await request.change {
                    try request.service.requests.delete(request.parameters[0], force: true, caller: request.caller, in: $0)
                }
                return accepted
            },
            action(
                "os-force_detach", policies: [adminRule("force_detach")],
                body: .object([("connector", Schema(kinds: [.string, .object, .null])), ("attachment_id", .string(nullable: true))]),
                summary: "End a connection and detach"
            ) { request in
                let body = request.body["os-force_detach"]
                let permit = try await request.detachPermit(ofVolume: request.parameters[0])
                let operation = try await request.change {
                    try request.service.requests.disconnect(
                        volumeID: request.parameters[0], connector: body?["connector"]?.object == nil ? nil : body?["connector"],
                        detach: .some(body?["attachment_id"]?.string), permit: permit, caller: request.caller, in: $0)
                }
                _ = try await request.outcome(operation, failure: "Unable to detach the volume")
                return accepted
            },
        ] + migrate

    private static let migrate: [APIOperation] = {
        let flags: [(name: String, schema: Schema)] = [("force_host_copy", .boolean), ("lock_volume", .boolean)]
        let name = "os-migrate_volume"
        return [
            APIOperation(
                "volumes:os-migrate_volume", "POST", "/volumes/{id}/action", action: name, policies: [adminRule("migrate_volume")],
                bodies: [
                    (0...15, .action(name, .object([("host", .string(0, 255))] + flags, required: ["host"]))),
                    (
                        16...71,
                        .action(
                            name,
                            .object([("host", .string(0, 255, nullable: true)), ("cluster", .string(0, 255, nullable: true))] + flags))
                    ),
                ], success: 202, summary: "Copy a volume to another backend or pool"
            ) { request in
                let body = request.body["os-migrate_volume"]
                let (host, cluster) = (body?["host"]?.string ?? "", body?["cluster"]?.string ?? "")
                try request.oneOf(host: host, cluster: cluster, since: 16)
                guard cluster.isEmpty else { throw HTTPError.badRequest("Invalid host: No available service named '\(cluster)'") }
                let downAfter = request.service.serviceDownTime
                try await request.change { tx in
                    try request.service.requests.migrate(
                        request.parameters[0], to: host, locks: body?["lock_volume"]?.lenientBool ?? false, downAfter: downAfter,
                        caller: request.caller, in: tx)
                }
                return accepted
            },
            action(
                "os-migrate_volume_completion", policies: [adminRule("migrate_volume_completion")],
                body: .object(
                    [("new_volume", .uuid), ("error", Schema(kinds: [.string, .null, .boolean]))], required: ["new_volume"]),
                success: 200, summary: "Say that the compute service has moved an attached volume"
            ) { request in
                // Only a migration through the compute service has a second volume, and none is served.
                let other = request.body["os-migrate_volume_completion"]?["new_volume"]?.string ?? ""
                try await request.database {
                    let volume = try Volumes.get(request.parameters[0], for: request.caller, in: $0)
                    _ = try Volumes.get(other, for: request.caller, in: $0)
                    throw StorageError.invalidVolume("Volume \(volume.id) is not being migrated to volume \(other).")
                }
                return accepted
            },
        ]
    }()

    // MARK: handlers

    @Sendable private static func initializeConnection(_ request: APIRequest) async throws -> HTTPResponse {
        guard let connector = request.body["os-initialize_connection"]?["connector"], connector.object != nil else {
            try await request.database { _ = try Volumes.get(request.parameters[0], for: request.caller, in: $0) }
            throw HTTPError.badRequest("Invalid input received: The connector must be an object.")
        }
        let operation = try await request.change {
            try request.service.requests.connect(volumeID: request.parameters[0], connector: connector, caller: request.caller, in: $0)
        }
        let connection = try await request.outcome(operation, failure: "Unable to fetch connection information from backend")
        return .json { writer in
            writer.beginObject()
            writer.member("connection_info", connection)
            writer.endObject()
        }
    }

    @Sendable private static func resetStatus(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["os-reset_status"]
        func value(_ key: String) -> String? { body?[key]?.string.flatMap { $0.isEmpty ? nil : $0.lowercased() } }
        let (status, attach, migration) = (value("status"), value("attach_status"), value("migration_status"))
        if status == "deleting" { throw HTTPError.badRequest("Cannot reset-state to deleting") }
        try await request.change {
            try Volumes.resetStatus(
                request.parameters[0], status: status, attachStatus: attach, migrationStatus: migration, caller: request.caller, in: $0)
        }
        return accepted
    }
}

extension APIRequest {
    /// Waits for an operation's output. A backend's refusal of the request is the client's 400, any other failure a 500
    /// with a text that names no secret.
    func outcome(_ operation: String, failure: String) async throws -> JSON {
        do {
            return try await service.result(operation)
        } catch let error as StorageError where error.kind == .failed {
            throw HTTPError(500, "\(failure): \(error.message)")
        }
    }
}
