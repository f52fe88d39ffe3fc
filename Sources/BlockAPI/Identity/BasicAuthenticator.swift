public import HTTPServer
public import OpenStack
import Primitives

/// Identity from name and password (RFC 7617): for a service without Keystone and with several users.
public struct BasicAuthenticator: Authenticator {
    private let users: BasicUsers

    public init(_ users: BasicUsers) { self.users = users }

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        if Discovery.isPublic(request) { return .known(nil) }
        let refusal = HTTPError.unauthenticated("Basic realm=\"Block Storage\", charset=\"UTF-8\"")
        guard let (name, password) = Self.credentials(request) else { throw refusal }
        return .waiting { [users] in
            let found: BasicUser?
            do {
                found = try await users.authenticate(
                    name: name, password: password, for: Asker(address: request.remoteAddress, isPresent: { !request.isAbandoned }))
            } catch { throw KeystoneAuthenticator.busy }
            guard let user = found else { throw refusal }
            return Identity(
                userID: user.name, projectID: user.projectID, roles: user.roles,
                mayUnbind: user.roles.contains("admin") || user.roles.contains("service"))
        }
    }

    public func standing(of request: HTTPRequest) -> (any IdentityStanding)? {
        Self.credentials(request).map { Standing(users: users, name: $0.name, user: users.user($0.name)) }
    }

    /// A user is who he was as long as his line of the file is.
    private struct Standing: IdentityStanding {
        let users: BasicUsers
        let name: String
        let user: BasicUser?

        var holds: Bool { user != nil && users.user(name) == user }
        func renew() {}
    }

    private static func credentials(_ request: HTTPRequest) -> (name: String, password: Secret)? {
        guard let header = request.header("Authorization"), header.utf8.count <= 1024, header.lowercased().hasPrefix("basic "),
            let decoded = Base64.decode(header.dropFirst(6).filter { $0 != " " }), let text = String(validating: decoded, as: UTF8.self),
            let colon = text.utf8.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        return (String(text[..<colon]), Secret(String(text[text.utf8.index(after: colon)...])))
    }
}
