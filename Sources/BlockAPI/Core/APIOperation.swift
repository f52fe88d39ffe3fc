import BlockStorage
import HTTPServer
import JSON
import Policy

/// One operation of the API, said once: routing, checks, the answer's form and the API's description derive from this value.
struct APIOperation: Sendable {
    /// A parameter of the query.
    struct Parameter: Sendable {
        let name: String
        let shape: Shape
        let text: String
        let versions: ClosedRange<Int>

        init(_ name: String, _ shape: Shape, _ text: String, since: Int = 0) {
            self.name = name
            self.shape = shape
            self.text = text
            versions = since...APIVersion.latest
        }
    }

    /// Who may not see a thing learns nothing of it, not even that it is there.
    struct Hiding: Sendable {
        /// Who has not this rule may not know of it.
        let rule: Policies.Rule
        /// What it is told, by the path's first parameter.
        let error: @Sendable (_ id: String) -> StorageError
    }

    /// What an answer holds, as far as it does not depend on who asks.
    struct Success: Sendable {
        let status: Int
        let contentType: String?
        let shape: (@Sendable (_ version: Int) -> Shape)?
        let headers: [(name: String, text: String)]
        let alternatives: [(status: Int, text: String)]
    }

    var name: String { route.name }
    /// Carries the name in logs and metrics: `volumes:create`.
    let route: Route
    let method: String
    /// Below `/v3` or `/v3/{project_id}`.
    let path: String
    /// For `POST .../action`: the key of the body.
    let action: String?
    let versions: ClosedRange<Int>
    let policies: [Policies.Rule]
    /// What who may not is told, where it is not the rule's name.
    let forbiddenMessage: String?
    private(set) var hiding: Hiding?
    let query: [Parameter]
    /// The body's schema by microversion; the first whose range holds the request's applies.
    var bodies: [(versions: ClosedRange<Int>, schema: Schema)]
    let success: Success
    /// Whether it changes something though its method is GET, as some of Cinder's do: no other site's page may ask for it either.
    let changesByGet: Bool
    let summary: String
    let handler: @Sendable (APIRequest) async throws -> HTTPResponse

    init<Output>(
        _ name: String, _ method: String, _ path: String, action: String? = nil, versions: ClosedRange<Int> = APIVersion.all,
        policies: [Policies.Rule] = [], query: [Parameter] = [], body: Schema? = nil,
        bodies: [(versions: ClosedRange<Int>, schema: Schema)] = [], answers: Reply<Output>, forbiddenMessage: String? = nil,
        changesByGet: Bool = false, summary: String, handler: @escaping @Sendable (APIRequest) async throws -> Output
    ) {
        route = Route(name)
        self.method = method
        self.path = path
        self.action = action
        self.versions = versions
        self.policies = policies
        self.query = query
        self.bodies = body.map { [(APIVersion.all, $0)] } ?? bodies
        success = Success(
            status: answers.status, contentType: answers.contentType, shape: answers.shape, headers: answers.headers,
            alternatives: answers.alternatives)
        self.forbiddenMessage = forbiddenMessage
        self.changesByGet = changesByGet
        self.summary = summary
        let respond = answers.respond
        self.handler = { request in try respond(try await handler(request), request) }
    }

    func schema(_ version: Int) -> Schema? { bodies.first { $0.versions.contains(version) }?.schema }

    /// The same, about things that are hidden from who may not see them.
    func hidden(_ hiding: Hiding) -> APIOperation {
        var operation = self
        operation.hiding = hiding
        return operation
    }
}

/// A part of the API that `GET /extensions` lists. It can add operations (actions among them), and members to the bodies of other
/// operations. Fields that it adds to a view stand in that view.
struct APIExtension: Sendable {
    let alias: String
    let name: String
    let description: String
    let updated: String
    var operations: [APIOperation] = []
    /// Members that the bodies of other operations may have, by the operation's name.
    var bodyMembers: [(operation: String, name: String, schema: Schema)] = []
}

/// A group of operations, with all that they need.
protocol Resource: Sendable {
    var operations: [APIOperation] { get }
    var extensions: [APIExtension] { get }
}

extension Resource {
    var operations: [APIOperation] { [] }
    var extensions: [APIExtension] { [] }
}
