public import Settings
import Primitives

/// Options of `[keystone_authtoken]`: how Keystone is reached, and which account asks it.
public struct KeystoneOptions: DeclaredOptions {
    public let authURLs = Option(
        "auth_url", in: .group("keystone_authtoken"), default: [String](), help: "Keystone; several URLs are tried one after the other.")
    public let wwwAuthenticateURI = KeystoneOptions.text("www_authenticate_uri", help: "Where clients whose token is refused are sent.")
    public let authType = Option(
        "auth_type", in: .group("keystone_authtoken"), default: "password", choices: ["password", "v3password", "v3applicationcredential"],
        help: "How Clinker identifies itself.")
    public let username = KeystoneOptions.text("username", help: "Clinker's own account.")
    public let userID = KeystoneOptions.text("user_id", help: "Its id, instead of name and domain.")
    public let password = Option(
        "password", in: .group("keystone_authtoken"), default: Secret(""), help: "Its password.")
    public let userDomainName = KeystoneOptions.text("user_domain_name", help: "Its domain; Default if empty.")
    public let userDomainID = KeystoneOptions.text("user_domain_id", help: "The domain's id, instead of its name.")
    public let projectName = KeystoneOptions.text("project_name", help: "Project that Clinker's own token is for.")
    public let projectID = KeystoneOptions.text("project_id", help: "Its id, instead of name and domain.")
    public let projectDomainName = KeystoneOptions.text("project_domain_name", help: "Its domain; Default if empty.")
    public let projectDomainID = KeystoneOptions.text("project_domain_id", help: "The domain's id, instead of its name.")
    public let systemScope = KeystoneOptions.text(
        "system_scope", help: "all: Clinker's own token is for the system instead of a project.")
    public let applicationID = KeystoneOptions.text("application_credential_id", help: "auth_type v3applicationcredential: its id.")
    public let applicationName = KeystoneOptions.text("application_credential_name", help: "Its name, with username and domain.")
    public let applicationSecret = Option(
        "application_credential_secret", in: .group("keystone_authtoken"), default: Secret(""), help: "Its secret.")
    public let caFile = KeystoneOptions.text(
        "cafile", help: "PEM file of the authorities that Keystone's certificate is checked against.")
    public let certFile = KeystoneOptions.text("certfile", help: "PEM file of the certificate that Clinker shows.")
    public let keyFile = KeystoneOptions.text("keyfile", help: "PEM file of its key.")
    public let insecure = Option(
        "insecure", in: .group("keystone_authtoken"), default: false, help: "Any certificate is believed.")
    public let connectTimeout = Option(
        "http_connect_timeout", in: .group("keystone_authtoken"), default: 5, range: 1...600, help: "Seconds for a connection to Keystone.")
    public let requestTimeout = Option(
        "http_request_timeout", in: .group("keystone_authtoken"), default: 20, range: 1...600, help: "Seconds for a request to Keystone.")
    public let retries = Option(
        "http_request_max_retries", in: .group("keystone_authtoken"), default: 3, range: 0...100,
        help: "Repetitions of a request that failed.")
    public let tokenCacheTime = Option(
        "token_cache_time", in: .group("keystone_authtoken"), default: 300, range: -1...86_400,
        help: "Seconds for which a token is believed (and one that is not valid refused) without asking; -1: always ask.")
    public let serviceTokenRoles = Option(
        "service_token_roles", in: .group("keystone_authtoken"), default: ["service"],
        help: "Roles of services whose token counts beside their user's.")
    public let serviceTokenRolesRequired = Option(
        "service_token_roles_required", in: .group("keystone_authtoken"), default: false,
        help: "Refuse requests whose service token has none of these roles.")

    public init() {}

    private static func text(_ name: String, help: String) -> Option<String> {
        Option(name, in: .group("keystone_authtoken"), default: "", help: help)
    }
}

extension Options {
    /// Options of `[keystone_authtoken]`: how Keystone is reached, and which account asks it.
    public static let keystone = KeystoneOptions()
}
