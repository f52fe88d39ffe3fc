import BlockStorage
import Database
import HTTPServer
import JSON

/// `/attachments`, since 3.27.
struct AttachmentResource: Resource {
    let store: Store
    let requests: VolumeRequests
    let outcomes: Outcomes
    let guardian: DetachGuard

    var operations: [APIOperation] {
        let list = AttachmentList.list(store)
        return [
            list.operation(
                "attachments:list", versions: 27...71, policies: ["clinker:attachments_get"], parts: .summary, summary: "List attachments"),
            list.operation(
                "attachments:detail", at: "attachments/detail", versions: 27...71, policies: ["clinker:attachments_get"], parts: .whole,
                summary: "List attachments in detail"),
            APIOperation(
                "attachments:show", "GET", "/attachments/{id}", versions: 27...71, policies: ["clinker:attachments_get"],
                answers: .one(AttachmentView.view), summary: "Show an attachment"
            ) { request in try await attachment(request.parameters[0], request) },
            APIOperation(
                "attachments:create", "POST", "/attachments", versions: 27...71, policies: ["volume:attachment_create"],
                bodies: [(27...53, Self.creation(mode: false)), (54...71, Self.creation(mode: true))],
                answers: .one(AttachmentView.view), summary: "Reserve a volume for an instance, or connect it to a host", handler: create),
            APIOperation(
                "attachments:update", "PUT", "/attachments/{id}", versions: 27...71, policies: ["volume:attachment_update"],
                body: Self.connection, answers: .one(AttachmentView.view), summary: "Connect a reserved volume to a host"
            ) { request in
                let id = request.parameters[0]
                let connector = request.body["attachment"]?["connector"] ?? .null
                let operation = try await store.write {
                    try requests.connectAttachment(id, connector: connector, isNew: false, caller: request.caller, in: $0)
                }
                _ = try await outcomes.of(operation, failure: "Unable to update the attachment")
                return try await attachment(id, request)
            },
            APIOperation(
                "attachments:delete", "DELETE", "/attachments/{id}", versions: 27...71, policies: ["volume:attachment_delete"],
                answers: .all(AttachmentView.view, .summary), summary: "End a connection and the attachment"
            ) { request in
                let id = request.parameters[0]
                let attachment = try await attachment(id, request)
                let permit = try await guardian.permit([attachment], request)
                // While it waits the end of a migration may give the attachment to another volume: there it is ended then.
                for _ in 0..<2 {
                    let operation = try await store.write {
                        try requests.deleteAttachment(id, permit: permit, caller: request.caller, in: $0)
                    }
                    guard let operation else { break }
                    _ = try await outcomes.of(operation, failure: "Unable to delete the attachment")
                    guard try await store.read({ try Attachments.find(id, in: $0) }) != nil else { break }
                }
                return try await store.read { try Attachments.ofVolume(attachment.volumeID, in: $0) }
            },
            APIOperation(
                "attachments:os-complete", "POST", "/attachments/{id}/action", action: "os-complete", versions: 44...71,
                policies: ["volume:attachment_complete"], body: .action("os-complete"), answers: .empty(204),
                summary: "Say that the instance uses the volume"
            ) { request in try await store.write { try Attachments.complete(request.parameters[0], caller: request.caller, in: $0) } },
        ]
    }

    private static func creation(mode: Bool) -> Schema {
        var properties: [(name: String, schema: Schema)] = [
            ("instance_uuid", .uuid), ("connector", .object(others: true, nullable: true)), ("volume_uuid", .uuid),
        ]
        if mode { properties.append(("mode", .choice("rw", "ro"))) }
        return .object([("attachment", .object(properties, required: ["volume_uuid"]))], required: ["attachment"])
    }

    private static let connection: Schema = {
        var connector = Schema.object(others: true)
        connector.minimumMembers = 1
        return .object([("attachment", .object([("connector", connector)], required: ["connector"]))], required: ["attachment"])
    }()

    private func attachment(_ id: String, _ request: APIRequest) async throws -> Attachment {
        try await store.read { try Attachments.get(id, for: request.caller, in: $0) }
    }

    @Sendable private func create(_ request: APIRequest) async throws -> Attachment {
        let body = request.body["attachment"]
        let connector = body?["connector"]?.object.flatMap { $0.isEmpty ? nil : $0 }
        let mode = body?["mode"]?.string
        // Reservation and operation are one change: no death can leave a reservation that nobody knows of.
        let (id, operation) = try await store.write { tx in
            let id = try requests.reserve(
                volumeID: body?["volume_uuid"]?.string ?? "", instanceID: body?["instance_uuid"]?.string, mode: mode,
                caller: request.caller, in: tx)
            let operation = try connector.map {
                try requests.connectAttachment(id, connector: .object($0), isNew: true, caller: request.caller, in: tx)
            }
            return (id, operation)
        }
        if let operation { _ = try await outcomes.of(operation, failure: "Unable to create attachment for volume") }
        return try await attachment(id, request)
    }
}
