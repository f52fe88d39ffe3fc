import BlockStorage
import HTTPServer
import JSON
import Policy

/// A request after routing: the operation's parameters, the checked body, who asks. A class, since it is passed on many times and through
/// calls that may wait, each of which would keep a copy.
final class APIRequest: Sendable {
    let http: HTTPRequest
    let version: Int
    /// The parameters of the path, in order, decoded.
    let parameters: [String]
    let body: JSON
    let identity: Identity
    let caller: Caller
    let policies: Policies
    let publicEndpoint: String
    /// The project's id, if the path had it.
    let projectSegment: Substring?

    init(
        http: HTTPRequest, version: Int, parameters: [String], body: JSON, identity: Identity, caller: Caller, policies: Policies,
        publicEndpoint: String, projectSegment: Substring?
    ) {
        self.http = http
        self.version = version
        self.parameters = parameters
        self.body = body
        self.identity = identity
        self.caller = caller
        self.policies = policies
        self.publicEndpoint = publicEndpoint
        self.projectSegment = projectSegment
    }

    /// What stands before a resource's name in links: made anew each time.
    var links: Links { Links(http, publicEndpoint: publicEndpoint, projectSegment: projectSegment) }

    func query(_ name: String) -> String? { http.queryValue(name) }

    /// Refuses a request that names neither or both of a host and a cluster, which the version may not know yet.
    func oneOf(host: String, cluster: String, since first: Int) throws(HTTPError) {
        guard host.isEmpty == (version >= first ? cluster.isEmpty : true) else { return }
        throw .badRequest(
            "Invalid input received: " + (version >= first ? "One and only one of cluster and host must be set." : "Host field is missing.")
        )
    }

    /// Whether the caller asks for, and may see, all projects.
    func wantsAllProjects() throws(HTTPError) -> Bool { identity.isAdmin ? try flag("all_tenants") : false }
}
