import BlockStorage
import HTTPServer
import JSON

/// `/messages`, since 3.3.
enum MessageOperations {
    static let all: [APIOperation] = [
        APIOperation(
            "messages:list", "GET", "/messages", versions: 3...71, policies: ["message:get_all"], summary: "List user messages",
            handler: list),
        APIOperation(
            "messages:show", "GET", "/messages/{id}", versions: 3...71, policies: ["message:get"], summary: "Show a user message"
        ) { request in
            let message = try await request.database { try Messages.get(request.parameters[0], for: request.caller, in: $0) }
            return .json { writer in
                writer.beginObject()
                writer.key("message")
                view(message, request, &writer)
                writer.endObject()
            }
        },
        APIOperation(
            "messages:delete", "DELETE", "/messages/{id}", versions: 3...71, policies: ["message:delete"], success: 204,
            summary: "Delete a user message"
        ) { request in
            try await request.change { try Messages.delete(request.parameters[0], caller: request.caller, in: $0) }
            return HTTPResponse(status: 204, contentType: nil)
        },
    ]

    private static let rules = ListFilters.Rules(resource: "message", allTenants: .notKnown)

    @Sendable private static func list(_ request: APIRequest) async throws -> HTTPResponse {
        // Pages, order and filters came with 3.5.
        let isPaged = request.version >= 5
        let paging = isPaged ? try Paging(request) : .none(request)
        let order = try paging.order { Messages.Column(rawValue: $0) }.first
        var filters: [(column: Messages.Column, match: ColumnMatch)] = []
        var nothing = false
        if isPaged {
            for filter in try ListFilters(request, rules).filters {
                if let column = Messages.Column(rawValue: filter.name) {
                    filters.append((column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
                } else if filter.name != "project_id" {
                    nothing = true
                }
            }
        }
        let asked = filters
        let limit = isPaged ? paging.limit : request.service.maxLimit
        let offset = isPaged ? paging.offset : 0
        let found =
            nothing || limit == 0
            ? []
            : try await request.list(isShort: Messages.isShort(asked, order, offset: offset)) {
                try Messages.page(
                    projectID: request.caller.projectID, filters: asked, sort: order, limit: limit, offset: offset,
                    marker: isPaged ? paging.marker : nil, in: $0)
            }
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key("messages")
            writer.beginArray()
            for message in found { view(message, request, &writer) }
            writer.endArray()
            if isPaged, limit > 0, found.count >= limit, let last = found.last {
                request.links.writeNext("messages_links", path: "messages", request: request.http, marker: last.id, &writer)
            }
            writer.endObject()
        }
    }

    private static func view(_ message: Message, _ request: APIRequest, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("id", message.id)
        writer.member("event_id", message.eventID)
        writer.member("user_message", message.text)
        writer.member("message_level", message.level)
        writer.member("created_at", message.createdAt)
        writer.member("guaranteed_until", message.guaranteedUntil)
        writer.member("request_id", message.requestID)
        var id = message.id
        id.withUTF8 { request.links.write("messages/", $0, &writer) }
        if let type = message.resourceType { writer.member("resource_type", type) }
        if let resource = message.resourceID { writer.member("resource_uuid", resource) }
        writer.endObject()
    }
}
