public import Settings

/// Options of the scheduler.
public struct SchedulerOptions: DeclaredOptions {
    public let filters = Option(
        "scheduler_default_filters", default: ["AvailabilityZoneFilter", "CapacityFilter", "CapabilitiesFilter"],
        help: "Filters that a pool must pass, in their order; also DriverFilter, JsonFilter, SameBackendFilter, DifferentBackendFilter.")
    public let weighers = Option(
        "scheduler_default_weighers", default: ["CapacityWeigher"],
        help: "What pools are weighed by: CapacityWeigher, AllocatedCapacityWeigher, VolumeNumberWeigher, ChanceWeigher, GoodnessWeigher.")
    public let weightHandler = Option(
        "scheduler_weight_handler", default: "cinder.scheduler.weights.OrderedHostWeightHandler",
        help: "OrderedHostWeightHandler takes the heaviest, StochasticHostWeightHandler draws by weight.")
    public let capacityWeight = Option(
        "capacity_weight_multiplier", default: 1.0, help: "Weight of the capacity that is free; negative: the fullest pool first.")
    public let allocatedCapacityWeight = Option(
        "allocated_capacity_weight_multiplier", default: -1.0, help: "Weight of the capacity that is promised.")
    public let volumeNumberWeight = Option(
        "volume_number_multiplier", default: -1.0, help: "Weight of the number of volumes.")

    public init() {}
}

extension Options {
    /// Options of the scheduler.
    public static let scheduler = SchedulerOptions()
}
