public import DriverHost
import Glibc
public import JSON
public import Logging
public import Settings
public import Transfers

/// What a process beside the service needs to read a backup: the transfer's order, and the store's plugin with its options.
public struct BackupReading: Sendable {
    public let order: BackupOrder
    public let plugin: String
    public let options: DriverValue

    /// - Parameter layout: as `BackupLayout` describes the backup. The store's options, its secrets among them, are those of the settings.
    public init(layout: JSON, settings: Settings, stateDirectory: String, log: Logger) throws {
        let name = layout["store"]?.string ?? ""
        let hosts = try BackupStoreHosts(settings, stateDirectory: stateDirectory, log: log)
        let stores = NodeStores(hosts, node: settings[Options.service.host])
        guard let store = stores.store(named: name), let configuration = hosts.store(name)?.configuration else {
            throw SettingsError(["the store \(name) of the backup is not enabled: name it in enabled_backup_stores"])
        }
        let items = (layout["chain"]?.array ?? []).map { member in
            func text(_ name: String) -> String { member[name]?.string ?? "" }
            var item = BackupOrder.Item()
            item.id = text("id")
            item.projectID = text("project_id")
            item.volumeID = text("volume_id")
            item.name = member["name"]?.string
            item.description = member["description"]?.string
            // A bucket is the store, and no part of its objects' names.
            item.container = member["container"]?.string.flatMap { $0 == store.bucket ? nil : $0 } ?? ""
            item.serviceMetadata = text("service_metadata")
            item.createdAt = text("created_at")
            item.isOfSnapshot = member["snapshot_id"]?.string != nil
            return item
        }
        guard let backup = items.last else { throw SettingsError(["the service did not say where the backup lies"]) }
        var order = BackupOrder(format: layout["format"]?.string ?? store.format, backup: backup)
        order.parents = Array(items.dropLast())
        order.options = store.formatOptions
        if case .object(let members) = store.formatOptions, !Self.isOwned(stateDirectory) {
            // What another user wrote there the service could not replace.
            order.options = .object(members.filter { $0.name != "cache" })
        }
        self.order = order
        plugin = configuration.pluginPath
        options = configuration.options
    }

    private static func isOwned(_ directory: String) -> Bool {
        var info = stat()
        return stat(directory, &info) == 0 && info.st_uid == geteuid()
    }
}
