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
    let quotas: Quotas.Defaults
    /// Seconds that a client waits for an operation.
    let responseTimeout: Double
    public let log: Logger
    public let progress = ProgressBoard()
    /// The service is stopping: nobody waits for storage to come back any more.
    let isStopping = Guarded(false)

    public init(database: any Database, backends: Backends, settings: Settings, instances: (any InstanceLocator)? = nil, log: Logger)
        throws(SettingsError)
    {
        self.database = database
        self.backends = backends
        names = StorageNames(settings)
        scheduler = try Scheduler(settings, instances: instances)
        maxAttempts = settings[Options.flows.maxAttempts]
        snapshotsChargeGigabytes = !settings[Options.storage.noSnapshotGigabytes]
        snapshotSameHost = settings[Options.storage.snapshotSameHost]
        quotas = Quotas.Defaults(settings)
        responseTimeout = Double(settings[Options.rpcResponseTimeout])
        self.log = log
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
