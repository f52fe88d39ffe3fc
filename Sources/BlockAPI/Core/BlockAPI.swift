import BlockStorage
public import HTTPServer
import JSON
import Policy
public import Settings

/// The Block Storage API v3: finds the operation of a request in the table, checks the request against its declaration and
/// calls its handler.
public final class BlockAPI: Sendable {
    let table: OperationTable
    private let router: OperationRouter
    private let description: APIDescription
    private let policies: @Sendable () -> Policies
    private let publicEndpoint: String
    /// What answers, for metrics.
    public let routes: [Route]

    public init(_ services: BlockAPIServices, settings: Settings) throws(SettingsError) {
        table = OperationTable(services, settings)
        router = try OperationRouter(table.operations, projectPattern: settings[Options.api.projectIDRegex])
        description = APIDescription(table.operations)
        policies = services.policies
        publicEndpoint = settings[Options.api.publicEndpoint]
        routes = table.operations.map(\.route) + [Discovery.root, Discovery.shown, APIDescription.route]
    }

    /// Throws what the API would refuse of a configuration.
    public static func check(_ settings: Settings) throws(SettingsError) {
        _ = try OperationRouter.projectTest(settings[Options.api.projectIDRegex])
    }

    /// Answers a request whose caller is known. Throws an `HTTPError` or an error that `translate` knows.
    public func answer(_ request: HTTPRequest) throws -> Answer {
        let found: OperationRouter.Endpoint?
        var notServed: String?
        var parameters: [String] = []
        let project: Substring?
        switch router.place(of: request) {
        case .root:
            if let described = try description.respond(request) { return .ready(described) }
            return .ready(try Discovery.respond(request, publicEndpoint: publicEndpoint))
        case .version(let project, let hasSlash):
            return .ready(try Discovery.respondV3(request, publicEndpoint: publicEndpoint, hasSlash: hasSlash, project: project))
        case .nowhere: throw HTTPError.noRoute
        case .resource(let inProject): (found, project) = (nil, inProject)
        case .notServed(let sentence, let inProject): (found, notServed, project) = (nil, sentence, inProject)
        case .endpoint(let endpoint, let encoded, let inProject): (found, parameters, project) = (endpoint, encoded, inProject)
        }

        request.reachedController = true
        request.apiVersionHeader = nil
        let version = try APIVersion.negotiate(request.list("OpenStack-API-Version")) {
            request.apiVersionHeader = StaticText("volume \($0)")
        }
        request.apiVersionHeader = APIVersion.headers[version]

        guard PercentEncoding.isText(request.rawQuery) else {
            throw HTTPError.badRequest("Error decoding your request. The URL's query holds bytes that are no text.")
        }
        guard let endpoint = found else { throw HTTPError.notFound(notServed ?? "The resource could not be found.") }
        guard let asking = request.identity else { throw HTTPError(401, "Authentication required") }
        let projectID = asking.projectID ?? (asking.takesProjectFromURL ? project.map(String.init) ?? asking.userID : nil)
        if let project, project != projectID ?? "" { throw HTTPError.badRequest("Malformed request url") }
        let policies = self.policies()
        let identity = asking.working(
            in: projectID, isAdmin: asking.isAdmin || policies.allows("context_is_admin", asking, project: projectID ?? ""))
        request.identity = identity

        let body = try Self.body(request)
        let operation = try Self.choose(endpoint, version: version, body: body, request)
        request.route = operation.route
        if let schema = operation.schema(version) {
            guard let body else {
                throw HTTPError.badRequest("A request body is required: send JSON with the Content-Type application/json.")
            }
            try schema.check(body)
        }
        for index in parameters.indices {
            guard let decoded = PercentEncoding.decode(parameters[index]), !decoded.utf8.contains(0) else {
                throw HTTPError.badRequest("The URL holds bytes that are no text.")
            }
            parameters[index] = decoded
        }
        let caller = Caller(
            userID: identity.userID, projectID: identity.projectID ?? "", isAdmin: identity.isAdmin, requestID: request.requestID)
        let asked = APIRequest(
            http: request, version: version, parameters: parameters, body: body ?? .null, identity: identity, caller: caller,
            policies: policies, publicEndpoint: publicEndpoint, projectSegment: project)
        for policy in operation.policies where !asked.allows(policy) {
            if let hiding = operation.hiding, !asked.allows(hiding.rule) { throw hiding.error(parameters[0]) }
            if let message = operation.forbiddenMessage { throw HTTPError(403, message) }
            try asked.enforce(policy)
        }
        let handler = operation.handler
        return .waiting { try await handler(asked) }
    }

    /// Names of the operations with the method GET that change something.
    public var changingByGet: Set<String> { Set(table.operations.filter(\.changesByGet).map(\.route.name)) }

    /// Whether a GET is one of those that change something.
    public func changesByGet(_ request: HTTPRequest) -> Bool {
        guard case .endpoint(let endpoint, _, _) = router.place(of: request) else { return false }
        return endpoint.operations.contains(where: \.changesByGet)
    }

    /// Whether the request is for a stream, which a ticket opens.
    public func isForStream(_ request: HTTPRequest) -> Bool {
        guard case .endpoint(let endpoint, _, _) = router.place(of: request) else { return false }
        return endpoint.operations.allSatisfy { $0.route.name == EventResource.stream }
    }

    /// The body as JSON; nil if there is none, or none that says what it is.
    private static func body(_ request: HTTPRequest) throws(HTTPError) -> JSON? {
        guard !request.body.isEmpty else { return nil }
        guard let given = request.header("Content-Type"), !given.isEmpty else { return nil }
        if given != "application/json" {
            let type = String(given.prefix { $0 != ";" }).trimmed.lowercased()
            guard type == "application/json" || type == "application/vnd.openstack.volume+json" else {
                throw HTTPError(415, "Unsupported Content-Type")
            }
        }
        do throws(JSONError) {
            return try JSON(parsing: request.body)
        } catch { throw .badRequest("Malformed request body") }
    }

    private static func choose(_ endpoint: OperationRouter.Endpoint, version: Int, body: JSON?, _ request: HTTPRequest) throws(HTTPError)
        -> APIOperation
    {
        var candidates = endpoint.operations
        if endpoint.isAction {
            guard let names = body?.object?.names, names.count == 1 else { throw .badRequest("Malformed request body") }
            candidates = candidates.filter { $0.action == names[0] }
            guard !candidates.isEmpty else {
                throw .badRequest(
                    "There is no such action: \(names[0]). Verify the request body and Content-Type header and try again.")
            }
        }
        guard let operation = candidates.first(where: { $0.versions.contains(version) }) else {
            throw .notFound("The resource could not be found.")
        }
        return operation
    }
}
