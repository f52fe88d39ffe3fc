public import BlockStorage
public import Database
public import JSON
import Observability
public import Policy
public import Primitives

/// What the API needs of the rooms below it, and gives to its handlers.
public struct BlockAPIServices: Sendable {
    public var database: any Database
    public var requests: VolumeRequests
    /// Waits for the output of an operation: a connection, as JSON.
    public var result: @Sendable (_ operationID: String) async throws -> JSON
    /// The pools as they are now.
    public var pools: @Sendable (any Connection) throws -> [PoolState]
    /// Compares database, operation log and backends; repairs what is safe if told to.
    public var examine: @Sendable (_ repair: Bool) async throws -> JSON
    /// The policies as they are now.
    public var policies: @Sendable () -> Policies
    public var scheduler: Scheduler
    /// Everything that a backend holds, as its driver lists it.
    public var listBackend: @Sendable (_ host: String, _ requestID: String) async throws -> JSON
    /// Whether the identity service knows the project; true where nobody can say.
    public var projectExists: @Sendable (_ project: String, _ token: Secret) async throws -> Bool = { _, _ in true }
    /// The attachment by which an instance uses a volume, as the compute service says it to the bearer of the token; nil if it does not.
    /// Throws where that cannot be found out.
    public var attachmentInUse: @Sendable (_ instance: String, _ volume: String, _ token: Secret) async throws -> String? = {
        instance, _, _ in throw DetachPermit.conflict(instance)
    }
    /// The levels of the log by logger, and how to set them.
    public var logLevels: LogLevels
    public var operations: OperationDoors
    public var events: EventHub
    public var tickets: StreamTickets
    public var longReads: LongReads

    public init(
        database: any Database, requests: VolumeRequests, result: @escaping @Sendable (_ operationID: String) async throws -> JSON,
        pools: @escaping @Sendable (any Connection) throws -> [PoolState],
        examine: @escaping @Sendable (_ repair: Bool) async throws -> JSON,
        policies: @escaping @Sendable () -> Policies, scheduler: Scheduler,
        listBackend: @escaping @Sendable (_ host: String, _ requestID: String) async throws -> JSON, logLevels: LogLevels,
        operations: OperationDoors, events: EventHub, tickets: StreamTickets, longReads: LongReads
    ) {
        self.database = database
        self.requests = requests
        self.result = result
        self.pools = pools
        self.examine = examine
        self.policies = policies
        self.scheduler = scheduler
        self.listBackend = listBackend
        self.logLevels = logLevels
        self.operations = operations
        self.events = events
        self.tickets = tickets
        self.longReads = longReads
    }
}
