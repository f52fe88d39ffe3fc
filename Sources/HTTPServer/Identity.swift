/// The authenticated caller. A class, since it is passed on many times while a request is handled.
public final class Identity: Sendable {
    public let userID: String
    /// The project the caller works in; nil for a system scope.
    public let projectID: String?
    public let roles: [String]
    public let isAdmin: Bool
    /// The domain that a token is scoped to.
    public let domainID: String?
    public let userDomainID: String?
    public let projectDomainID: String?
    public let isSystemScoped: Bool
    /// Whether the project of the URL is used if the identity has none.
    public let takesProjectFromURL: Bool
    /// Roles of the service that forwards a user's request, from its own token (`X-Service-Token`).
    public let serviceRoles: [String]
    /// Whether the caller may remove an instance's attachment without asking Nova: true for a service with its own token, and for
    /// administrators where no identity service exists.
    public let mayUnbind: Bool

    public init(
        userID: String, projectID: String?, roles: [String], isAdmin: Bool = false, domainID: String? = nil, userDomainID: String? = nil,
        projectDomainID: String? = nil, isSystemScoped: Bool = false, takesProjectFromURL: Bool = false, serviceRoles: [String] = [],
        mayUnbind: Bool = false
    ) {
        self.userID = userID
        self.projectID = projectID
        self.roles = roles
        self.isAdmin = isAdmin
        self.domainID = domainID
        self.userDomainID = userDomainID
        self.projectDomainID = projectDomainID
        self.isSystemScoped = isSystemScoped
        self.takesProjectFromURL = takesProjectFromURL
        self.serviceRoles = serviceRoles
        self.mayUnbind = mayUnbind
    }

    /// A copy for a project, with or without administrator rights.
    public func working(in projectID: String?, isAdmin: Bool) -> Identity {
        if projectID == self.projectID, isAdmin == self.isAdmin { return self }
        return Identity(
            userID: userID, projectID: projectID, roles: roles, isAdmin: isAdmin, domainID: domainID, userDomainID: userDomainID,
            projectDomainID: projectDomainID, isSystemScoped: isSystemScoped, takesProjectFromURL: takesProjectFromURL,
            serviceRoles: serviceRoles, mayUnbind: mayUnbind)
    }
}
