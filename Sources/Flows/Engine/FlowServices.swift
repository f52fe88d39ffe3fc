public import BlockStorage
public import Database
import DriverHost
public import KeyManager
public import Logging
import Primitives
public import Settings

/// What the engine works with. Steps get of it what the functions of `Step` hand them.
public final class FlowServices: Sendable {
    let database: any Database
    let backends: any StorageBackends
    let stores: any BackupStores
    /// Backups that are served over NBD; nil: there are no stores.
    public let serving: BackupServing?
    public let repositories: StoreRepositories?
    public let scheduler: Scheduler
    let settings: FlowSettings
    let transfers: LimitedTransfers
    /// Who keeps the keys of encrypted volumes; nil where there are no flows to run.
    let keys: (any KeyManager)?
    /// nil: no Image service is known.
    let images: (any ImageAccess)?
    /// nil: no Compute service is known.
    let compute: (any ComputeAccess)?
    let log: Logger
    let progress = ProgressBoard()
    /// The service is stopping: nobody waits for storage to come back any more.
    let isStopping: Guarded<Bool>
    /// Half of the seconds after which a call that met passing trouble is first repeated; each further pause is twice as long.
    let retryPause: Double

    public convenience init(
        database: any Database, backends: Backends, stores: BackupStoreHosts? = nil, settings: Settings,
        instances: (any InstanceLocator)? = nil, images: (any ImageAccess)? = nil,
        compute: (any ComputeAccess)? = nil, keys: (any KeyManager)? = nil, isStopping: Guarded<Bool> = Guarded(false), log: Logger
    ) throws(SettingsError) {
        let transfers = LimitedTransfers(settings)
        try self.init(
            database: database, backends: backends,
            stores: stores.map { NodeStores($0, node: settings[Options.service.host]) as any BackupStores } ?? NoBackupStores(),
            serving: stores.map { BackupServing($0, settings: settings, database: database, log: log) },
            repositories: stores.map {
                StoreRepositories($0, node: settings[Options.service.host], database: database, transfers: transfers, log: log)
            }, transfers: transfers, images: images, compute: compute, retryPause: 0.1, settings: settings, instances: instances,
            keys: keys, isStopping: isStopping, log: log)
        if self.settings.imageTenant == nil, backends.entries.contains(where: { $0.imageCacheLimits != nil }) {
            log.warning("images are not cached: cinder_internal_tenant_project_id or cinder_internal_tenant_user_id is not set")
        }
    }

    init(
        database: any Database, backends: any StorageBackends, stores: any BackupStores = NoBackupStores(),
        serving: BackupServing? = nil, repositories: StoreRepositories? = nil, transfers: LimitedTransfers,
        images: (any ImageAccess)? = nil, compute: (any ComputeAccess)? = nil, retryPause: Double, settings: Settings,
        instances: (any InstanceLocator)? = nil, keys: (any KeyManager)? = nil, isStopping: Guarded<Bool> = Guarded(false), log: Logger
    ) throws(SettingsError) {
        self.database = database
        self.backends = backends
        self.stores = stores
        self.serving = serving
        self.repositories = repositories
        self.transfers = transfers
        self.keys = keys
        self.isStopping = isStopping
        self.images = images
        self.compute = compute
        self.retryPause = retryPause
        self.settings = FlowSettings(settings, backends: backends.count)
        scheduler = try Scheduler(settings, instances: instances)
        self.log = log
    }
}

extension FlowServices {
    func requireCompute() throws -> any ComputeAccess {
        guard let compute else { throw DriverFailure(.badConfiguration, "no Compute service is known") }
        return compute
    }
}

/// Settings that steps read.
final class FlowSettings: Sendable {
    let names: StorageNames
    let quotas: Quotas.Defaults
    let snapshotsChargeGigabytes: Bool
    /// Volumes made of a snapshot stay on its backend.
    let snapshotSameHost: Bool
    /// On how many backends the making of a volume is tried.
    let placementAttempts: Int
    /// Days for which increments rely on what drivers say has changed; 0: for ever.
    let wholeReadDays: Int
    /// Whose the volumes of image caches are; nil: there are none.
    let imageTenant: ImageCache.Tenant?
    /// Whether images may be volumes, which are cloned.
    let clonesImageVolumes: Bool
    /// Seconds that a message to a user is kept.
    let messageLifetime: Int
    /// Seconds that a client waits for an operation.
    let responseTimeout: Double
    /// Whether a Compute service is known: there is a catalogue that names it.
    let hasCompute: Bool

    init(_ settings: Settings, backends: Int) {
        names = StorageNames(settings)
        quotas = Quotas.Defaults(settings)
        snapshotsChargeGigabytes = !settings[Options.storage.noSnapshotGigabytes]
        snapshotSameHost = settings[Options.storage.snapshotSameHost]
        placementAttempts = min(settings[Options.flows.maxAttempts], backends)
        wholeReadDays = settings[Options.flows.wholeReadDays]
        let tenant = (project: settings[Options.images.tenantProject], user: settings[Options.images.tenantUser])
        imageTenant =
            tenant.project.isEmpty || tenant.user.isEmpty ? nil : ImageCache.Tenant(projectID: tenant.project, userID: tenant.user)
        clonesImageVolumes = settings[Options.images.directSchemes].contains("cinder")
        messageLifetime = settings[Options.flows.messageLifetime]
        responseTimeout = Double(settings[Options.service.rpcResponseTimeout])
        hasCompute = settings[Options.service.authStrategy] == "keystone"
    }
}
