import BlockStorage
import Database
import HTTPServer
import JSON

/// `/messages`, since 3.3.
struct MessageResource: Resource {
    let store: Store

    var operations: [APIOperation] {
        [
            list.operation("messages:list", versions: 3...71, policies: ["message:get_all"], parts: .whole, summary: "List user messages"),
            APIOperation(
                "messages:show", "GET", "/messages/{id}", versions: 3...71, policies: ["message:get"], answers: .one(Self.view),
                summary: "Show a user message"
            ) { request in try await store.read { try Messages.get(request.parameters[0], for: request.caller, in: $0) } },
            APIOperation(
                "messages:delete", "DELETE", "/messages/{id}", versions: 3...71, policies: ["message:delete"],
                answers: .empty(204, as: nil), summary: "Delete a user message"
            ) { request in try await store.write { try Messages.delete(request.parameters[0], caller: request.caller, in: $0) } },
        ]
    }

    static let view = View<Message>(
        "message", "messages",
        [
            .text("id") { $0.id },
            .text("event_id") { $0.eventID },
            .text("user_message") { $0.text },
            .text("message_level") { $0.level },
            .time("created_at") { $0.createdAt },
            .time("guaranteed_until") { $0.guaranteedUntil },
            .text("request_id") { $0.requestID },
            .links("messages/") { message, write in
                var id = message.id
                id.withUTF8 { write($0) }
            },
            Field.text("resource_type") { $0.resourceType ?? "" }.when { $0.resourceType != nil },
            Field.text("resource_uuid") { $0.resourceID ?? "" }.when { $0.resourceID != nil },
        ])

    private var list: List<MessageQuery, Message, [Message]> {
        List(
            store: store, view: Self.view, path: "messages",
            reading: .rules(ListFilters.Rules(resource: "message", allTenants: .notKnown)), linksKey: "messages_links", pagedSince: 5,
            filter: { filter, _, _, query in
                if let column = Messages.Column(rawValue: filter.name) {
                    query.filters.append(
                        (column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
                } else if filter.name != "project_id" {
                    query.matchesNothing = true
                }
            },
            column: { name, _ in Messages.Column(rawValue: name) }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }
}

/// A page of messages. Of several keys the first alone orders it.
private struct MessageQuery: ListQuery {
    typealias Column = Messages.Column
    let projectID: String?
    let limit: Int
    var marker: String?
    var offset = 0
    var sort: [(column: Column, ascending: Bool)] = []
    var filters: [(column: Column, match: ColumnMatch)] = []
    var matchesNothing = false

    init(projectID: String?, limit: Int) {
        self.projectID = projectID
        self.limit = limit
    }

    var isShort: Bool { matchesNothing || Messages.isShort(filters, sort.first, offset: offset) }

    func page(in connection: any Connection) throws -> [Message] {
        guard !matchesNothing, let projectID else { return [] }
        return try Messages.page(
            projectID: projectID, filters: filters, sort: sort.first, limit: limit, offset: offset, marker: marker, in: connection)
    }
}
