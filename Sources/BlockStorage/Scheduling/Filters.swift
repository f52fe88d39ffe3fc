import JSON
import Primitives

/// What is to be placed.
public struct PlacementRequest: Sendable {
    public var volumeID: String
    public var size: Int
    public var zones: [String]
    public var extraSpecs: JSONObject
    /// `host@backend`, or `host@backend#pool`, to which a source or an administrator pins the volume.
    public var requiredBackend: String?
    /// A backend on which the volume must not be, and why.
    public var forbidden: (backend: String, reason: String)?
    /// Backends that failed with this volume already.
    public var attempted: [String]
    /// Set when the volume lies on this pool already and grows.
    public var currentHost: String?
    /// The pool on which the volume lies already with its whole size.
    public var occupiedHost: String?
    public var hints = SchedulerHints.none
    public var typeID: String?
    /// What the type's QoS asks of the backend.
    public var qosSpecs: JSONObject = [:]
    /// The volume grows while it is attached.
    public var growsAttached = false

    public init(
        volumeID: String, size: Int, zones: [String], extraSpecs: JSONObject, requiredBackend: String?, attempted: [String],
        currentHost: String? = nil
    ) {
        self.volumeID = volumeID
        self.size = size
        self.zones = zones
        self.extraSpecs = extraSpecs
        self.requiredBackend = requiredBackend
        self.attempted = attempted
        self.currentHost = currentHost
    }

    /// Types are thin unless they say otherwise.
    var isThin: Bool { extraSpecs["provisioning:type"]?.string != "thick" }
}

/// Decides whether a pool can take a volume; nil if it can, else why not.
public protocol PlacementFilter: Sendable {
    var name: String { get }
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String?
}

struct RequiredBackendFilter: PlacementFilter {
    let name = "RequiredBackend"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        if let forbidden = request.forbidden, forbidden.backend == pool.backend { return forbidden.reason }
        guard let required = request.requiredBackend, required != pool.backend, required != pool.host else { return nil }
        return "the volume must be on \(required)"
    }
}

struct IgnoreAttemptedHostsFilter: PlacementFilter {
    let name = "IgnoreAttemptedHostsFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        request.attempted.contains { $0 == pool.backend } ? "creation failed there before" : nil
    }
}

struct AvailabilityZoneFilter: PlacementFilter {
    let name = "AvailabilityZoneFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        request.zones.isEmpty || request.zones.contains(pool.zone)
            ? nil : "zone \(pool.zone) is not among \(request.zones.joined(separator: ", "))"
    }
}

struct CapacityFilter: PlacementFilter {
    let name = "CapacityFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        let requested = Double(request.size)
        guard requested > 0, request.occupiedHost != pool.host else { return nil }
        // What is unknown or infinite is enough, unless a part of it is to stay free.
        guard pool.freeGB != nil else { return nil }
        guard let total = pool.totalGB else {
            return pool.reservedPercentage == 0 ? nil : "\(pool.reservedPercentage) % of a capacity that is not known are reserved"
        }
        guard total > 0 else { return "the pool has no capacity" }
        let free = pool.virtualFree(thin: request.isThin) ?? 0
        if request.isThin && pool.isThin {
            let ratio = pool.overSubscription
            guard ratio >= 1 else { return "max_over_subscription_ratio \(ratio) is below 1" }
            let available = (total - (total * pool.reservedPercentage / 100).rounded(.down)) * ratio
            guard available > 0, (pool.provisionedGB + requested) / available <= ratio else {
                return "\(pool.provisionedGB + requested) GiB would be provisioned of \(available) GiB"
            }
        }
        return free >= requested ? nil : "\(free) GiB are free, \(requested) GiB are needed"
    }
}

/// Compares a type's extra specs with what a pool reports.
struct CapabilitiesFilter: PlacementFilter {
    let name = "CapabilitiesFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        if request.growsAttached, pool.capability("online_extend_support")?.bool == false {
            return "it cannot extend volumes that are attached"
        }
        for (key, requirement) in request.extraSpecs.members {
            var path = key.split(separator: ":").map(String.init)
            if path.count > 1 {
                guard path[0] == "capabilities" else { continue }
                path.removeFirst()
            }
            var value = pool.capability(path[0])
            for name in path.dropFirst() { value = value?[name] }
            guard let requirement = requirement.string else { continue }
            guard let value, value != .null else { return "it has no capability \(path.joined(separator: ":"))" }
            let candidates = path == ["storage_protocol"] ? StorageProtocol.variants(value).compactMap(\.self) : value.array ?? [value]
            if !candidates.contains(where: { Self.satisfies(Self.text($0), requirement) }) {
                return "\(path.joined(separator: ":")) is \(Self.text(value)), the type wants \(requirement)"
            }
        }
        return nil
    }

    /// A capability as Python's `str` shows it.
    static func text(_ value: JSON) -> String {
        switch value {
        case .bool(let value): value ? "True" : "False"
        case .string(let value): value
        default: value.text
        }
    }

    /// The operators of extra specs; without one it is equality of text.
    static func satisfies(_ value: String, _ requirement: String) -> Bool {
        let words = requirement.split(separator: " ").map(String.init)
        guard let first = words.first else { return value == requirement }
        let rest = words.dropFirst().joined(separator: " ")
        func compare(_ test: (Double, Double) -> Bool) -> Bool {
            guard let a = Double(value), let b = Double(rest) else { return false }
            return test(a, b)
        }
        switch first {
        case "=", ">=": return compare(>=)
        case "==": return compare(==)
        case "!=": return compare(!=)
        case "<=": return compare(<=)
        case "s==": return value == rest
        case "s!=": return value != rest
        case "s<": return value < rest
        case "s<=": return value <= rest
        case "s>": return value > rest
        case "s>=": return value >= rest
        case "<in>": return value.contains(rest)
        case "<is>": return isTrue(value) == isTrue(rest)
        case "<or>":
            return requirement.split(separator: " ").split(separator: "<or>").contains { $0.joined(separator: " ") == value }
        default: return value == requirement
        }
    }

    private static func isTrue(_ text: String) -> Bool { Bool(word: text) ?? false }
}
