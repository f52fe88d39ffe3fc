public import JSON

/// Chooses the pool of a volume: filters refuse, weighers order, the first wins.
public struct Scheduler: Sendable {
    /// Why a pool was refused, or its weight.
    public struct Verdict: Sendable, Equatable {
        public let pool: String
        public let filter: String?
        public let reason: String?
        public let weight: Double?
    }

    public struct Placement: Sendable {
        public let choice: PoolState?
        public let verdicts: [Verdict]
    }

    private let filters: [any PlacementFilter] = [
        RequiredBackendFilter(), IgnoreAttemptedHostsFilter(), AvailabilityZoneFilter(), CapacityFilter(), CapabilitiesFilter(),
    ]

    public init() {}

    public func place(_ request: PlacementRequest, among pools: [PoolState]) -> Placement {
        var verdicts: [Verdict] = []
        var candidates: [PoolState] = []
        pools: for pool in pools {
            if let current = request.currentHost, current != pool.host { continue }
            for filter in filters {
                if let reason = filter.refusal(of: pool, for: request) {
                    verdicts.append(Verdict(pool: pool.host, filter: filter.name, reason: reason, weight: nil))
                    continue pools
                }
            }
            candidates.append(pool)
        }
        let weights = Self.normalized(candidates.map { Self.capacityWeight($0, thin: request.isThin) })
        for (pool, weight) in zip(candidates, weights) {
            verdicts.append(Verdict(pool: pool.host, filter: nil, reason: nil, weight: weight))
        }
        var best: Int?
        for index in candidates.indices where best.map({ weights[index] > weights[$0] }) ?? true { best = index }
        return Placement(choice: best.map { candidates[$0] }, verdicts: verdicts)
    }

    /// Cinder's CapacityWeigher with multiplier 1: virtual free capacity; unknown counts as -1.
    static func capacityWeight(_ pool: PoolState, thin: Bool) -> Double { pool.virtualFree(thin: thin) ?? -1 }

    /// Weights brought to 0...1; all equal gives 0.
    static func normalized(_ weights: [Double]) -> [Double] {
        guard let low = weights.min(), let high = weights.max(), high > low else { return weights.map { _ in 0 } }
        return weights.map { ($0 - low) / (high - low) }
    }
}

extension [Scheduler.Verdict] {
    /// For the operation's record.
    public var json: JSON {
        .array(
            map { verdict in
                var object: JSONObject = ["pool": .string(verdict.pool)]
                if let filter = verdict.filter { object["filter"] = .string(filter) }
                if let reason = verdict.reason { object["reason"] = .string(reason) }
                if let weight = verdict.weight { object["weight"] = .real(weight) }
                return .object(object)
            })
    }
}
