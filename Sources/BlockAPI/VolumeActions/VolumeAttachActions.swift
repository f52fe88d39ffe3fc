import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

extension VolumeActionResource {
    private func rule(_ name: String) -> Policies.Rule { Policies.Rule(stringLiteral: "volume_extension:volume_actions:\(name)") }

    /// What attaches, connects, disconnects and detaches.
    var attaching: [APIOperation] {
        [
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
                try await store.write { tx in
                    try Attachments.attach(
                        volumeID: request.parameters[0], instanceID: body?["instance_uuid"]?.string, host: body?["host_name"]?.string,
                        mountpoint: body?["mountpoint"]?.string ?? "", mode: body?["mode"]?.string ?? "rw", caller: request.caller, in: tx)
                }
            },
            action(
                "os-detach", policies: [rule("detach")], body: .object([("attachment_id", .optionalUUID)], nullable: true),
                summary: "Record that a volume is detached"
            ) { request in
                let (id, attachmentID) = (request.parameters[0], request.body["os-detach"]?["attachment_id"]?.string)
                let permit: DetachPermit
                if let attachmentID {
                    let attachment = try await store.read {
                        _ = try Volumes.get(id, for: request.caller, in: $0)
                        return try Attachments.toDetach(volumeID: id, attachmentID: attachmentID, in: $0)
                    }
                    permit = try await guardian.permit(attachment.map { [$0] } ?? [], request)
                } else {
                    permit = try await guardian.permit(ofVolume: id, request)
                }
                try await store.write {
                    try Attachments.detach(volumeID: id, attachmentID: attachmentID, permit: permit, caller: request.caller, in: $0)
                }
            },
            action("os-reserve", policies: [rule("reserve")], summary: "Reserve a volume for an attachment") { request in
                try await store.write { try Volumes.reserve(request.parameters[0], caller: request.caller, in: $0) }
            },
            action("os-unreserve", policies: [rule("unreserve")], summary: "Take a reservation back") { request in
                try await store.write { try Volumes.unreserve(request.parameters[0], caller: request.caller, in: $0) }
            },
            action("os-begin_detaching", policies: [rule("begin_detaching")], summary: "Begin to detach") { request in
                try await store.write { try Volumes.beginDetaching(request.parameters[0], caller: request.caller, in: $0) }
            },
            action("os-roll_detaching", policies: [rule("roll_detaching")], summary: "Take the beginning of a detach back") { request in
                try await store.write { try Volumes.rollDetaching(request.parameters[0], caller: request.caller, in: $0) }
            },
            APIOperation(
                "volumes:os-initialize_connection", "POST", "/volumes/{id}/action", action: "os-initialize_connection",
                policies: [rule("initialize_connection")],
                body: .action(
                    "os-initialize_connection",
                    .object([("connector", Schema(kinds: [.object, .string]))], required: ["connector"])),
                answers: .member("connection_info", .map(.any)), summary: "Connect a volume to a host", handler: initializeConnection),
            action(
                "os-terminate_connection", policies: [rule("terminate_connection")],
                body: .object([("connector", Schema(kinds: [.string, .object, .null]))], required: ["connector"]),
                summary: "End a connection"
            ) { request in
                let connector = request.body["os-terminate_connection"]?["connector"]
                let permit = try await guardian.permit(ofVolume: request.parameters[0], request)
                let operation = try await store.write {
                    try requests.disconnect(
                        volumeID: request.parameters[0], connector: connector?.object == nil ? nil : connector, detach: nil,
                        permit: permit, caller: request.caller, in: $0)
                }
                _ = try await outcomes.of(operation, failure: "Unable to terminate volume connection")
            },
        ]
    }

    @Sendable private func initializeConnection(_ request: APIRequest) async throws -> JSON {
        guard let connector = request.body["os-initialize_connection"]?["connector"], connector.object != nil else {
            try await store.read { _ = try Volumes.get(request.parameters[0], for: request.caller, in: $0) }
            throw HTTPError.badRequest("Invalid input received: The connector must be an object.")
        }
        let operation = try await store.write {
            try requests.connect(volumeID: request.parameters[0], connector: connector, caller: request.caller, in: $0)
        }
        return try await outcomes.of(operation, failure: "Unable to fetch connection information from backend")
    }
}
