import BlockStorage
import HTTPServer
import JSON
import Primitives

/// `/events`: what happens, as it happens, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
/// Beside Cinder's API.
enum EventOperations {
    /// The one operation that a ticket opens.
    static let stream = "events:follow"
    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "clinker-events", name: "Events", description: "Streams what happens to resources and operations as server-sent events.",
            updated: "2026-11-21T00:00:00+00:00",
            operations: [
                APIOperation(
                    stream, "GET", "/events", policies: ["clinker:events_get"], summary: "Follow events", handler: follow),
                APIOperation(
                    "events:ticket", "POST", "/events/tickets", policies: ["clinker:events_get"], success: 201,
                    summary: "Get a ticket for one stream, for clients that cannot send headers"
                ) { request in
                    let ticket = try request.service.tickets.issue(request.identity)
                    return .json(201) { writer in
                        writer.beginObject()
                        writer.key("ticket")
                        writer.beginObject()
                        writer.member("id", ticket)
                        writer.member("expires_at", Timestamp.format(Timestamp.seconds() + StreamTickets.lifetime))
                        writer.endObject()
                        writer.endObject()
                    }
                },
            ])
    ]

    @Sendable private static func follow(_ request: APIRequest) async throws -> HTTPResponse {
        let known: Set<String> = ["all_tenants", "resource_id", "kind", "last_event_id", "ticket"]
        for (name, _) in request.http.query where !known.contains(name) {
            throw HTTPError.badRequest(
                "Invalid filters \(name) are found in query options. Known are \(known.sorted().joined(separator: ", ")).")
        }
        var place: Int64?
        if let text = request.http.header("Last-Event-ID") ?? request.query("last_event_id") {
            guard let number = Int64(text), number >= 0 else {
                throw HTTPError.badRequest("Invalid input received: Last-Event-ID must be the number of an event, not '\(text)'")
            }
            place = number
        }
        let selection = EventHub.Selection(
            projectID: try request.wantsAllProjects() ? nil : request.caller.projectID, resourceID: request.query("resource_id"),
            kind: request.query("kind"), isAdmin: request.identity.isAdmin)
        let owner = request.caller.userID + " " + request.caller.projectID
        var response = HTTPResponse(
            status: 200, body: .stream(try await request.service.events.subscribe(selection, after: place, owner: owner)),
            contentType: "text/event-stream")
        response.headers = [(name: "Cache-Control", value: "no-store"), (name: "X-Accel-Buffering", value: "no")]
        return response
    }
}
