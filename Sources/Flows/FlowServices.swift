public import BlockStorage
public import Database
public import Logging
import Primitives
import Settings

/// What flows share.
public struct FlowServices: Sendable {
    public let database: any Database
    public let backends: Backends
    public let names: StorageNames
    public let scheduler: Scheduler
    public let maxAttempts: Int
    public let snapshotsChargeGigabytes: Bool
    let snapshotSameHost: Bool
    public let log: Logger
    public let progress = ProgressBoard()

    public init(database: any Database, backends: Backends, settings: Settings, log: Logger) throws(SettingsError) {
        self.database = database
        self.backends = backends
        names = StorageNames(settings)
        scheduler = try Scheduler(settings)
        maxAttempts = settings[Options.schedulerMaxAttempts]
        snapshotsChargeGigabytes = !settings[Options.noSnapshotGigabytes]
        snapshotSameHost = settings[Options.snapshotSameHost]
        self.log = log
    }
}

/// Names of storage objects in their backends.
public struct StorageNames: Sendable {
    private let volumeTemplate: String
    private let snapshotTemplate: String

    public init(_ settings: Settings) {
        volumeTemplate = settings[Options.volumeNameTemplate]
        snapshotTemplate = settings[Options.snapshotNameTemplate]
    }

    public func volume(_ id: String) -> String { Self.fill(volumeTemplate, id) }
    /// The id of the volume that the name stands for; nil if it is no name of ours.
    func volumeID(_ name: String) -> String? { Self.id(name, volumeTemplate) }
    /// The same for a snapshot.
    func snapshotID(_ name: String) -> String? { Self.id(name, snapshotTemplate) }

    private static func id(_ name: String, _ template: String) -> String? {
        let parts = template.split(separator: "%s", maxSplits: 1, omittingEmptySubsequences: false)
        let (prefix, suffix) = (parts.first ?? "", parts.count > 1 ? parts[1] : "")
        guard name.hasPrefix(prefix), name.hasSuffix(suffix), name.utf8.count >= prefix.utf8.count + suffix.utf8.count else { return nil }
        let id = String(name.dropFirst(prefix.count).dropLast(suffix.count))
        return UUID.isUUIDLike(id) ? id : nil
    }

    public func snapshot(_ id: String) -> String { Self.fill(snapshotTemplate, id) }

    private static func fill(_ template: String, _ id: String) -> String {
        var parts = template.split(separator: "%s", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        if parts.count < 2 { parts.append("") }
        return parts[0] + id + parts[1]
    }
}

/// How far running operations are, in memory: progress changes too often for the log.
public final class ProgressBoard: Sendable {
    private let board = Guarded<[String: (done: UInt64, total: UInt64)]>([:])
    init() {}
    func set(_ id: String, _ done: UInt64, _ total: UInt64) { board.withLock { $0[id] = (done, total) } }
    func clear(_ id: String) { board.withLock { _ = $0.removeValue(forKey: id) } }
    /// 0...1, nil if nothing was reported.
    public func fraction(_ id: String) -> Double? {
        board.withLock { board in board[id].flatMap { $0.total > 0 ? Double($0.done) / Double($0.total) : nil } }
    }
}
