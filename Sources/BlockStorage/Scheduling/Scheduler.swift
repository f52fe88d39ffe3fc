public import JSON
import Primitives
public import Settings

/// Chooses the pool of a volume: filters refuse, weighers order, one wins.
public struct Scheduler: Sendable {
    /// Why a pool was refused, or its weight.
    public struct Verdict: Sendable, Equatable {
        public let pool: String
        public var filter: String?
        public var reason: String?
        public var weight: Double?
        /// By weigher: the part of the weight, before the parts were added.
        public var parts: [String: Double] = [:]
    }

    public struct Placement: Sendable {
        public let choice: PoolState?
        public let verdicts: [Verdict]

        /// Whether a pool was refused for its capacity.
        public var lacksRoom: Bool { verdicts.contains { $0.filter == CapacityFilter().name } }
    }

    /// How the winner is found among weights.
    enum Handler: String, CaseIterable { case ordered = "OrderedHostWeightHandler", stochastic = "StochasticHostWeightHandler" }

    /// Bytes of a reason.
    private static let longestReason = 256

    private let filters: [any PlacementFilter]
    private let weighers: [any PlacementWeigher]
    private let handler: Handler
    private let random: @Sendable () -> Double
    /// Asked where instances run, if the filter for it is on.
    let instances: (any InstanceLocator)?

    /// As Cinder is without configuration.
    public init() {
        filters = [
            RequiredBackendFilter(), IgnoreAttemptedHostsFilter(), AvailabilityZoneFilter(), CapacityFilter(), CapabilitiesFilter(),
        ]
        weighers = [CapacityWeigher(multiplier: 1)]
        handler = .ordered
        random = { .random(in: 0..<1) }
        instances = nil
    }

    /// Whether the configuration asks for the filter that must know where instances run.
    public static func asksForInstances(_ settings: Settings) -> Bool {
        settings[Options.scheduler.filters].contains { $0.split(separator: ".").last == "InstanceLocalityFilter" }
    }

    /// As configured. Throws which filter, weigher or handler is not known. `random` gives 0..<1.
    public init(
        _ settings: Settings, instances: (any InstanceLocator)? = nil, random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
    ) throws(SettingsError) {
        let functions = DriverFunctions()
        let knownFilters: [any PlacementFilter] = [
            AvailabilityZoneFilter(), CapacityFilter(), CapabilitiesFilter(), DriverFilter(functions: functions), JsonFilter(),
            SameBackendFilter(), DifferentBackendFilter(), InstanceLocalityFilter(),
        ]
        let knownWeighers: [any PlacementWeigher] = [
            CapacityWeigher(multiplier: settings[Options.scheduler.capacityWeight]),
            AllocatedCapacityWeigher(multiplier: settings[Options.scheduler.allocatedCapacityWeight]),
            VolumeNumberWeigher(multiplier: settings[Options.scheduler.volumeNumberWeight]), ChanceWeigher(random: random),
            GoodnessWeigher(functions: functions),
        ]
        var problems: [String] = []
        /// Names may be given with their Python module.
        func find<T>(_ option: Option<[String]>, _ known: [T], _ name: (T) -> String) -> [T] {
            settings[option].compactMap { asked in
                let short = asked.split(separator: ".").last.map(String.init) ?? asked
                if let found = known.first(where: { name($0) == short }) { return found }
                problems.append(
                    "[DEFAULT] \(option.declaration.name): there is no '\(asked)'; known are \(known.map(name).joined(separator: ", "))")
                return nil
            }
        }
        let asked = find(Options.scheduler.filters, knownFilters) { $0.name }
        filters = [RequiredBackendFilter(), IgnoreAttemptedHostsFilter()] + asked
        weighers = find(Options.scheduler.weighers, knownWeighers) { $0.name }
        let handlerName = settings[Options.scheduler.weightHandler].split(separator: ".").last.map(String.init) ?? ""
        handler = Handler(rawValue: handlerName) ?? .ordered
        if Handler(rawValue: handlerName) == nil {
            problems.append(
                "[DEFAULT] scheduler_weight_handler: there is no '\(handlerName)'; known are "
                    + Handler.allCases.map(\.rawValue).joined(separator: ", "))
        }
        self.random = random
        self.instances = instances
        guard problems.isEmpty else { throw SettingsError(problems) }
    }

    public func place(_ request: PlacementRequest, among pools: [PoolState]) -> Placement {
        var verdicts: [Verdict] = []
        var candidates: [PoolState] = []
        pools: for pool in pools {
            if let current = request.currentHost, current != pool.host { continue }
            for filter in filters {
                if let reason = filter.refusal(of: pool, for: request) {
                    // Reasons quote what clients ask for.
                    verdicts.append(Verdict(pool: pool.host, filter: filter.name, reason: reason.shortened(to: Self.longestReason)))
                    continue pools
                }
            }
            candidates.append(pool)
        }
        var accepted = candidates.map { Verdict(pool: $0.host, weight: 0) }
        for weigher in weighers {
            var weights = WeightScale.finite(candidates.map { weigher.weight(of: $0, for: request) })
            // The stochastic handler draws by the weights as they are.
            if handler == .ordered { weights = WeightScale.normalized(weights) }
            for index in accepted.indices {
                accepted[index].parts[weigher.name] = weights[index] * weigher.multiplier
                accepted[index].weight = (accepted[index].weight ?? 0) + weights[index] * weigher.multiplier
            }
        }
        let chosen = choose(accepted.map { $0.weight ?? 0 })
        return Placement(choice: chosen.map { candidates[$0] }, verdicts: verdicts + accepted)
    }

    /// The index of the winner.
    private func choose(_ weights: [Double]) -> Int? {
        guard !weights.isEmpty else { return nil }
        if handler == .stochastic {
            let total = weights.reduce(0) { $0 + max(0, $1) }
            var ticket = random() * total
            for (index, weight) in weights.enumerated() where weight > 0 {
                ticket -= weight
                if ticket < 0 { return index }
            }
        }
        var best = 0
        for index in weights.indices where weights[index] > weights[best] { best = index }
        return best
    }
}

extension [Scheduler.Verdict] {
    private static let kept = 100

    /// What an operation's record keeps: all, or of very many the heaviest pools and some of those refused.
    public var abridged: [Scheduler.Verdict] {
        guard count > Self.kept else { return self }
        let accepted = filter { $0.filter == nil }.sorted { ($0.weight ?? 0) > ($1.weight ?? 0) }.prefix(Self.kept / 2)
        return Array(accepted) + filter { $0.filter != nil }.prefix(Self.kept - accepted.count)
    }

    /// As clients see them.
    public var json: JSON {
        .array(
            map { verdict in
                var object: JSONObject = ["pool": .string(verdict.pool)]
                if let filter = verdict.filter { object["filter"] = .string(filter) }
                if let reason = verdict.reason { object["reason"] = .string(reason) }
                if let weight = verdict.weight { object["weight"] = .real(weight) }
                if !verdict.parts.isEmpty {
                    object["weights"] = .object(
                        JSONObject(verdict.parts.sorted { $0.key < $1.key }.map { (name: $0.key, value: .real($0.value)) }))
                }
                return .object(object)
            })
    }
}
