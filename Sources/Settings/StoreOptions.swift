/// Options of a store of backups that are the host's, not its plugin's. They stand in the store's section, or, as Cinder's, in [DEFAULT].
public struct BackupStoreOptions: DeclaredOptions {
    public let driver = Option(
        "backup_driver", in: .store, default: "",
        help: "Where backups are kept: a store plugin's name, or Cinder's Python path of its driver. None: there are no backups.")
    public let format = Option(
        "backup_format", in: .store, default: "cinder", choices: ["cinder", "repository"],
        help: "How new backups are laid out: as Cinder does, or as a restic repository, in which all backups share what is alike.")
    public let container = Option(
        "backup_container", in: .store, default: "", help: "First word of the objects' names where a request says none.")
    public let compression = Option(
        "backup_compression_algorithm", in: .store, default: "zlib", rule: .backupCompression,
        help: "How objects are compressed: none (off, no), zlib (gzip), bz2 (bzip2) or zstd.")
    public let fileSize = Option(
        "backup_file_size", in: .store, default: 1_999_994_880, range: 512...1e12,
        help:
            "Bytes of the volume in one object of Cinder's format; a multiple of backup_sha_block_size_bytes. More than 32 MiB means 32 MiB."
    )
    public let hashedSize = Option(
        "backup_sha_block_size_bytes", in: .store, default: 32_768, range: 512...16_777_216,
        help: "Bytes of the volume that one hash of Cinder's format covers: what an increment is made of.")
    public let zone = Option(
        "backup_availability_zone", in: .store, default: "", help: "Zone of the store; the node's if empty.")

    public init() {}
}

extension Options {
    /// Options of a store of backups that are the host's, not its plugin's.
    public static let store = BackupStoreOptions()
}

extension OptionRule {
    static let backupCompression = OptionRule(words: "one of none, off, no, zlib, gzip, bz2, bzip2, zstd") {
        ["none", "off", "no", "zlib", "gzip", "bz2", "bzip2", "zstd"].contains($0.lowercased())
    }
}

// The stores of a configuration, and what their sections say.
extension Settings {
    /// The store that `backup_driver` in [DEFAULT] makes, where no stores are enabled by name.
    public static let unnamedStore = "default"

    /// The stores of backups: those of `enabled_backup_stores`, else the one of `backup_driver` in [DEFAULT], if there is one.
    public var backupStores: [String] {
        let named = self[Options.service.enabledBackupStores]
        if !named.isEmpty { return named }
        return self[Options.store.driver, store: Self.unnamedStore].isEmpty ? [] : [Self.unnamedStore]
    }

    /// Whether stores have sections of their own.
    private var hasNamedStores: Bool { !self[Options.service.enabledBackupStores].isEmpty }

    /// The value of a store's option: its own section, else [DEFAULT], else the default.
    public subscript<T>(option: Option<T>, store name: String) -> T {
        (hasNamedStores ? value(option, in: name) : nil) ?? value(option, in: "DEFAULT") ?? option.defaultValue
    }

    /// All options for a store's plugin: those of [DEFAULT] that are about backups, and all of its section.
    public func storeOptions(_ name: String) -> [(name: String, value: String)] {
        var all: [String: String] = [:]
        for option in names(in: "DEFAULT") where Self.isOfStores(option) { all[option] = raw("DEFAULT", option)?.last }
        if hasNamedStores { for option in names(in: name) { all[option] = raw(name, option)?.last } }
        return all.map { (name: $0.key, value: $0.value) }.sorted { $0.name < $1.name }
    }

    /// Whether the plugin of a store may read the option in [DEFAULT].
    static func isOfStores(_ option: String) -> Bool {
        option.hasPrefix("backup_") || option.hasPrefix("glusterfs_backup_")
            || ["swift_catalog_info", "keystone_catalog_info"].contains(option)
    }

    /// Checks a store's options for a plugin with the given ones.
    public func examine(store: String, plugin: String, options: [OptionDeclaration]) -> BackendFindings {
        examine(section: hasNamedStores ? store : nil, shared: "DEFAULT", by: "the store \(plugin)", options: options)
    }

    /// The problems of the stores' names and sections.
    func problemsOfStores(_ backends: [String]) -> [String] {
        let stores = self[Options.service.enabledBackupStores]
        var problems: [String] = []
        for store in stores {
            if !hasSection(store) {
                problems.append("[DEFAULT] enabled_backup_stores names '\(store)', but there is no section [\(store)]")
            } else if backends.contains(store) {
                problems.append("[\(store)] is a backend and a store of backups: give them sections of their own")
            } else if self[Options.store.driver, store: store].isEmpty {
                problems.append("[\(store)] backup_driver is not set")
            }
        }
        if Set(stores).count != stores.count { problems.append("[DEFAULT] enabled_backup_stores names a store twice") }
        for store in backupStores {
            let (size, hashed) = (self[Options.store.fileSize, store: store], self[Options.store.hashedSize, store: store])
            if size % hashed != 0 {
                problems.append(
                    "[\(hasNamedStores ? store : "DEFAULT")] backup_file_size must be a multiple of backup_sha_block_size_bytes: \(size) is none of \(hashed)"
                )
            }
        }
        return problems
    }
}
