import BlockStorage
import HTTPServer

/// A policy rule with its default, under the name that Cinder documents.
struct PolicyRule: Sendable {
    enum Default: Sendable { case anyone, admin, projectMember, projectReader }
    let name: String
    let standard: Default

    static func admin(_ name: String) -> PolicyRule { PolicyRule(name: name, standard: .admin) }
    static func member(_ name: String) -> PolicyRule { PolicyRule(name: name, standard: .projectMember) }
    static func reader(_ name: String) -> PolicyRule { PolicyRule(name: name, standard: .projectReader) }

    /// Whether the caller may, in the project it works in.
    func allows(_ identity: Identity) -> Bool {
        if identity.isAdmin { return true }
        switch standard {
        case .anyone: return true
        case .admin: return false
        case .projectMember: return identity.roles.contains("member") || identity.roles.contains("manager")
        case .projectReader: return identity.roles.contains { ["reader", "member", "manager"].contains($0) }
        }
    }

    func enforce(_ identity: Identity) throws(HTTPError) {
        if !allows(identity) { throw HTTPError(403, "Policy doesn't allow \(name) to be performed.") }
    }
}
