import CDriver
import DriverKit
import Glibc
import ObjectServers

/// What a store's section says of Swift, the account and the container.
struct SwiftOptions: Sendable {
    private static let auth = DriverOption(
        "backup_swift_auth", default: "per_user", choices: ["per_user", "single_user"],
        help: "Whose account keeps the backups; single_user: that of backup_swift_user. The token of a request does not last for a backup.")
    private static let authURL = DriverOption(
        "backup_swift_auth_url", default: "", help: "URL of the authentication: Keystone's, or Swift's own.")
    private static let authVersion = DriverOption(
        "backup_swift_auth_version", default: "1", choices: ["1", "1.0", "3", "3.0"], help: "1: Swift's own authentication; 3: Keystone.")
    private static let user = DriverOption("backup_swift_user", default: "", help: "User.")
    private static let key = DriverOption("backup_swift_key", default: "", isSecret: true, help: "The user's password.")
    private static let tenant = DriverOption(
        "backup_swift_tenant", default: "", help: "The user's project, if backup_swift_project is not set.")
    private static let project = DriverOption("backup_swift_project", default: "", help: "Project whose account it is, by its name.")
    private static let userDomain = DriverOption("backup_swift_user_domain", default: "", help: "Domain of the user; Default if empty.")
    private static let projectDomain = DriverOption(
        "backup_swift_project_domain", default: "", help: "Domain of the project; Default if empty.")
    private static let region = DriverOption("backup_swift_region_name", default: "", help: "Region of Swift in Keystone's catalogue.")
    private static let catalogue = DriverOption(
        "swift_catalog_info", default: "object-store:swift:publicURL",
        help: "Which of the catalogue's endpoints is taken: its type, name and interface.")
    private static let container = DriverOption(
        "backup_swift_container", default: "volumebackups",
        help: "Container of the objects; it is made if backup_create_containers says so.")
    private static let makesContainer = DriverOption(
        "backup_create_containers", default: true, help: "Make the container if it is not there.")
    private static let storagePolicy = DriverOption(
        "backup_swift_create_storage_policy", default: "", help: "Storage policy of a container that is made.")
    private static let objectSize = DriverOption(
        "backup_swift_object_size", default: 52_428_800, in: 512...1_000_000_000_000,
        help: "Bytes of the volume in one object of Cinder's format; a multiple of backup_swift_block_size. More than 32 MiB means 32 MiB.")
    private static let blockSize = DriverOption(
        "backup_swift_block_size", default: 32_768, in: 512...16_777_216,
        help: "Bytes of the volume that one hash of Cinder's format covers.")
    private static let attempts = DriverOption(
        "backup_swift_retry_attempts", default: 3, in: 0...20, help: "How often a request is repeated that met trouble which may pass.")
    private static let backoff = DriverOption(
        "backup_swift_retry_backoff", default: 2, in: 0...60,
        help: "Seconds before the first repetition; before each further one twice as many.")
    private static let authorities = DriverOption(
        "backup_swift_ca_cert_file", default: "", help: "PEM file of certificate authorities; the system's if empty.")
    private static let isInsecure = DriverOption("backup_swift_auth_insecure", default: false, help: "Do not verify certificates.")
    private static let timeout = DriverOption(
        "backup_swift_timeout", default: 60.0, in: 1...3600,
        help: "Seconds for a connection to be made, and without a byte after which a request is given up and repeated.")
    private static let connections = DriverOption("backup_swift_connections", default: 10, in: 1...256, help: "Most requests at a time.")

    static let declarations =
        [
            auth.declaration, authURL.declaration, authVersion.declaration, user.declaration, key.declaration, tenant.declaration,
            project.declaration, userDomain.declaration, projectDomain.declaration, region.declaration, catalogue.declaration,
            container.declaration, makesContainer.declaration, storagePolicy.declaration, objectSize.declaration, blockSize.declaration,
            attempts.declaration, backoff.declaration, authorities.declaration, isInsecure.declaration, timeout.declaration,
            connections.declaration,
        ]
        + DriverOptionDeclaration.withoutEffect([
            "backup_swift_url": "the account's URL is that of the authentication, as in Cinder for single_user",
            "keystone_catalog_info": "set backup_swift_auth_url",
            "backup_swift_service_auth": "service tokens go with those of users, and there are none",
            "backup_swift_enable_progress_timer": "progress is told by the operation's steps, not by notifications",
        ])

    let authURL: ServerAddress
    let isKeystone: Bool
    let user, key, project, userDomain, projectDomain, region: String
    /// What is looked for in the catalogue.
    let serviceType, interface: String
    let container: String
    let makesContainer: Bool
    let storagePolicy: String
    let attempts: Attempts
    let reach: HTTPReach

    init(_ call: Call) throws {
        func wrong(_ words: String) -> DriverError { DriverError(CLINKER_BAD_CONFIGURATION, words) }
        guard try call[Self.auth].lowercased() == "single_user" else {
            throw wrong(
                "backup_swift_auth = per_user (the default) needs the token of the user who asks, which ends before a backup may, and of which none is kept: set backup_swift_auth = single_user with backup_swift_auth_url, backup_swift_user and backup_swift_key"
            )
        }
        let url = try call[Self.authURL]
        guard !url.isEmpty else { throw wrong("backup_swift_auth_url is not set") }
        authURL = try ServerAddress(url, option: "backup_swift_auth_url")
        isKeystone = try call[Self.authVersion].hasPrefix("3")
        user = try call[Self.user]
        key = try call[Self.key]
        guard !user.isEmpty else { throw wrong("backup_swift_user is not set") }
        guard !key.isEmpty else { throw wrong("backup_swift_key is not set") }
        for (text, option) in [(user, "backup_swift_user"), (key, "backup_swift_key")]
        where !text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) { throw wrong("\(option) has control characters") }
        let named = try call[Self.project]
        project = named.isEmpty ? try call[Self.tenant] : named
        if isKeystone, project.isEmpty { throw wrong("backup_swift_project is not set") }
        userDomain = try call.given(Self.userDomain) ?? "Default"
        projectDomain = try call.given(Self.projectDomain) ?? "Default"
        region = try call[Self.region]
        let words = try call[Self.catalogue].split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 3, !words[0].isEmpty else {
            throw wrong("swift_catalog_info must be <service type>:<service name>:<interface>")
        }
        serviceType = words[0]
        interface = words[2].hasSuffix("URL") ? String(words[2].dropLast(3)) : words[2]
        container = try call[Self.container]
        guard (1...256).contains(container.utf8.count), container.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "/") }),
            !container.hasPrefix(".")
        else { throw wrong("backup_swift_container must be a name without slashes and spaces") }
        makesContainer = try call[Self.makesContainer]
        storagePolicy = try call[Self.storagePolicy]
        let (size, block) = (try call[Self.objectSize], try call[Self.blockSize])
        guard size % block == 0 else {
            throw wrong("backup_swift_object_size must be a multiple of backup_swift_block_size: \(size) is none of \(block)")
        }
        attempts = Attempts(try call[Self.attempts] + 1, first: Double(try call[Self.backoff]))
        var reach = HTTPReach()
        reach.timeout = try call[Self.timeout]
        reach.connections = try call[Self.connections]
        reach.isInsecure = try call[Self.isInsecure]
        let file = try call[Self.authorities]
        if !file.isEmpty {
            guard access(file, R_OK) == 0 else {
                throw DriverError.last(CLINKER_BAD_CONFIGURATION, "backup_swift_ca_cert_file: \(file) cannot be read")
            }
            reach.authorities = file
        }
        self.reach = reach
    }
}
