import BlockStorage
import Database
import HTTPServer
import JSON

/// `/attachments`, since 3.27.
enum AttachmentOperations {
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

    static let all: [APIOperation] = [
        APIOperation(
            "attachments:list", "GET", "/attachments", versions: 27...71, policies: ["clinker:attachments_get"], summary: "List attachments"
        ) {
            try await list($0, detail: false)
        },
        APIOperation(
            "attachments:detail", "GET", "/attachments/detail", versions: 27...71, policies: ["clinker:attachments_get"],
            summary: "List attachments in detail"
        ) {
            try await list($0, detail: true)
        },
        APIOperation(
            "attachments:show", "GET", "/attachments/{id}", versions: 27...71, policies: ["clinker:attachments_get"],
            summary: "Show an attachment"
        ) { request in
            try await answer(request.parameters[0], request)
        },
        APIOperation(
            "attachments:create", "POST", "/attachments", versions: 27...71, policies: ["volume:attachment_create"],
            bodies: [(27...53, creation(mode: false)), (54...71, creation(mode: true))],
            summary: "Reserve a volume for an instance, or connect it to a host", handler: create),
        APIOperation(
            "attachments:update", "PUT", "/attachments/{id}", versions: 27...71, policies: ["volume:attachment_update"],
            body: connection, summary: "Connect a reserved volume to a host", handler: update),
        APIOperation(
            "attachments:delete", "DELETE", "/attachments/{id}", versions: 27...71, policies: ["volume:attachment_delete"],
            summary: "End a connection and the attachment", handler: delete),
        APIOperation(
            "attachments:os-complete", "POST", "/attachments/{id}/action", action: "os-complete", versions: 44...71,
            policies: ["volume:attachment_complete"], body: .action("os-complete"), success: 204,
            summary: "Say that the instance uses the volume"
        ) { request in
            try await request.change { try Attachments.complete(request.parameters[0], caller: request.caller, in: $0) }
            return HTTPResponse(status: 204)
        },
    ]

    // MARK: handlers

    @Sendable private static func create(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["attachment"]
        let connector = body?["connector"]?.object.flatMap { $0.isEmpty ? nil : $0 }
        let mode = body?["mode"]?.string
        // Reservation and operation are one change: no death can leave a reservation that nobody knows of.
        let (id, operation) = try await request.change { tx in
            let id = try request.service.requests.reserve(
                volumeID: body?["volume_uuid"]?.string ?? "", instanceID: body?["instance_uuid"]?.string, mode: mode,
                caller: request.caller, in: tx)
            let operation = try connector.map {
                try request.service.requests.connectAttachment(id, connector: .object($0), isNew: true, caller: request.caller, in: tx)
            }
            return (id, operation)
        }
        if let operation { _ = try await request.outcome(operation, failure: "Unable to create attachment for volume") }
        return try await answer(id, request)
    }

    @Sendable private static func update(_ request: APIRequest) async throws -> HTTPResponse {
        let id = request.parameters[0]
        let connector = request.body["attachment"]?["connector"] ?? .null
        let operation = try await request.change {
            try request.service.requests.connectAttachment(id, connector: connector, isNew: false, caller: request.caller, in: $0)
        }
        _ = try await request.outcome(operation, failure: "Unable to update the attachment")
        return try await answer(id, request)
    }

    @Sendable private static func delete(_ request: APIRequest) async throws -> HTTPResponse {
        let id = request.parameters[0]
        let attachment = try await request.database { try Attachments.get(id, for: request.caller, in: $0) }
        let permit = try await request.detachPermit([attachment])
        let operation = try await request.change {
            try request.service.requests.deleteAttachment(id, permit: permit, caller: request.caller, in: $0)
        }
        if let operation { _ = try await request.outcome(operation, failure: "Unable to delete the attachment") }
        let remaining = try await request.database { try Attachments.ofVolume(attachment.volumeID, in: $0) }
        return .json { writer in
            writer.beginObject()
            writer.key("attachments")
            writer.beginArray()
            for attachment in remaining { summary(attachment, &writer) }
            writer.endArray()
            writer.endObject()
        }
    }

    private static let rules = ListFilters.Rules(
        resource: "attachment", allTenants: .presence, older: ["volume_id", "status", "instance_id", "attach_status"])

    /// A column under the name that Cinder's table has for it.
    private static func column(_ name: String) -> AttachmentQuery.Column? {
        name == "instance_uuid" ? .instance_id : AttachmentQuery.Column(rawValue: name)
    }

    private static func list(_ request: APIRequest, detail: Bool) async throws -> HTTPResponse {
        let paging = try Paging(request)
        let filters = try ListFilters(request, rules)
        var query = AttachmentQuery(projectID: filters.wantsAllProjects ? nil : request.caller.projectID, limit: paging.limit)
        query.offset = paging.offset
        query.marker = paging.marker
        for filter in filters.filters {
            if filter.name == "project_id" {
                // Without all_tenants the list is the caller's project's, whatever is asked.
                if filters.wantsAllProjects { query.projectID = filter.value }
            } else if let column = column(filter.name) {
                query.filters.append((column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
            } else {
                query.matchesNothing = true
            }
        }
        query.sort = try paging.order { $0 == "instance_id" ? nil : column($0) }
        let asked = query
        let found = try await request.list(isShort: asked.isShort) { try asked.page(in: $0) }
        return try .json(capacity: 8192) { writer in
            writer.beginObject()
            writer.key("attachments")
            writer.beginArray()
            for attachment in found { if detail { try full(attachment, request, &writer) } else { summary(attachment, &writer) } }
            writer.endArray()
            writer.endObject()
        }
    }

    // MARK: views

    private static func answer(_ id: String, _ request: APIRequest) async throws -> HTTPResponse {
        let attachment = try await request.database { try Attachments.get(id, for: request.caller, in: $0) }
        return try .json { writer in
            writer.beginObject()
            writer.key("attachment")
            try full(attachment, request, &writer)
            writer.endObject()
        }
    }

    private static func summary(_ attachment: Attachment, _ writer: inout JSONWriter) {
        writer.beginObject()
        fields(attachment, &writer)
        writer.endObject()
    }

    private static func fields(_ attachment: Attachment, _ writer: inout JSONWriter) {
        writer.member("id", attachment.id)
        writer.member("status", attachment.status)
        writer.member("instance", attachment.instanceID)
        writer.member("volume_id", attachment.volumeID)
    }

    private static func full(_ attachment: Attachment, _ request: APIRequest, _ writer: inout JSONWriter) throws {
        writer.beginObject()
        fields(attachment, &writer)
        writer.member("attached_at", attachment.attachedAt ?? "")
        writer.member("detached_at", attachment.detachedAt ?? "")
        writer.member("attach_mode", attachment.mode ?? "null")
        writer.key("connection_info")
        // It holds what opens the storage to whoever has it.
        if let info = attachment.connectionInfo, request.allows("clinker:attachments_connection", project: attachment.projectID) {
            writer.raw(info.reveal())
        } else {
            writer.raw("{}")
        }
        writer.endObject()
    }
}
