import BlockStorage
import JSON

/// What a backend said of its capacity.
struct CapacityReport: Sendable {
    let pools: [Pool]
    let isThin, isThick: Bool
    let timestamp: String
    let readAt: Double
    /// What was promised of each pool when the report was first used: what came since is in none of its numbers.
    var baseline: [String: Pools.Allocation]?

    /// A pool as the driver reported it.
    struct Pool: Sendable {
        let host: String
        /// Everything that does not change with what is promised.
        let capabilities: JSONObject
        let total, free, provisioned: Double?
        let reserved: Int64
        let ratio: String
    }
}
