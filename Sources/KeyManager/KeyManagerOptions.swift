import Primitives
public import Settings

/// Options of `[key_manager]`: who keeps the keys of encrypted volumes.
public struct KeyManagerOptions: DeclaredOptions {
    public let backend = Option(
        "backend", in: .group("key_manager"), default: "file", choices: ["file"] + Self.barbicanNames + Self.fixedNames,
        help: "Who keeps the keys of encrypted volumes: files in the state directory, Barbican, or the one fixed_key.")
    public let fixedKey = Option(
        "fixed_key", in: .group("key_manager"), default: Secret(""),
        help: "Hexadecimal digits of the one key of all volumes; beside another backend, of the volumes that had it before.")

    static let barbicanNames = [
        "barbican", "castellan.key_manager.barbican_key_manager.BarbicanKeyManager",
        "barbican.BarbicanKeyManager",
    ]
    static let fixedNames = ["fixed", "cinder.keymgr.conf_key_mgr.ConfKeyManager"]

    public init() {}
}

/// Options of `[barbican]`: how it is found and reached.
public struct BarbicanOptions: DeclaredOptions {
    public let endpoint = Option(
        "barbican_endpoint", in: .group("barbican"), default: "", rule: .httpURL,
        help: "Barbican's URL without a version; looked up in Keystone's catalogue if empty.")
    public let version = Option(
        "barbican_api_version", in: .group("barbican"), default: "v1", choices: ["v1"], help: "Version of its API.")
    public let endpointType = Option(
        "barbican_endpoint_type", in: .group("barbican"), default: "public", choices: ["public", "internal", "admin"],
        help: "Which of its endpoints in the catalogue is asked.")
    public let region = Option(
        "barbican_region_name", in: .group("barbican"), default: "", help: "Its region in the catalogue; the first if empty.")
    public let retries = Option(
        "number_of_retries", in: .group("barbican"), default: 60, range: 0...1000,
        help: "Repetitions of a request that it does not answer, or with 5xx.")
    public let retryDelay = Option(
        "retry_delay", in: .group("barbican"), default: 1, range: 0...600, help: "Seconds before each.")
    public let verifiesTLS = Option(
        "verify_ssl", in: .group("barbican"), default: true, help: "Its certificate is verified.")
    public let authorities = Option(
        "verify_ssl_path", in: .group("barbican"), default: "", help: "PEM file of the authorities that its certificate is checked against."
    )

    public init() {}
}

extension Options {
    /// Options of `[key_manager]`: who keeps the keys of encrypted volumes.
    public static let keyManager = KeyManagerOptions()
    /// Options of `[barbican]`: how it is found and reached.
    public static let barbican = BarbicanOptions()
}

/// The key manager that a configuration asks for.
public enum KeyManagers {
    /// - Parameters:
    ///   - stateDirectory: where a file store has its directory, `keys`.
    ///   - access: Clinker's own tokens and the catalogue; nil without Keystone.
    ///   - waiting: is told where the manager does not answer.
    public static func configured(
        _ settings: Settings, stateDirectory: String, access: (any KeyServiceAccess)?, waiting: (any KeyWaiting)? = nil
    ) throws(SettingsError) -> any KeyManager {
        let fixed = try fixedKey(settings, isAlone: isFixed(settings))
        if let fixed, isFixed(settings) { return fixed }
        let manager: any KeyManager
        if isBarbican(settings) {
            guard let access else { throw needsKeystone }
            manager = Barbican(settings, access: access, waiting: waiting)
        } else {
            manager = FileKeyStore(stateDirectory + "/keys")
        }
        return fixed.map { KeyManagerBesideFixedKey(manager, $0) } ?? manager
    }

    /// Finds what is wrong with a configuration, without network and files.
    ///
    /// - Parameter hasKeystone: whether there will be tokens.
    public static func check(_ settings: Settings, hasKeystone: Bool) throws(SettingsError) {
        _ = try fixedKey(settings, isAlone: isFixed(settings))
        if isBarbican(settings), !hasKeystone { throw needsKeystone }
    }

    private static let needsKeystone = SettingsError([
        "[key_manager] backend = barbican needs auth_strategy = keystone: Barbican asks for tokens"
    ])

    private static func isFixed(_ settings: Settings) -> Bool {
        KeyManagerOptions.fixedNames.contains(settings[Options.keyManager.backend])
    }

    /// Whether Barbican keeps the keys.
    public static func isBarbican(_ settings: Settings) -> Bool {
        KeyManagerOptions.barbicanNames.contains(settings[Options.keyManager.backend])
    }

    private static func fixedKey(_ settings: Settings, isAlone: Bool) throws(SettingsError) -> FixedKey? {
        let digits = settings[Options.keyManager.fixedKey]
        guard !digits.reveal().isEmpty else {
            guard !isAlone else { throw SettingsError(["[key_manager] fixed_key is not set: that backend has no other key"]) }
            return nil
        }
        do throws(KeyFailure) { return try FixedKey(digits) } catch { throw SettingsError(["[key_manager] fixed_key \(error)"]) }
    }
}
