/// Orders the pools that the filters left: more is better, times the multiplier.
public protocol PlacementWeigher: Sendable {
    var name: String { get }
    var multiplier: Double { get }
    func weight(of pool: PoolState, for request: PlacementRequest) -> Double
}

/// Capacity that may still be promised. What is unknown or infinite comes last, whichever way is wanted.
struct CapacityWeigher: PlacementWeigher {
    let name = "CapacityWeigher"
    let multiplier: Double
    func weight(of pool: PoolState, for request: PlacementRequest) -> Double {
        pool.virtualFree(thin: request.isThin) ?? (multiplier > 0 ? -1 : .infinity)
    }
}

/// GiB promised to volumes; the multiplier is negative by default, so that the emptiest wins.
struct AllocatedCapacityWeigher: PlacementWeigher {
    let name = "AllocatedCapacityWeigher"
    let multiplier: Double
    func weight(of pool: PoolState, for request: PlacementRequest) -> Double { pool.allocatedGB }
}

/// Volumes on the pool; the multiplier is negative by default.
struct VolumeNumberWeigher: PlacementWeigher {
    let name = "VolumeNumberWeigher"
    let multiplier: Double
    func weight(of pool: PoolState, for request: PlacementRequest) -> Double { Double(pool.volumes) }
}

/// By lot.
struct ChanceWeigher: PlacementWeigher {
    let name = "ChanceWeigher"
    let multiplier = 1.0
    let random: @Sendable () -> Double
    func weight(of pool: PoolState, for request: PlacementRequest) -> Double { random() }
}

/// What the weights of one weigher become before they are added to those of the others.
enum WeightScale {
    /// Infinity becomes a finite weight far beyond the largest: by a hundred times their spread, or 10,000 where they have none.
    static func finite(_ weights: [Double]) -> [Double] {
        guard weights.contains(.infinity) else { return weights }
        let known = weights.filter(\.isFinite)
        let (low, high) = (known.min() ?? -1, known.max() ?? -1)
        let offset = high > low ? (high - low) * 100 : 10_000
        return weights.map { $0 == .infinity ? high + offset : $0 }
    }

    /// Weights brought to 0...1; all equal gives 0.
    static func normalized(_ weights: [Double]) -> [Double] {
        guard let low = weights.min(), let high = weights.max(), high > low else { return weights.map { _ in 0 } }
        return weights.map { ($0 - low) / (high - low) }
    }
}
