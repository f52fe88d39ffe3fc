import BlockStorage
import HTTPServer
import JSON
import Policy
import Primitives

/// `/events`: what happens, as it happens, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
/// Beside Cinder's API.
struct EventResource: Resource {
    let hub: EventHub
    let tickets: StreamTickets
    /// The policies as they are now.
    let policies: @Sendable () -> Policies
    let standing: @Sendable (HTTPRequest) -> (any IdentityStanding)?

    /// The one operation that a ticket opens.
    static let stream = "events:follow"

    private struct Ticket: Sendable {
        let id, expiresAt: String

        static let view = View<Ticket>("ticket", "tickets", [.text("id") { $0.id }, .time("expires_at") { $0.expiresAt }])
    }

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-events", name: "Events",
                description: "Streams what happens to resources and operations as server-sent events.",
                updated: "2026-11-21T00:00:00+00:00",
                operations: [
                    APIOperation(
                        Self.stream, "GET", "/events", policies: ["clinker:events_get"], query: Self.parameters, answers: .stream,
                        summary: "Follow events", handler: follow),
                    APIOperation(
                        "events:ticket", "POST", "/events/tickets", policies: ["clinker:events_get"],
                        answers: .one(Ticket.view, status: 201),
                        summary: "Get a ticket for one stream, for clients that cannot send headers"
                    ) { request in
                        Ticket(
                            id: try tickets.issue(request.identity, standing: standing(request.http)),
                            expiresAt: Timestamp.format(Timestamp.seconds() + StreamTickets.lifetime))
                    },
                ])
        ]
    }

    private static let parameters = [
        APIOperation.Parameter("all_tenants", .text, "For administrators: of all projects."),
        APIOperation.Parameter("kind", .text, "Only events of this kind, or whose kind begins so up to a dot."),
        APIOperation.Parameter("last_event_id", .text, "The number of the last event that was seen, as the header Last-Event-ID."),
        APIOperation.Parameter("resource_id", .text, "Only events of this resource."),
        APIOperation.Parameter("ticket", .text, "A ticket, instead of a token."),
    ]

    @Sendable private func follow(_ request: APIRequest) async throws -> any HTTPStream {
        try FilterNames.check(request.http.query.map(\.name), known: Self.parameters.map(\.name), tellsKnown: true)
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
        // Who would not be let in now is not told more, though he was let in.
        let (standing, policies) = (standing(request.http), policies)
        let (identity, project) = (request.identity, request.caller.projectID)
        return try await hub.subscribe(
            selection, after: place, owner: owner,
            while: { (standing?.holds ?? true) && policies().stillAllows("clinker:events_get", identity, project: project) },
            renew: { standing?.renew() })
    }
}

extension Reply where Output == any HTTPStream {
    /// Events, until the client goes.
    fileprivate static var stream: Reply {
        var answer = Reply(status: 200, shape: nil) { stream, _ in
            var response = HTTPResponse(status: 200, body: .stream(stream), contentType: "text/event-stream")
            response.headers = [(name: "Cache-Control", value: "no-store"), (name: "X-Accel-Buffering", value: "no")]
            return response
        }
        answer.contentType = "text/event-stream"
        return answer
    }
}
