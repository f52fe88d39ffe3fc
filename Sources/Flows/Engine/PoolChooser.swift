import BlockStorage
import Database
import JSON
import Primitives

/// Chooses pools for one step of an operation, and claims their capacity.
struct PoolChooser: Sendable {
    let scheduler: Scheduler
    private let operation: BlockStorage.Operation
    private let services: FlowServices
    private var backends: any StorageBackends { services.backends }
    /// When the step began.
    private let begunAt = Timestamp.monotonic()

    init(_ operation: BlockStorage.Operation, _ services: FlowServices) {
        scheduler = services.scheduler
        self.operation = operation
        self.services = services
    }

    /// Waits for the first reports of the backends, or for new ones where the last were too small: the pools are then known.
    func waitForReports<Flow: FlowDefinition>(_ run: FlowRun<Flow>) async where Flow.State: PlacementState {
        if run.state.capacityRead {
            await backends.readCapacity()
        } else if !backends.areKnown(by: Timestamp.monotonic()) {
            // The volume's own backend decides whether it stays.
            await backends.waitForReports(isPatient: run.state.reportsAwaited, or: try? run.volume().backend)
        }
    }

    /// Waits for the first report of one backend.
    func waitForReport(of host: String) async { await backends.waitForReport(of: HostName.backend(of: host)) }

    /// A backend that the request names as `node@backend` or `node@backend#pool`.
    func backend(at host: String) throws -> OperationBackend { try OperationBackend(at: host, operation, services) }

    /// All pools of the node.
    func pools(in connection: any Connection) throws -> [PoolState] { try backends.pools(in: connection) }

    /// Pools of backends that are enabled and not frozen.
    func usablePools(in connection: any Connection) throws -> [PoolState] { try backends.usablePools(in: connection) }

    /// Asks the scheduler, and claims what it chose for the volume.
    func place(_ request: PlacementRequest, _ volume: Locked<Volume>, in tx: any Transaction) throws -> PoolState {
        try claim(scheduler.place(request, among: usablePools(in: tx)), gigabytes: volume.size, volumes: 1, in: tx)
    }

    /// Keeps the scheduler's verdicts with the operation, and claims capacity of the chosen pool.
    func claim(_ placement: Scheduler.Placement, gigabytes: Int, volumes: Int, in tx: any Transaction) throws -> PoolState {
        guard let pool = placement.choice else { throw refusal(placement) }
        try keepVerdicts(placement, in: tx)
        try Pools.add(pool.host, gigabytes: gigabytes, volumes: volumes, in: tx)
        return pool
    }

    func keepVerdicts(_ placement: Scheduler.Placement, in tx: any Transaction) throws {
        try Operations.setVerdicts(placement.verdicts.abridged.json, of: operation.id, in: tx)
    }

    func refusal(_ placement: Scheduler.Placement, _ message: String? = nil) -> PlacementRefusal {
        PlacementRefusal(
            placement: placement, message: message ?? placement.refusal, hadAllReports: backends.areKnown(by: begunAt))
    }
}

/// No pool takes the volume.
struct PlacementRefusal: Error {
    let placement: Scheduler.Placement
    let message: String
    /// Every backend had reported when the step began, or was not waited for any more.
    let hadAllReports: Bool
}

extension FlowRun where Flow.State: PlacementState {
    /// Whether a refused placement is worth another one: when backends that are late have reported, too, and with the capacities read
    /// again, for what was freed since they were last read is in none of their numbers. Once each in an operation.
    mutating func isWorthAnotherPlacement(after failure: StepFailure) -> Bool {
        guard let refusal = failure.refusal else { return false }
        if !state.reportsAwaited, !refusal.hadAllReports {
            state.reportsAwaited = true
            return true
        }
        guard refusal.placement.lacksRoom, !state.capacityRead else { return false }
        state.capacityRead = true
        return true
    }
}

extension Scheduler.Placement {
    /// Why nothing was chosen, pool by pool: for administrators and the log.
    var refusal: String {
        let reasons = verdicts.abridged.compactMap { verdict in verdict.filter.map { "\(verdict.pool): \($0) \(verdict.reason ?? "")" } }
        return "No valid backend was found. \(reasons.isEmpty ? "No backend is up and enabled." : reasons.joined(separator: "; "))"
    }
}
