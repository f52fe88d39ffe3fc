public import Settings

/// Options of `auth_strategy = http_basic`.
public struct BasicUserOptions: DeclaredOptions {
    public let file = Option(
        "http_basic_auth_user_file", default: "/etc/clinker/users",
        help: "auth_strategy http_basic: lines of name:bcrypt hash:project id:role,role; read again when it changes.")

    public init() {}
}

extension Options {
    /// Options of `auth_strategy = http_basic`.
    public static let basicUsers = BasicUserOptions()
}
