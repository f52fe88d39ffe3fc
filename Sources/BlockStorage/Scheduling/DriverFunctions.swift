import JSON
import Primitives

/// A driver's own functions of a pool and a request: `filter_function` and `goodness_function`.
struct DriverFunctions: Sendable {
    /// Expressions read already; the few texts that drivers and operators write.
    private let cache = Guarded<[String: Result<Expression, Expression.Problem>]>([:])

    /// The value of a pool's function; nil if it has none.
    func value(_ name: String, of pool: PoolState, for request: PlacementRequest) throws(Expression.Problem) -> [Expression.Value]? {
        guard let text = pool.capability(name)?.string, !text.isEmpty else { return nil }
        let expression = try read(text).get()
        // A protocol that has several names may be meant under any of them.
        var values: [Expression.Value] = []
        for variant in StorageProtocol.variants(pool.capability("storage_protocol")) {
            values.append(
                try expression.evaluate { space, name in
                    let found = name == "storage_protocol" && (space == "stats" || space == "capabilities") ? variant : nil
                    return found ?? Self.lookup(space, name, pool, request)
                })
        }
        return values
    }

    private func read(_ text: String) -> Result<Expression, Expression.Problem> {
        if let known = cache.withLock({ $0[text] }) { return known }
        let result: Result<Expression, Expression.Problem>
        do throws(Expression.Problem) { result = .success(try Expression(parsing: text)) } catch { result = .failure(error) }
        cache.withLock { cache in
            if cache.count >= 1000 { cache = [:] }
            cache[text] = result
        }
        return result
    }

    private static func lookup(_ space: String, _ name: String, _ pool: PoolState, _ request: PlacementRequest) -> JSON? {
        switch space {
        case "stats":
            switch name {
            case "host": .string(pool.host)
            case "allocated_capacity_gb": .real(pool.allocatedGB)
            default: pool.capability(name)
            }
        case "capabilities": pool.capability(name)
        case "volume":
            switch name {
            case "id": .string(request.volumeID)
            case "size": JSON(request.size)
            case "volume_type_id": JSON(request.typeID)
            default: nil
            }
        case "extra": request.extraSpecs[name].map(number)
        case "qos": request.qosSpecs[name].map(number)
        default: nil
        }
    }

    /// Specs are text; what reads as a number is one.
    private static func number(_ spec: JSON) -> JSON { spec.string.flatMap { Double($0) }.map { .real($0) } ?? spec }
}

/// Storage protocols go by several names, any of which a type may ask for.
enum StorageProtocol {
    private static let families: [[String]] = [
        ["iSCSI", "iscsi"], ["FC", "fibre_channel", "fc"], ["NFS", "nfs"], ["NVMe-oF", "NVMeOF", "nvmeof"],
    ]

    /// The names of what a pool reports; what is no protocol stands for itself.
    static func variants(_ reported: JSON?) -> [JSON?] {
        guard let reported else { return [nil] }
        let names = reported.array ?? [reported]
        let all = names.flatMap { name in families.first { $0.contains(name.string ?? "") }.map { $0.map { JSON.string($0) } } ?? [name] }
        return all.isEmpty ? [nil] : all
    }
}

/// The driver's filter function must hold; without one, every pool does.
struct DriverFilter: PlacementFilter {
    let name = "DriverFilter"
    let functions: DriverFunctions

    func refusal(of pool: PoolState, for request: PlacementRequest) -> String? {
        do throws(Expression.Problem) {
            guard let values = try functions.value("filter_function", of: pool, for: request) else { return nil }
            return values.contains(where: \.isTrue)
                ? nil : "its filter function does not hold: \(pool.capability("filter_function")?.string ?? "")"
        } catch { return "its filter function cannot be evaluated: \(error)" }
    }
}

/// The driver's goodness function, 0 to 100; an error or a value out of range counts as none.
struct GoodnessWeigher: PlacementWeigher {
    let name = "GoodnessWeigher"
    let multiplier = 1.0
    let functions: DriverFunctions

    func weight(of pool: PoolState, for request: PlacementRequest) -> Double {
        guard let value = (try? functions.value("goodness_function", of: pool, for: request))??.first else { return 0 }
        switch value {
        case .truth(let isGood): return isGood ? 100 : 0
        case .number(let goodness) where (0...100).contains(goodness): return goodness
        default: return 0
        }
    }
}
