public import BlockStorage
public import Database
public import HTTPServer
public import JSON
import Observability
public import OpenStack
public import Policy
public import Primitives

/// What the API needs of the rooms below it, and gives to its handlers.
public struct BlockAPIServices: Sendable {
    public var database: any Database
    public var requests: VolumeRequests
    public var outcomes: any OperationOutcomes
    public var pools: any PoolReports
    public var inventory: any BackendInventory
    public var examination: any StorageExamination
    /// The policies as they are now.
    public var policies: @Sendable () -> Policies
    public var scheduler: Scheduler
    /// What lists may be filtered by, as it is now.
    public var resourceFilters: @Sendable () -> ResourceFilters = { .standard }
    /// Whether the identity service knows the project; true where nobody can say.
    public var projectExists: @Sendable (_ project: String, _ token: Secret) async throws -> Bool = { _, _ in true }
    /// The attachment by which an instance uses a volume, as the compute service says it to the bearer of the token; nil if it does not.
    /// Throws where that cannot be found out.
    public var attachmentInUse: @Sendable (_ instance: String, _ volume: String, _ token: Secret) async throws -> String? = {
        instance, _, _ in throw DetachPermit.conflict(instance)
    }
    /// The store in which the objects lie that a driver of Cinder, by its name, has written; nil: there is none.
    public var backupPlace: @Sendable (_ service: String) -> Backups.Place? = { _ in nil }
    /// The format of new backups that ask for an availability zone, or none; nil: no store takes them.
    public var backupFormat: @Sendable (_ zone: String?) -> String? = { _ in nil }
    /// The Image service; nil: none is known.
    public var images: Glance?
    public var repositories: any BackupRepositories = NoBackupRepositories()
    public var servings: any BackupServings = NoBackupServings()
    /// What is told of notifications; nil: none are sent.
    public var notificationStatus: (@Sendable () async throws -> JSON)?
    /// What becomes later of the identity of who asks.
    public var standing: @Sendable (HTTPRequest) -> (any IdentityStanding)? = { $0.standing }
    /// The levels of the log by logger, and how to set them.
    public var logLevels: LogLevels
    public var events: EventHub
    public var tickets: StreamTickets
    public var longReads: LongReads
    public var pageReads: LongReads

    public init(
        database: any Database, requests: VolumeRequests, outcomes: any OperationOutcomes, pools: any PoolReports,
        inventory: any BackendInventory, examination: any StorageExamination, policies: @escaping @Sendable () -> Policies,
        scheduler: Scheduler, logLevels: LogLevels, events: EventHub, tickets: StreamTickets, longReads: LongReads,
        pageReads: LongReads
    ) {
        self.database = database
        self.requests = requests
        self.outcomes = outcomes
        self.pools = pools
        self.inventory = inventory
        self.examination = examination
        self.policies = policies
        self.scheduler = scheduler
        self.logLevels = logLevels
        self.events = events
        self.tickets = tickets
        self.longReads = longReads
        self.pageReads = pageReads
    }
}
