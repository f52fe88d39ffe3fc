import ArgumentParser
import Glibc
import Primitives
import Settings

/// The options of every command that reads the configuration.
struct ConfigurationOptions: ParsableArguments {
    @ArgumentParser.Option(name: .customLong("config"), help: "A configuration file; may be repeated, later ones win.")
    var config: [String] = []

    @ArgumentParser.Option(name: .customLong("state-dir"), help: "Directory of everything Clinker keeps.")
    var stateDirectory: String?

    /// The files in force: those named, else $CLINKER_CONFIG, else /etc/clinker/clinker.conf if there is one, else none.
    var files: [String] {
        if !config.isEmpty { return config }
        if let variable = getenv("CLINKER_CONFIG").map({ String(cString: $0) }), !variable.isEmpty { return [variable] }
        let standard = "/etc/clinker/clinker.conf"
        return access(standard, F_OK) == 0 ? [standard] : []
    }

    /// The settings in force; without a file the embedded default: loopback, noauth, one backend of files.
    func settings() throws(SettingsError) -> Settings {
        let files = files
        var settings = files.isEmpty ? Settings(known: .clinker) : try Settings(files: files, known: .clinker)
        // $state_path in the files must refer to the directory in use.
        if let stateDirectory { settings.set("DEFAULT", "state_path", Self.absolute(stateDirectory)) }
        if !files.isEmpty { return settings }
        for option in Self.embedded { settings.set(option.section, option.name, option.value) }
        return settings
    }

    /// Values of the embedded default that differ from the options' defaults.
    static let embedded = [
        (section: "DEFAULT", name: "osapi_volume_listen", value: "127.0.0.1"), (section: "DEFAULT", name: "auth_strategy", value: "noauth"),
        (section: "DEFAULT", name: "enabled_backends", value: "file"), (section: "file", name: "volume_driver", value: "file"),
        (section: "DEFAULT", name: "enabled_backup_stores", value: "backups"), (section: "backups", name: "backup_driver", value: "posix"),
        (section: "backups", name: "backup_format", value: "repository"),
    ]

    private static func absolute(_ path: String) -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        guard !path.hasPrefix("/"), let current = getcwd(&buffer, buffer.count) else { return path }
        return String(cString: current) + "/" + path
    }

    /// The path of the database file.
    static func databasePath(_ settings: Settings, stateDirectory: String) throws(SettingsError) -> String {
        let connection = settings[Options.service.connection].reveal()
        if connection.isEmpty { return stateDirectory + "/clinker.db" }
        guard connection.hasPrefix("sqlite:///") else {
            let scheme = connection.split(separator: ":").first.map(String.init) ?? ""
            throw SettingsError([
                "[database] connection: this release keeps its data in SQLite, not in '\(scheme)'; say sqlite:///path or leave it out"
            ])
        }
        let path = String(connection.dropFirst(10))
        return path.hasPrefix("/") ? path : stateDirectory + "/" + path
    }

    func databasePath() throws -> String {
        let settings = try settings()
        return try Self.databasePath(settings, stateDirectory: try existingStateDirectory(settings))
    }

    /// The existing state directory; it is not created.
    func existingStateDirectory(_ settings: Settings) throws -> String {
        let path = try stateDirectoryPath(settings)
        guard access(path, F_OK) == 0 else { throw SettingsError(["the state directory \(path) does not exist: no service ever ran here"]) }
        return path
    }

    /// The state directory; created if it does not exist.
    func openStateDirectory(_ settings: Settings) throws -> String {
        let path = try stateDirectoryPath(settings)
        var partial = ""
        for component in path.split(separator: "/") {
            partial += "/" + component
            if mkdir(partial, 0o700) != 0, errno != EEXIST {
                throw SettingsError([SystemError.last("the state directory \(path) cannot be made").description])
            }
        }
        guard access(path, R_OK | W_OK | X_OK) == 0 else {
            throw SettingsError([
                SystemError.last("the state directory \(path) cannot be used").description
                    + "; give it to the service's user, or name another with --state-dir"
            ])
        }
        if let problem = try exposure(ofStateDirectory: settings) { throw SettingsError([problem]) }
        return path
    }

    /// Why the state directory could neither be used nor made.
    ///
    /// - Parameter isOwned: whether the caller is the user who runs the service.
    func problems(ofStateDirectory settings: Settings, isOwned: Bool) throws -> [String] {
        let path = try stateDirectoryPath(settings)
        let unusable = NeededDirectory.problem(path, making: .parents, isOwned: isOwned).map { "the state directory \($0)" }
        return [unusable, try exposure(ofStateDirectory: settings)].compactMap { $0 }
    }

    /// Why there could be no database where the configuration says.
    ///
    /// - Parameter isOwned: whether the caller is the user who runs the service.
    func problems(ofDatabase settings: Settings, isOwned: Bool) throws -> [String] {
        let stateDirectory = try stateDirectoryPath(settings)
        let path = try Self.databasePath(settings, stateDirectory: stateDirectory)
        var info = stat()
        if stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
            return [SystemError(EISDIR, "[database] connection: \(path) cannot be used").description]
        }
        // The state directory is made, and was looked at.
        guard path.directory != stateDirectory else { return [] }
        return NeededDirectory.problem(path.directory, making: .nothing, isOwned: isOwned).map { ["[database] connection: \($0)"] } ?? []
    }

    /// Why others can write the state directory; nil if they cannot or it does not exist.
    func exposure(ofStateDirectory settings: Settings) throws -> String? {
        let path = try stateDirectoryPath(settings)
        var info = stat()
        return stat(path, &info) == 0 ? FileTrust(info).writers(path, isOwned: false) : nil
    }

    /// The path of the state directory.
    private func stateDirectoryPath(_ settings: Settings) throws -> String {
        var path: String
        if let stateDirectory {
            path = stateDirectory
        } else if settings.isSet(Options.service.statePath) || !files.isEmpty {
            path = settings[Options.service.statePath]
        } else if let base = getenv("XDG_STATE_HOME").map({ String(cString: $0) }), base.hasPrefix("/") {
            path = base + "/clinker"
        } else if let home = getenv("HOME").map({ String(cString: $0) }), home.hasPrefix("/") {
            path = home + "/.local/state/clinker"
        } else {
            throw SettingsError(["neither --state-dir nor HOME says where to keep things"])
        }
        path = Self.absolute(path)
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        return path
    }
}
