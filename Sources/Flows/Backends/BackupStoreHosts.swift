public import DriverHost
import Glibc
public import Logging
public import Settings

/// The stores of backups of this node. Each has a driver host, which tells whether the store answers and how full it is; backups are
/// written and read by processes of their own, which open the plugin with the same options.
public final class BackupStoreHosts: Sendable {
    public struct Store: Sendable {
        /// Its section, or `Settings.unnamedStore`.
        public let name: String
        /// What Cinder calls the driver that the plugin takes the place of, else `backup_driver` as it is configured.
        public let service: String
        /// How new backups are laid out: `cinder` or `repository`.
        public let format: String
        public let zone: String
        /// The first word of the objects' names where a request says none; empty if it is to be chosen.
        public let container: String
        /// Set if the store is a bucket, as Cinder sees it.
        let bucket: BucketStore?
        /// Options of the format by Cinder's names.
        public let formatOptions: DriverValue
        /// Its host process. Of its calls a store serves `capabilities` and `stats`.
        public let host: Backend
        /// How a transfer process opens it.
        public var configuration: Backend.Configuration { host.configuration }
    }

    /// In the order of the configuration: the first is for those who ask for none.
    public let stores: [Store]
    /// Why the store of `backup_driver` in [DEFAULT] is not there, if it is not: a file of Cinder's may name one that has no plugin, and
    /// volumes are served all the same.
    public let missing: String?
    /// Where the sockets are of backups that are served.
    let servingDirectory: String

    /// Finds the plugins of the stores. Throws what is wrong with the configuration.
    ///
    /// - Parameter onChange: called with a store's name when it came up or went down.
    public init(
        _ settings: Settings, stateDirectory: String, log: Logger,
        onChange: @escaping @Sendable (_ store: String, _ isUp: Bool) -> Void = { _, _ in }
    ) throws(SettingsError) {
        let directory = settings[Options.service.pluginDirectory]
        var stores: [Store] = []
        var problems: [String] = []
        var missing: String?
        for name in settings.backupStores {
            do throws(PluginError) {
                let driver = settings[Options.store.driver, store: name]
                let path = try Plugin.path(
                    for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory, kind: .store)
                let configuration = Self.configuration(name, path, settings, stateDirectory)
                let zone = settings[Options.store.zone, store: name]
                let service = Plugin.cinderStore(driver) ?? driver
                let bucket = BucketStore(service, options: settings.storeOptions(name))
                stores.append(
                    Store(
                        name: name, service: service, format: settings[Options.store.format, store: name],
                        zone: zone.isEmpty ? settings[Options.storage.storageZone] : zone,
                        container: settings[Options.store.container, store: name], bucket: bucket,
                        formatOptions: .members([
                            "backup_compression_algorithm": .string(settings[Options.store.compression, store: name]),
                            "backup_file_size": .integer(
                                Int64(bucket?.objectSize ?? settings[Options.store.fileSize, store: name])),
                            "backup_sha_block_size_bytes": .integer(
                                Int64(bucket?.hashedSize ?? settings[Options.store.hashedSize, store: name])),
                        ]),
                        host: Backend(configuration, log: log, onChange: { onChange(name, $0) })))
            } catch {
                if name == Settings.unnamedStore { missing = "[DEFAULT] \(error)" } else { problems.append("[\(name)] \(error)") }
            }
        }
        problems += Self.sharedDirectories(stores)
        guard problems.isEmpty else { throw SettingsError(problems) }
        self.stores = stores
        self.missing = missing
        servingDirectory = stateDirectory + "/serving"
    }

    /// Stores in a directory that another one has: to each, what the other wrote there is strange.
    private static func sharedDirectories(_ stores: [Store]) -> [String] {
        let option = "backup_posix_path"
        var owners: [String: String] = [:]
        return stores.compactMap { store in
            guard let path = store.configuration.options[option]?.string, !path.isEmpty else { return nil }
            let directory = canonical(path)
            let place = store.configuration.pluginPath + " " + directory
            guard let owner = owners[place] else {
                owners[place] = store.name
                return nil
            }
            return "[\(store.name)] \(option) = \(path) is the directory of the store \(owner): give each store one of its own"
        }
    }

    /// The path without links; of one that is not there, without what changes nothing.
    private static func canonical(_ path: String) -> String {
        if let real = realpath(path, nil) {
            defer { free(real) }
            return String(cString: real)
        }
        return "/" + path.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
    }

    private static func configuration(_ name: String, _ path: String, _ settings: Settings, _ state: String) -> Backend.Configuration {
        var options = settings.storeOptions(name).map { DriverValue.Member($0.name, .string($0.value)) }
        options.append(DriverValue.Member("backend", .string(name)))
        options.append(DriverValue.Member("state_dir", .string(StateDirectory.path(ofStore: name, in: state))))
        // A backend and a store may have one name: what is noted of their processes is apart.
        var configuration = Backend.Configuration(
            name: name, pluginPath: path, options: .object(options), threads: 4,
            callTimeout: Double(settings[Options.backend.callTimeout, backend: "backend_defaults"]),
            openTimeout: Double(settings[Options.backend.openTimeout, backend: "backend_defaults"]),
            notesDirectory: state + "/store-processes")
        configuration.kind = .store
        return configuration
    }

    public func store(_ name: String) -> Store? { stores.first { $0.name == name } }

    public func start() { for store in stores { store.host.start() } }

    public func stop() { for store in stores { store.host.stop() } }
}
