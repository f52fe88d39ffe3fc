public import HTTPServer
public import OpenStack
public import Primitives

/// Identity from Keystone's tokens, as keystonemiddleware finds it. Headers that claim an identity are never read.
public struct KeystoneAuthenticator: Authenticator {
    private let keystone: Keystone

    public init(_ keystone: Keystone) { self.keystone = keystone }

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        // The versions are for everybody.
        if Discovery.isPublic(request) { return .known(nil) }
        guard let token = request.header("X-Auth-Token"), !token.isEmpty else { throw refusal }
        let serviceToken = request.header("X-Service-Token")
        if serviceToken == nil, let known = keystone.known(token) {
            guard let known else { throw refusal }
            return .known(Self.identity(known))
        }
        return .waiting { try await identity(token, serviceToken: serviceToken, request) }
    }

    /// Asks Keystone where nothing is kept of the tokens.
    private func identity(_ token: String, serviceToken: String?, _ request: HTTPRequest) async throws -> Identity {
        let asker = Asker(address: request.remoteAddress, isPresent: { !request.isAbandoned })
        do {
            var serviceRoles: [String] = []
            if let serviceToken {
                guard let service = try await keystone.validate(serviceToken, for: asker) else { throw refusal }
                let roles = service.roles.filter { keystone.serviceRoles.contains($0) }
                if roles.isEmpty && keystone.requiresServiceRoles { throw refusal }
                serviceRoles = roles
            }
            // Long work outlives the user's token: a service that may vouches for it.
            guard let found = try await keystone.validate(token, for: asker, allowExpired: !serviceRoles.isEmpty) else { throw refusal }
            return Self.identity(found, serviceRoles: serviceRoles)
        } catch let problem as Unavailable {
            throw problem.isBusy ? Self.busy : Self.unavailable
        }
    }

    public func standing(of request: HTTPRequest) -> (any IdentityStanding)? {
        request.header("X-Auth-Token").map {
            KeystoneStanding(keystone, token: Secret($0), isVouchedFor: request.header("X-Service-Token") != nil)
        }
    }

    /// So many wait to be identified that this one has no room.
    static let busy = HTTPError(
        503, "Too many requests wait to be identified. Try again later.", headers: [(name: "Retry-After", value: "1")])

    /// Whether Keystone knows the project, asked with the token of a user who may know.
    public func knowsProject(_ id: String, token: Secret) async throws -> Bool {
        do { return try await keystone.knowsProject(id, token: token) } catch { throw Self.unavailable }
    }

    private static let unavailable = HTTPError(
        503, "The Keystone service is temporarily unavailable.", headers: [(name: "Retry-After", value: "5")])

    private var refusal: HTTPError { .unauthenticated("Keystone uri=\"\(keystone.publicURL)\"") }

    private static func identity(_ token: KeystoneToken, serviceRoles: [String] = []) -> Identity {
        Identity(
            userID: token.userID, projectID: token.projectID, roles: token.roles, domainID: token.domainID,
            userDomainID: token.userDomainID,
            projectDomainID: token.projectDomainID, isSystemScoped: token.isSystemScoped, serviceRoles: serviceRoles,
            mayUnbind: !serviceRoles.isEmpty)
    }
}
