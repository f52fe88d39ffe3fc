import HTTPServer
import JSON
import Policy

/// One operation of the API, said once: the routing, the checks and the documentation derive from this value.
struct APIOperation: Sendable {
    var name: String { route.name }
    /// Carries the name in logs and metrics: `volumes:create`.
    let route: Route
    let method: String
    /// Below `/v3` or `/v3/{project_id}`.
    let path: String
    /// For `POST .../action`: the key of the body.
    var action: String?
    var versions: ClosedRange<Int> = APIVersion.all
    var policies: [Policies.Rule] = []
    /// What who may not is told, where it is not the rule's name.
    var refusal: String?
    /// The body's schema by microversion; the first whose range holds the request's applies.
    var bodies: [(versions: ClosedRange<Int>, schema: Schema)] = []
    var success = 200
    let summary: String
    let handler: @Sendable (APIRequest) async throws -> HTTPResponse

    init(
        _ name: String, _ method: String, _ path: String, action: String? = nil, versions: ClosedRange<Int> = APIVersion.all,
        policies: [Policies.Rule] = [], body: Schema? = nil, bodies: [(versions: ClosedRange<Int>, schema: Schema)] = [],
        success: Int = 200, refusal: String? = nil,
        summary: String, handler: @escaping @Sendable (APIRequest) async throws -> HTTPResponse
    ) {
        route = Route(name)
        self.method = method
        self.path = path
        self.action = action
        self.versions = versions
        self.policies = policies
        self.bodies = body.map { [(APIVersion.all, $0)] } ?? bodies
        self.success = success
        self.refusal = refusal
        self.summary = summary
        self.handler = handler
    }

    func schema(_ version: Int) -> Schema? { bodies.first { $0.versions.contains(version) }?.schema }
}

/// A part of the API that `GET /extensions` lists. It can add operations (actions among them), members to the bodies of
/// other operations, and fields to the views of volumes.
struct APIExtension: Sendable {
    let alias: String
    let name: String
    let description: String
    let updated: String
    var operations: [APIOperation] = []
    /// Members that the bodies of other operations may have, by the operation's name.
    var bodyMembers: [(operation: String, name: String, schema: Schema)] = []
    /// Writes fields behind those of a volume that is shown or listed in detail.
    var volumeFields: VolumeFields?

    typealias VolumeFields = @Sendable (VolumeView.Source, APIRequest, inout JSONWriter) -> Void
}
