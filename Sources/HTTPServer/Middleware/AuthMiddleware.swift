import Primitives

/// Finds out who asks. Which way of doing so is used is a matter of configuration.
public protocol Authenticator: Sendable {
    /// Throws an `HTTPError` 401 (or 503 if it cannot find out), at once or later.
    func authenticate(_ request: HTTPRequest) throws -> Authentication
}

/// Who asks, or work that finds it out. nil for paths that need no identity.
public enum Authentication: Sendable {
    case known(Identity?)
    case waiting(@Sendable () async throws -> Identity?)
}

/// Puts the caller's identity on the request.
public struct AuthMiddleware: Middleware {
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

    public init() {}

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        var user = "admin"
        var project: String?
        if let token = request.header("X-Auth-Token"), !token.isEmpty {
            let parts = token.parts(at: ":", maxSplits: 1)
            user = parts.first.map(String.init) ?? "admin"
            project = parts.count > 1 ? String(parts[1]) : nil
            guard user.utf8.count <= 255, project?.utf8.count ?? 0 <= 255 else {
                throw HTTPError(401, "The token must be user:project, each of at most 255 characters.")
            }
        }
        return .known(
            Identity(userID: user, projectID: project, roles: Self.roles, isAdmin: true, takesProjectFromURL: true, mayUnbind: true))
    }
}

/// Whoever reaches this server is the operator: its socket's permissions say who may.
public struct OperatorAuthenticator: Authenticator {
    public init() {}

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        .known(Identity(userID: "operator", projectID: nil, roles: ["admin"], isAdmin: true, takesProjectFromURL: true, mayUnbind: true))
    }
}
