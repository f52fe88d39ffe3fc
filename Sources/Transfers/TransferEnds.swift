import Backups
import CDriver
import DriverHost

/// Opens the plugins of a transfer's ends; what they log goes to the core.
struct TransferEnds {
    private let order: DriverValue
    private let onLog: @Sendable (clinker_level, String) -> Void
    /// Writes a line of the transfer's own into the core's log.
    let log: @Sendable (clinker_level, String) -> Void

    init(_ order: DriverValue, _ wire: Wire) {
        self.order = order
        let gate = LineGate()
        log = { level, line in
            wire.send(Frame(kind: .log, id: 0, value: .members(["level": .integer(Int64(level.rawValue)), "message": .string(line)])))
        }
        onLog = { level, line in
            gate.pass(line) { line, isNotice in
                let level = isNotice ? CLINKER_WARNING : level
                wire.send(Frame(kind: .log, id: 0, value: .members(["level": .integer(Int64(level.rawValue)), "message": .string(line)])))
            }
        }
    }

    private func options(_ end: String) throws -> (plugin: String, options: DriverValue) {
        let options = order[end]?["options"] ?? .object([])
        try StateDirectory.make(for: options)
        return (order[end]?["plugin"]?.string ?? "", options)
    }

    func driver(_ end: String) throws -> Driver {
        let (plugin, options) = try options(end)
        return try Driver(Plugin(path: plugin), options: options, onLog: onLog)
    }

    /// - Parameter onLife: called while a long call about an image gets on.
    func store(_ end: String, onLife: @escaping @Sendable () -> Void = {}) throws -> BackupEnd {
        let (plugin, options) = try options(end)
        return try BackupEnd(plugin: plugin, options: options, onLog: onLog, onLife: onLife)
    }
}

/// An opened store of backups: objects, and images where it keeps such ones.
struct BackupEnd {
    let objects: any ObjectStore
    let images: (any ImageStore)?

    init(
        plugin: String, options: DriverValue, onLog: @escaping @Sendable (clinker_level, String) -> Void,
        onLife: @escaping @Sendable () -> Void = {}
    ) throws {
        let store = try PluginStore(Store(StorePlugin(path: plugin), options: options, onLog: onLog))
        objects = store
        images = store.hasImages ? PluginImages(try Driver(Plugin(path: plugin), options: options, onLog: onLog), onLife: onLife) : nil
    }
}
