public import JSON

/// What a pool said of itself, with what the database knows is promised of it.
public struct PoolState: Sendable {
    /// `host@backend#pool`
    public let host: String
    public let zone: String
    /// What was reported and does not change until the next report: the driver's capabilities, the backend's name.
    private let reported: JSONObject
    /// nil: unknown or infinite.
    public var totalGB: Double?
    public var freeGB: Double?
    public var provisionedGB: Double
    public var allocatedGB: Double
    public var volumes: Int
    public var reservedPercentage: Double
    public var maxOverSubscriptionRatio: String
    public var isThin: Bool
    public var isThick: Bool
    /// When the numbers were read.
    public var timestamp: String

    public init(
        host: String, zone: String, capabilities: JSONObject, totalGB: Double?, freeGB: Double?, provisionedGB: Double?,
        allocatedGB: Double, volumes: Int, reservedPercentage: Double, maxOverSubscriptionRatio: String, isThin: Bool, isThick: Bool,
        timestamp: String
    ) {
        self.host = host
        self.zone = zone
        reported = capabilities
        self.totalGB = totalGB
        self.freeGB = freeGB
        self.provisionedGB = provisionedGB ?? allocatedGB
        self.allocatedGB = allocatedGB
        self.volumes = volumes
        self.reservedPercentage = reservedPercentage
        self.maxOverSubscriptionRatio = maxOverSubscriptionRatio
        self.isThin = isThin
        self.isThick = isThick
        self.timestamp = timestamp
    }

    /// A capability by its name: one of the numbers that change with every volume, or what was reported.
    public func capability(_ name: String) -> JSON? {
        switch name {
        case "free_capacity_gb": freeGB.map { .real($0) } ?? reported[name] ?? "unknown"
        case "provisioned_capacity_gb": .real(provisionedGB)
        case "allocated_capacity_gb": .integer(Int64(allocatedGB))
        default: reported[name]
        }
    }

    /// All of them.
    public var capabilities: JSONObject {
        var all = reported
        for name in ["free_capacity_gb", "provisioned_capacity_gb", "allocated_capacity_gb"] { all[name] = capability(name) }
        return all
    }

    /// `host@backend`
    public var backend: String { HostName.backend(of: host) }

    /// The ratio as a number; 1 when the pool is not thin or its capacity is unknown.
    public var overSubscription: Double {
        guard isThin, let totalGB, let freeGB else { return 1 }
        if maxOverSubscriptionRatio == "auto" { return provisionedGB == 0 ? 20 : 1 + provisionedGB / (totalGB - freeGB + 1) }
        return Double(maxOverSubscriptionRatio) ?? 20
    }

    /// Capacity that may still be promised, rounded to 2 decimals; nil when unknown.
    public func virtualFree(thin: Bool) -> Double? {
        guard let totalGB, let freeGB else { return nil }
        let available = totalGB - (totalGB * reservedPercentage / 100).rounded(.down)
        let value =
            thin && isThin ? available * overSubscription - provisionedGB : min(available - provisionedGB, freeGB)
        return (value * 100).rounded() / 100
    }
}
