public import BlockStorage
public import Database
public import HTTPServer
import JSON
public import Policy
public import Primitives
public import Settings

/// What the API needs of the rooms below it, and gives to its handlers.
public struct BlockAPIServices: Sendable {
    public var database: any Database
    public var requests: VolumeRequests
    /// Waits for the output of an operation: a connection, as JSON.
    public var result: @Sendable (_ operationID: String) async throws -> JSON
    /// The pools as they are now.
    public var pools: @Sendable (any Connection) throws -> [PoolState]
    /// Compares database, operation log and backends; repairs what is safe if told to.
    public var examine: @Sendable (_ repair: Bool) async throws -> JSON
    /// The policies as they are now.
    public var policies: @Sendable () -> Policies
    public var scheduler: Scheduler
    /// Everything that a backend holds, as its driver lists it.
    public var listBackend: @Sendable (_ host: String, _ requestID: String) async throws -> JSON
    /// Whether the identity service knows the project; true where nobody can say.
    public var projectExists: @Sendable (_ project: String, _ token: Secret) async throws -> Bool = { _, _ in true }
    /// The attachment by which an instance uses a volume, as the compute service says it to the bearer of the token; nil if it does not.
    /// Throws where that cannot be found out.
    public var attachmentInUse: @Sendable (_ instance: String, _ volume: String, _ token: Secret) async throws -> String? = {
        instance, _, _ in throw DetachPermit.conflict(instance)
    }
    /// The levels of the log by logger, and how to set them.
    public var logLevels: LogLevels
    public var operations: OperationDoors
    public var events: EventHub
    public var tickets: StreamTickets
    public var longReads: LongReads

    public init(
        database: any Database, requests: VolumeRequests, result: @escaping @Sendable (_ operationID: String) async throws -> JSON,
        pools: @escaping @Sendable (any Connection) throws -> [PoolState],
        examine: @escaping @Sendable (_ repair: Bool) async throws -> JSON,
        policies: @escaping @Sendable () -> Policies, scheduler: Scheduler,
        listBackend: @escaping @Sendable (_ host: String, _ requestID: String) async throws -> JSON, logLevels: LogLevels,
        operations: OperationDoors, events: EventHub, tickets: StreamTickets, longReads: LongReads
    ) {
        self.database = database
        self.requests = requests
        self.result = result
        self.pools = pools
        self.examine = examine
        self.policies = policies
        self.scheduler = scheduler
        self.listBackend = listBackend
        self.logLevels = logLevels
        self.operations = operations
        self.events = events
        self.tickets = tickets
        self.longReads = longReads
    }
}

/// The Block Storage API v3: finds the operation of a request in the table, checks the request against its declaration and
/// calls its handler.
public final class BlockAPI: Sendable {
    let database: any Database
    let requests: VolumeRequests
    let result: @Sendable (String) async throws -> JSON
    let pools: @Sendable (any Connection) throws -> [PoolState]
    let examine: @Sendable (Bool) async throws -> JSON
    private let policies: @Sendable () -> Policies
    let scheduler: Scheduler
    let listBackend: @Sendable (String, String) async throws -> JSON
    let projectExists: @Sendable (String, Secret) async throws -> Bool
    let attachmentInUse: @Sendable (String, String, Secret) async throws -> String?
    let logLevels: LogLevels
    let operations: OperationDoors
    let events: EventHub
    let tickets: StreamTickets
    let longReads: LongReads
    let snapshotSameHost: Bool
    let maxLimit: Int
    let defaultType: String
    let serviceDownTime: Int
    let publicEndpoint: String
    let extensions: [APIExtension]
    let volumeFields: [APIExtension.VolumeFields]
    private let router: Router<Endpoint>
    /// The first names of the paths, and whether they have members.
    private let resources: [Substring: Bool]
    /// What answers, for metrics.
    public let routes: [Route]
    private let isProject: @Sendable (Substring) -> Bool

    /// Everything behind one method and path: one operation, or several told apart by action and microversion.
    private final class Endpoint: Sendable {
        let operations: [APIOperation]
        let isAction: Bool
        init(_ operations: [APIOperation]) {
            self.operations = operations
            isAction = operations.contains { $0.action != nil }
        }
    }

    public init(_ services: BlockAPIServices, settings: Settings) throws(SettingsError) {
        database = services.database
        requests = services.requests
        result = services.result
        pools = services.pools
        examine = services.examine
        policies = services.policies
        scheduler = services.scheduler
        listBackend = services.listBackend
        projectExists = services.projectExists
        attachmentInUse = services.attachmentInUse
        logLevels = services.logLevels
        operations = services.operations
        events = services.events
        tickets = services.tickets
        longReads = services.longReads
        snapshotSameHost = settings[Options.snapshotSameHost]
        maxLimit = settings[Options.maxLimit]
        defaultType = settings[Options.defaultVolumeType]
        serviceDownTime = settings[Options.serviceDownTime]
        publicEndpoint = settings[Options.publicEndpoint]
        extensions = OperationTable.extensions
        volumeFields = extensions.compactMap(\.volumeFields)
        isProject = try Self.projectTest(settings[Options.projectIDRegex])
        var endpoints: [(method: String, path: String, operations: [APIOperation])] = []
        let operations = OperationTable.operations(OperationTable.extensions)
        var resources: [Substring: Bool] = [:]
        for operation in operations {
            let names = operation.path.split(separator: "/")
            guard let name = names.first else { continue }
            resources[name] = (resources[name] ?? false) || (names.count > 1 && names[1].hasPrefix("{"))
        }
        // In Cinder these are paths of their own, not resources.
        resources["os-services"] = nil
        resources["default-types"] = nil
        self.resources = resources
        routes = operations.map(\.route) + [Discovery.root, Discovery.shown]
        for operation in operations {
            if let index = endpoints.firstIndex(where: { $0.method == operation.method && $0.path == operation.path }) {
                endpoints[index].operations.append(operation)
            } else {
                endpoints.append((operation.method, operation.path, [operation]))
            }
        }
        var router = Router<Endpoint>()
        for endpoint in endpoints { router.add(endpoint.method, endpoint.path, Endpoint(endpoint.operations)) }
        self.router = router
    }

    /// Answers a request whose caller is known. Throws an `HTTPError` or an error that `translate` knows.
    public func answer(_ request: HTTPRequest) throws -> Answer {
        let found: Endpoint?
        var notServed: String?
        let raw: [Substring]
        let project: Substring?
        switch place(of: request) {
        case .root: return .ready(try Discovery.respond(request, publicEndpoint: publicEndpoint))
        case .version(let project, let hasSlash):
            return .ready(try Discovery.respondV3(request, publicEndpoint: publicEndpoint, hasSlash: hasSlash, project: project))
        case .nowhere: throw HTTPError.noRoute
        case .resource(let inProject): (found, raw, project) = (nil, [], inProject)
        case .notServed(let sentence, let inProject): (found, notServed, raw, project) = (nil, sentence, [], inProject)
        case .endpoint(let endpoint, let parameters, let inProject): (found, raw, project) = (endpoint, parameters, inProject)
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
        var parameters: [String] = []
        for parameter in raw {
            guard let decoded = PercentEncoding.decode(parameter), !decoded.utf8.contains(0) else {
                throw HTTPError.badRequest("The URL holds bytes that are no text.")
            }
            parameters.append(decoded)
        }
        let caller = Caller(
            userID: identity.userID, projectID: identity.projectID ?? "", isAdmin: identity.isAdmin, requestID: request.requestID)
        let asked = APIRequest(
            http: request, service: self, version: version, parameters: parameters, body: body ?? .null, identity: identity, caller: caller,
            policies: policies, links: Links(request, publicEndpoint: publicEndpoint, projectSegment: project))
        for policy in operation.policies where !asked.allows(policy) {
            // Who may not see a volume learns nothing of it.
            if operation.path.hasPrefix("/volumes/{"), !asked.allows("volume:get") { throw StorageError.volumeNotFound(parameters[0]) }
            if let refusal = operation.refusal { throw HTTPError(403, refusal) }
            try asked.enforce(policy)
        }
        return .waiting { try await operation.handler(asked) }
    }

    private enum Place {
        case root
        case version(project: Substring?, hasSlash: Bool)
        case endpoint(Endpoint, parameters: [Substring], project: Substring?)
        /// A resource that has not the method.
        case resource(project: Substring?)
        /// What Cinder serves and this release does not, as it is said to clients.
        case notServed(String, project: Substring?)
        case nowhere
    }

    /// What the method and the path lead to.
    private func place(of request: HTTPRequest) -> Place {
        let path = request.rawPath
        guard path.utf8.starts(with: "/v3".utf8) else { return .root }
        var segments = request.segments.dropFirst(2)
        guard path.utf8.count == 3 || path.utf8.dropFirst(3).first == UInt8(ascii: "/") else { return .nowhere }
        let hadTrailingSlash = segments.last == ""
        if hadTrailingSlash { segments = segments.dropLast() }
        var project: Substring?
        if let first = segments.first, isProject(first) {
            project = first
            segments = segments.dropFirst()
        }
        if segments.isEmpty { return .version(project: project, hasSlash: hadTrailingSlash) }
        // An empty id names nothing: it is not the list that it would follow.
        guard !hadTrailingSlash else { return .nowhere }
        if let last = segments.last, last.utf8.last == UInt8(ascii: "n"), last.hasSuffix(".json") {
            segments[segments.endIndex - 1] = last.dropLast(5)
        }
        guard let (endpoint, parameters) = router.find(request.method, segments) else {
            if let sentence = NotServed.sentence(ofPath: segments) { return .notServed(sentence, project: project) }
            return hasResource(request.method, segments) ? .resource(project: project) : .nowhere
        }
        return .endpoint(endpoint, parameters: parameters, project: project)
    }

    /// Whether the request is for a stream, which a ticket opens.
    public func isForStream(_ request: HTTPRequest) -> Bool {
        guard case .endpoint(let endpoint, _, _) = place(of: request) else { return false }
        return endpoint.operations.allSatisfy { $0.route.name == EventOperations.stream }
    }

    /// Whether a resource of the name is there that has not this method: that is told as the resource's own answer.
    private func hasResource(_ method: String, _ segments: ArraySlice<Substring>) -> Bool {
        guard let name = segments.first, let hasMembers = resources[name] else { return false }
        switch segments.count {
        case 1: return method == "GET" || method == "POST"
        case 2: return hasMembers && ["GET", "PUT", "DELETE"].contains(method)
        default: return false
        }
    }

    /// The body as JSON; nil if there is none, or none that says what it is.
    private static func body(_ request: HTTPRequest) throws(HTTPError) -> JSON? {
        guard !request.body.isEmpty else { return nil }
        guard let given = request.header("Content-Type"), !given.isEmpty else { return nil }
        let type = String(given.prefix { $0 != ";" }).trimmed.lowercased()
        guard type == "application/json" || type == "application/vnd.openstack.volume+json" else {
            throw HTTPError(415, "Unsupported Content-Type")
        }
        do throws(JSONError) {
            return try JSON(parsing: request.body)
        } catch { throw .badRequest("Malformed request body") }
    }

    private static func choose(_ endpoint: Endpoint, version: Int, body: JSON?, _ request: HTTPRequest) throws(HTTPError) -> APIOperation {
        var candidates = endpoint.operations
        if endpoint.isAction {
            guard let names = body?.object?.names, names.count == 1 else { throw .badRequest("Malformed request body") }
            candidates = candidates.filter { $0.action == names[0] }
            guard !candidates.isEmpty else {
                if let sentence = NotServed.sentence(ofAction: names[0], path: endpoint.operations[0].path) { throw .badRequest(sentence) }
                throw .badRequest(
                    "There is no such action: \(names[0]). Verify the request body and Content-Type header and try again.")
            }
        }
        guard let operation = candidates.first(where: { $0.versions.contains(version) }) else {
            throw .notFound("The resource could not be found.")
        }
        return operation
    }

    /// Errors of the domain as answers.
    public static func translate(_ error: any Error) -> HTTPError? {
        if let error = error as? StorageError {
            let status =
                switch error.kind {
                case .invalid: 400
                case .forbidden: 403
                case .notFound: 404
                case .conflict: 409
                case .overQuota: 413
                case .unavailable: 503
                case .timeout: 502
                case .failed: 500
                }
            return HTTPError(status, error.message)
        }
        if let error = error as? DatabaseError, [.full, .readOnly, .io].contains(error.kind) {
            return HTTPError(503, "The database cannot be written now. Try again later.", headers: [(name: "Retry-After", value: "30")])
        }
        if let error = error as? DatabaseError, error.kind == .busy {
            return HTTPError(
                503, "Too many long lists are being read. Try again later, or ask for less: the newest first, without a count.",
                headers: [(name: "Retry-After", value: "5")])
        }
        if let error = error as? DatabaseError, error.kind == .tooLong {
            return HTTPError(
                503, "The answer took longer to find than query_timeout allows. Ask for less: by other filters, or in another order.")
        }
        return nil
    }

    /// Throws what the API would refuse of a configuration.
    public static func check(_ settings: Settings) throws(SettingsError) { _ = try projectTest(settings[Options.projectIDRegex]) }

    private static func projectTest(_ pattern: String) throws(SettingsError) -> @Sendable (Substring) -> Bool {
        if pattern == "[0-9a-f\\-]+" {
            return { segment in
                segment.utf8.withContiguousStorageIfAvailable { bytes in
                    for byte in bytes where !((byte >= 48 && byte <= 57) || (byte >= 97 && byte <= 102) || byte == UInt8(ascii: "-")) {
                        return false
                    }
                    return !bytes.isEmpty
                } ?? false
            }
        }
        do {
            _ = try Regex(pattern)
            return { segment in ((try? Regex(pattern).wholeMatch(in: segment)) ?? nil) != nil }
        } catch {
            throw SettingsError(["[DEFAULT] project_id_regex is no regular expression: \(error)"])
        }
    }
}
