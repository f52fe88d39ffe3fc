import BlockStorage
public import Database
public import Logging
import Primitives
import Settings

/// What happens by the clock: heartbeats, the end of old reservations and of old history, the runs of backup policies, removals that failed.
/// Independent of what drivers do.
public final class PeriodicTasks: Sendable {
    private let database: any Database
    private let backends: Backends
    private let stores: BackupStoreHosts
    private let node: String
    private let zone: String
    private let interval: Int
    private let enablesNew: Bool
    private let retention: HistoryRetention
    private let scrub: BackupScrub?
    private let policies: BackupPolicyScheduler
    private let policyInterval: Int
    private let removals: SnapshotRemovalRetries
    private let imageKeys: ImageKeySweep?
    private let leftKeys: LeftKeySweep?
    private let log: Logger
    private let tasks = Guarded<[Task<Void, Never>]>([])

    public init(
        database: any Database, backends: Backends, stores: BackupStoreHosts, scrub: BackupScrub? = nil, imageKeys: ImageKeySweep? = nil,
        leftKeys: LeftKeySweep? = nil, settings: Settings, serviceDownTime: Int, node: String, log: Logger
    ) {
        self.database = database
        self.backends = backends
        self.stores = stores
        self.scrub = scrub
        self.imageKeys = imageKeys
        self.leftKeys = leftKeys
        self.node = node
        zone = settings[Options.storage.storageZone]
        enablesNew = settings[Options.flows.enablesNewServices]
        interval = settings[Options.flows.reportInterval]
        retention = HistoryRetention(database: database, settings: settings, log: log)
        policies = BackupPolicyScheduler(
            database: database, requests: VolumeRequests(settings), serviceDownTime: serviceDownTime, log: log)
        policyInterval = settings[Options.flows.policyInterval]
        removals = SnapshotRemovalRetries(database: database, log: log)
        self.log = log
    }

    public func start() {
        every(Double(interval)) { await $0.beat() }
        every(60, first: false) { await $0.retention.apply() }
        every(Double(interval)) { await $0.reap() }
        every(Double(interval)) { await $0.removals.begin() }
        if leftKeys != nil { every(Double(interval)) { await $0.leftKeys?.tick() } }
        if let pause = scrub?.pause { every(pause, first: false) { await $0.scrub?.tick() } }
        if let pause = imageKeys?.pause { every(pause, first: false) { await $0.imageKeys?.tick() } }
        every(Double(policyInterval)) { await $0.policies.look() }
    }

    /// Does the work again and again with a pause between, until `stop`.
    private func every(_ seconds: Double, first: Bool = true, _ work: @escaping @Sendable (PeriodicTasks) async -> Void) {
        let task = Task {
            if first { await work(self) }
            while (try? await Task.sleep(nanoseconds: UInt64(seconds * 1e9))) != nil { await work(self) }
        }
        tasks.withLock { $0.append(task) }
    }

    /// Begins nothing any more and waits for what has begun: behind this nobody here uses the database.
    public func stop() async {
        let tasks = tasks.withLock { $0 }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    /// One heartbeat of every service. A service whose backend is down sends none: it is shown as down.
    public func beat() async {
        let alive = backends.entries.map { (entry: $0, isUp: $0.backend.description != nil) }
        let keeping = stores.services(of: node).map { (host: $0.host, zone: $0.store.zone, isUp: $0.store.host.description != nil) }
        do {
            try await database.write { [node, zone, enablesNew] tx in
                try Services.beat(binary: "cinder-scheduler", host: node, zone: zone, backendState: nil, isEnabled: enablesNew, in: tx)
                for (host, zone, isUp) in keeping {
                    if isUp {
                        try Services.beat(binary: "cinder-backup", host: host, zone: zone, backendState: nil, isEnabled: enablesNew, in: tx)
                    } else {
                        try Services.register(binary: "cinder-backup", host: host, zone: zone, isEnabled: enablesNew, in: tx)
                    }
                }
                for (entry, isUp) in alive {
                    if isUp {
                        try Services.beat(
                            binary: "cinder-volume", host: entry.host, zone: entry.zone, backendState: entry.isAnswering ? "up" : "down",
                            problem: entry.problems.first, isEnabled: enablesNew, in: tx)
                    } else {
                        try Services.register(binary: "cinder-volume", host: entry.host, zone: entry.zone, isEnabled: enablesNew, in: tx)
                    }
                }
            }
        } catch { log.error("a heartbeat could not be written: \(error)") }
    }

    /// A backend that came up is shown as up at once.
    public static func beat(_ host: String, zone: String, enablesNew: Bool, database: any Database) {
        Task {
            try? await database.write {
                try Services.beat(binary: "cinder-volume", host: host, zone: zone, backendState: "up", isEnabled: enablesNew, in: $0)
            }
        }
    }

    private func reap() async {
        do {
            let count = try await database.write { try Attachments.reap(in: $0) }
            if count > 0 { log.warning("reservations were taken back: nobody came for them in time", metadata: ["count": "\(count)"]) }
        } catch { log.error("old reservations could not be taken back: \(error)") }
    }
}
