public import BlockStorage
public import Database
import DriverHost
import JSON

extension FlowContext {
    /// Waits for the first reports of the backends, or for new ones where the last were too small: the pools are then known.
    @Sendable static func awaitReports(_ context: FlowContext, _ progress: JSONObject) async throws -> DriverValue {
        let backends = context.services.backends
        if progress[capacityRead] == true {
            await backends.readCapacity()
        } else if !backends.areKnown() {
            let isPatient = progress[reportsAwaited] == true
            let own = (try? await context.volume())?.backend
            // The volume's own backend decides whether it stays.
            await backends.waitForReports { isPatient || !$0.backend.isWaitingForOldProcesses || $0.host == own }
        }
        return .object([])
    }

    /// Whether a refused placement is worth another one: when backends that are late have reported, too, and with the capacities read
    /// again, for what was freed since they were last read is in none of their numbers. Once each in an operation.
    func isWorthAnother(after failure: FlowFailure, _ progress: inout JSONObject) -> Bool {
        guard let refusal = failure.refusal else { return false }
        if progress[Self.reportsAwaited] == nil, !services.backends.areKnown(by: refusal.begunAt) {
            progress[Self.reportsAwaited] = true
            return true
        }
        guard refusal.placement.lacksRoom, progress[Self.capacityRead] == nil else { return false }
        progress[Self.capacityRead] = true
        return true
    }

    private static let reportsAwaited = "reports_awaited"
    private static let capacityRead = "capacity_read"

    /// Asks the scheduler, and claims what it chose.
    func place(_ request: PlacementRequest, _ volume: Volume, in tx: any Transaction) throws -> PoolState {
        try claim(services.scheduler.place(request, among: services.backends.usablePools(in: tx)), volume, in: tx)
    }

    /// Keeps the scheduler's verdicts with the operation, and claims the chosen pool's capacity for the volume.
    func claim(_ placement: Scheduler.Placement, _ volume: Volume, in tx: any Transaction) throws -> PoolState {
        try claim(placement, gigabytes: volume.size, volumes: 1, in: tx)
    }

    func claim(_ placement: Scheduler.Placement, gigabytes: Int, volumes: Int, in tx: any Transaction) throws -> PoolState {
        guard let pool = placement.choice else { throw PlacementRefusal(placement: placement, message: placement.refusal) }
        try Operations.setVerdicts(placement.verdicts.abridged.json, of: operation.id, in: tx)
        try Pools.add(pool.host, gigabytes: gigabytes, volumes: volumes, in: tx)
        return pool
    }
}

/// No pool takes the volume.
struct PlacementRefusal: Error {
    let placement: Scheduler.Placement
    let message: String
}

/// From a step's work to its record.
extension DriverValue {
    init(_ place: InstancePlace?) {
        switch place {
        case nil: self = .object([])
        case .host(let host): self = .members(["host": .string(host)])
        case .unknown(let reason): self = .members(["reason": .string(reason)])
        }
    }
}

extension InstancePlace {
    init?(_ value: DriverValue) {
        if let host = value["host"]?.string {
            self = .host(host)
        } else if let reason = value["reason"]?.string {
            self = .unknown(reason: reason)
        } else {
            return nil
        }
    }
}

extension Scheduler.Placement {
    /// Why nothing was chosen, pool by pool: for administrators and the log.
    var refusal: String {
        let reasons = verdicts.abridged.compactMap { verdict in verdict.filter.map { "\(verdict.pool): \($0) \(verdict.reason ?? "")" } }
        return "No valid backend was found. \(reasons.isEmpty ? "No backend is up and enabled." : reasons.joined(separator: "; "))"
    }
}

extension Backends: PoolReports {
    public func usablePools(in connection: any Connection) throws -> [PoolState] {
        let disabled = Set(try Services.all(in: connection).filter { $0.isDisabled || $0.isFrozen }.map(\.host))
        return try pools(in: connection) { !disabled.contains($0) }
    }
}
