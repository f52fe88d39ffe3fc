public import Database
public import JSON
import Primitives

/// What users ask of the scheduler for one volume, with what must be known of other volumes for it.
public struct SchedulerHints: Sendable {
    /// `same_host` or `different_host`: volumes by id.
    struct Neighbours: Sendable {
        let ids: [String]
        /// `host@backend` of those that exist.
        let backends: Set<String>
        var isMalformed: Bool { !ids.allSatisfy { UUID.isUUIDLike($0) } }
    }

    let same, different: Neighbours?
    let instance: InstancePlace?
    /// The expression of the JsonFilter.
    let query: JSON?

    public static let none = SchedulerHints()

    private init() {
        same = nil
        different = nil
        instance = nil
        query = nil
    }

    /// Bytes of JSON: the scheduler reads the hints for every pool, while others wait for it.
    private static let longest = 8192

    /// Throws why hints cannot be asked for.
    static func check(_ hints: JSONObject) throws {
        let length = JSON.object(hints).text.utf8.count
        guard length <= longest else {
            throw StorageError.invalidInput("scheduler_hints has \(length) bytes, more than \(longest)")
        }
    }

    /// `project`: whose volumes the hints can name, nil for everybody's; another one's are to them as if they did not exist.
    /// `instance` is what was found out of the instance that the hints name.
    public init(_ hints: JSONObject, of project: String?, instance: InstancePlace? = nil, in connection: any Connection) throws {
        self.instance = instance
        func neighbours(_ name: String) throws -> Neighbours? {
            guard let hint = hints[name], hint != .null else { return nil }
            let ids = (hint.array ?? [hint]).map { $0.string ?? $0.text }
            guard !ids.isEmpty else { return nil }
            let backends = try ids.filter { UUID.isUUIDLike($0) }.compactMap { id -> String? in
                guard let volume = try Volumes.find(id, in: connection), project == nil || volume.projectID == project else { return nil }
                return volume.backend
            }
            return Neighbours(ids: ids, backends: Set(backends))
        }
        same = try neighbours("same_host")
        different = try neighbours("different_host")
        // Clients send the expression as text.
        query = hints["query"].flatMap { hint in hint.string.map { (try? JSON(parsing: $0)) ?? .string($0) } ?? hint }
    }
}

/// Where the instance of the hint `local_to_instance` runs, as far as is known.
public enum InstancePlace: Sendable, Equatable {
    case host(String)
    /// There is no such instance, the hint is no id, or nobody could say.
    case unknown(reason: String)
}

/// Says where instances run: a compute service.
public protocol InstanceLocator: Sendable {
    func place(ofInstance id: String) async -> InstancePlace
}

/// Only on the host of the instance that the hint `local_to_instance` names.
struct InstanceLocalityFilter: PlacementFilter {
    let name = "InstanceLocalityFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        switch request.hints.instance {
        case nil: nil
        case .unknown(let reason): reason
        case .host(let host): pool.host.prefix { $0 != "@" } == host ? nil : "the instance runs on \(host)"
        }
    }
}

/// Only where one of the volumes named by the hint `same_host` lies.
struct SameBackendFilter: PlacementFilter {
    let name = "SameBackendFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        guard let hint = request.hints.same else { return nil }
        if hint.isMalformed { return "the hint same_host holds something that is no volume's id" }
        return hint.backends.contains(pool.backend) ? nil : "none of the volumes of same_host is there"
    }
}

/// Nowhere where one of the volumes named by the hint `different_host` lies.
struct DifferentBackendFilter: PlacementFilter {
    let name = "DifferentBackendFilter"
    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        guard let hint = request.hints.different else { return nil }
        if hint.isMalformed { return "the hint different_host holds something that is no volume's id" }
        return hint.backends.contains(pool.backend) ? "a volume of different_host is there" : nil
    }
}

/// The hint `query`: a list of an operator and its operands, which may be lists themselves, or `$attribute.member` of the pool.
struct JsonFilter: PlacementFilter {
    let name = "JsonFilter"
    private static let depthLimit = 32

    private struct Malformed: Error { let reason: String }

    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        guard let query = request.hints.query, query != .null, query != [] else { return nil }
        guard query.array != nil else { return "the hint query is no list" }
        do throws(Malformed) {
            return Self.isTrue(try Self.evaluate(query, pool, 0)) ? nil : "the hint query does not hold"
        } catch { return "the hint query cannot be evaluated: \(error.reason)" }
    }

    private static func evaluate(_ value: JSON, _ pool: PoolState, _ depth: Int) throws(Malformed) -> JSON {
        guard depth < depthLimit else { throw Malformed(reason: "it is nested too deeply") }
        switch value {
        case .string(let text) where text.hasPrefix("$"): return attribute(String(text.dropFirst()), of: pool)
        case .array(let items):
            guard let operation = items.first?.string else { throw Malformed(reason: "a list must begin with an operator") }
            var operands: [JSON] = []
            for item in items.dropFirst() { operands.append(try evaluate(item, pool, depth + 1)) }
            return .bool(try apply(operation, operands))
        default: return value
        }
    }

    private static func apply(_ operation: String, _ operands: [JSON]) throws(Malformed) -> Bool {
        switch operation {
        case "and": return operands.allSatisfy(isTrue)
        case "or": return operands.contains(where: isTrue)
        case "not": return !operands.contains(where: isTrue)
        default: break
        }
        guard operands.count > 1, let first = operands.first else { throw Malformed(reason: "\(operation) takes two operands or more") }
        let rest = operands.dropFirst()
        switch operation {
        case "=": return rest.allSatisfy { equal(first, $0) }
        case "in": return rest.contains { equal(first, $0) }
        case "<", ">", "<=", ">=":
            var left = first
            for right in rest {
                guard try ordered(left, operation, right) else { return false }
                left = right
            }
            return true
        default: throw Malformed(reason: "there is no operator '\(operation)'; known are =, <, >, in, <=, >=, not, or, and")
        }
    }

    private static func number(_ value: JSON) -> Double? {
        switch value {
        case .integer(let number): Double(number)
        case .real(let number): number
        case .bool(let truth): truth ? 1 : 0
        default: nil
        }
    }

    private static func equal(_ a: JSON, _ b: JSON) -> Bool {
        if let a = number(a), let b = number(b) { return a == b }
        return a == b
    }

    private static func ordered(_ a: JSON, _ operation: String, _ b: JSON) throws(Malformed) -> Bool {
        func holds<T: Comparable>(_ a: T, _ b: T) -> Bool {
            switch operation {
            case "<": a < b
            case "<=": a <= b
            case ">": a > b
            default: a >= b
            }
        }
        if let a = number(a), let b = number(b) { return holds(a, b) }
        if let a = a.string, let b = b.string { return holds(a, b) }
        throw Malformed(reason: "\(a.text) and \(b.text) cannot be compared by \(operation)")
    }

    private static func isTrue(_ value: JSON) -> Bool {
        switch value {
        case .null: false
        case .bool(let truth): truth
        case .integer(let number): number != 0
        case .real(let number): number != 0
        case .string(let text): !text.isEmpty
        case .array(let items): !items.isEmpty
        case .object(let object): !object.isEmpty
        }
    }

    private static func attribute(_ path: String, of pool: PoolState) -> JSON {
        let names = path.split(separator: ".", maxSplits: 8).map(String.init)
        guard let first = names.first else { return .null }
        var value: JSON? =
            switch first {
            case "host": .string(pool.host)
            case "capabilities": .object(pool.capabilities)
            case "allocated_capacity_gb": .real(pool.allocatedGB)
            default: pool.capability(first)
            }
        for name in names.dropFirst() { value = value?[name] }
        return value ?? .null
    }
}
