import HTTPServer
import Policy

extension Identity: PolicyCredentials {
    public var policyRoles: [String] { roles }
    public var policyServiceRoles: [String] { serviceRoles }
    public var policyIsAdmin: Bool { isAdmin }

    public func policyAttribute(_ name: String) -> String? {
        // What is not known is there as Python's None.
        switch name {
        case "user_id": userID
        case "project_id": projectID ?? "None"
        case "domain_id": domainID ?? "None"
        case "user_domain_id": userDomainID ?? "None"
        case "project_domain_id": projectDomainID ?? "None"
        case "system_scope": isSystemScoped ? "all" : "None"
        // As Keystone says where no project is the admin's.
        case "is_admin_project": "True"
        default: nil
        }
    }
}

extension APIRequest {
    /// Whether the caller may, in the project it works in.
    func allows(_ rule: Policies.Rule) -> Bool { policies.allows(rule, identity, project: caller.projectID) { targetOfCaller($0) } }

    /// Whether the caller may do it to something of the project.
    func allows(_ rule: Policies.Rule, project: String) -> Bool { policies.allows(rule, identity, project: project) }

    /// Throws Cinder's 403 if the caller may not.
    func enforce(_ rule: Policies.Rule) throws(HTTPError) {
        if !allows(rule) { throw HTTPError(403, "Policy doesn't allow \(rule.name) to be performed.") }
    }

    private func targetOfCaller(_ name: String) -> String? { name == "user_id" ? identity.userID : nil }
}

extension Policies {
    /// Whether a caller of some time ago may by the policies as they are now, and is as much of an administrator as he was.
    func stillAllows(_ rule: Policies.Rule, _ identity: Identity, project: String) -> Bool {
        let plain = identity.working(in: identity.projectID, isAdmin: false)
        // Where nobody is asked who he is, no policy makes administrators.
        let isAdmin = identity.takesProjectFromURL || allows("context_is_admin", plain, project: project)
        return isAdmin == identity.isAdmin
            && allows(rule, identity, project: project) { $0 == "user_id" ? identity.userID : nil }
    }
}
