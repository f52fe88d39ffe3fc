import Primitives

/// Authenticates requests; which implementation is used depends on `auth_strategy`.
public protocol Authenticator: Sendable {
    /// Authenticates the request, at once or by work that waits.
    ///
    /// - Throws: `HTTPError` 401, or 503 if the identity service cannot be asked.
    func authenticate(_ request: HTTPRequest) throws -> Authentication
    /// What becomes later of the identity that the request's credentials stand for; nil where it stays what it is.
    func standing(of request: HTTPRequest) -> (any IdentityStanding)?
}

extension Authenticator {
    public func standing(of request: HTTPRequest) -> (any IdentityStanding)? { nil }
}

/// An identity under which somebody goes on for long.
public protocol IdentityStanding: Sendable {
    /// Whether it would be found again now, by what is known without asking anybody.
    var holds: Bool { get }
    /// Asks whom there is to ask, if that is due; returns at once.
    func renew()
}

/// The caller, or work that finds it out. nil for paths that need no identity.
public enum Authentication: Sendable {
    case known(Identity?)
    case waiting(@Sendable () async throws -> Identity?)
}

/// Authenticates the request and stores the caller in it.
public struct AuthMiddleware: AdmittingMiddleware {
    private let authenticator: any Authenticator

    public init(_ authenticator: any Authenticator) { self.authenticator = authenticator }

    public func admit(_ request: HTTPRequest) throws -> Admission {
        switch try authenticator.authenticate(request) {
        case .known(let identity):
            request.identity = identity
            return .pass
        case .waiting(let work):
            return .waiting {
                request.identity = try await work()
                return nil
            }
        }
    }
}

/// Everybody is an administrator, as with Cinder's `noauth`: the token is `user:project`. Without a project in the token
/// it is the URL's; without a token the user is `admin`. (Clients told to use no authentication send a token without a colon.)
public struct NoAuthenticator: Authenticator {
    private static let roles = ["admin"]
    private static let withoutToken = identity("admin", nil)

    public init() {}

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        guard let token = request.header("X-Auth-Token"), !token.isEmpty else { return .known(Self.withoutToken) }
        let parts = token.parts(at: ":", maxSplits: 1)
        let user = parts.first.map(String.init) ?? "admin"
        let project = parts.count > 1 ? String(parts[1]) : nil
        guard user.utf8.count <= 255, project?.utf8.count ?? 0 <= 255 else {
            throw HTTPError(401, "The token must be user:project, each of at most 255 characters.")
        }
        return .known(Self.identity(user, project))
    }

    private static func identity(_ user: String, _ project: String?) -> Identity {
        Identity(userID: user, projectID: project, roles: roles, isAdmin: true, takesProjectFromURL: true, mayUnbind: true)
    }
}

/// Treats every caller as the operator: the permissions of the Unix socket decide who can connect.
public struct OperatorAuthenticator: Authenticator {
    public init() {}

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        .known(Identity(userID: "operator", projectID: nil, roles: ["admin"], isAdmin: true, takesProjectFromURL: true, mayUnbind: true))
    }
}
