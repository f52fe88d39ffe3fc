public import JSON

/// Arguments of an operation that may make a new volume, which the scheduler places as a creation.
public protocol PlacedVolumeArguments: FlowArguments {
    var zones: [String] { get set }
    var schedulerHints: JSONObject? { get set }
    var hintsOfAllProjects: Bool { get set }
}

extension PlacedVolumeArguments {
    /// As the scheduler reads what a creation asks for.
    public var placement: CreateVolumeArguments {
        var arguments = CreateVolumeArguments()
        arguments.zones = zones
        arguments.schedulerHints = schedulerHints
        arguments.hintsOfAllProjects = hintsOfAllProjects
        return arguments
    }

    /// Takes over what a creation asks the scheduler for.
    mutating func place(as arguments: CreateVolumeArguments) {
        zones = arguments.zones
        schedulerHints = arguments.schedulerHints
        hintsOfAllProjects = arguments.hintsOfAllProjects
    }
}

/// Where an operation places its new volume, as its finished steps record it.
public struct PlacedVolumeState: PlacementState {
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("attempted", \Self.attempted),
        JSONMember("reports_awaited", \Self.reportsAwaited), JSONMember("capacity_read", \Self.capacityRead),
    ]
    /// The pool of which capacity is claimed.
    public var host: String?
    /// Backends that were placed on and failed, as `node@backend`.
    public var attempted: [String] = []
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}
}
