import BlockStorage
import JSON
import Settings

/// A driver's filter function is refused with a reason, or places or refuses a volume: never more.
enum ExpressionFuzz {
    static func pool(filterFunction: String?) -> PoolState {
        PoolState(
            host: "node@file#files", zone: "nova",
            capabilities: ["filter_function": JSON(filterFunction), "storage_protocol": "iSCSI", "total_volumes": 7, "list": [1, 2]],
            totalGB: 100, freeGB: 100, provisionedGB: 0, allocatedGB: 0, volumes: 0, reservedPercentage: 0,
            maxOverSubscriptionRatio: "20.0",
            isThin: true, isThick: false, timestamp: "")
    }

    private static let scheduler: Scheduler = {
        var settings = Settings()
        settings.set("DEFAULT", "scheduler_default_filters", "DriverFilter")
        settings.set("DEFAULT", "scheduler_default_weighers", "GoodnessWeigher")
        guard let scheduler = try? Scheduler(settings) else { violated("no scheduler") }
        return scheduler
    }()

    static func run(_ bytes: UnsafeRawBufferPointer) {
        let text = String(decoding: bytes, as: UTF8.self)
        var isExpression = true
        do throws(Expression.Problem) { _ = try Expression(parsing: text) } catch {
            isExpression = false
            if error.description.isEmpty { violated("refused without a reason") }
        }
        let request = PlacementRequest(
            volumeID: "v", size: 5, zones: [], extraSpecs: ["tier": "3"], requiredBackend: nil, attempted: [])
        let placement = scheduler.place(request, among: [pool(filterFunction: text)])
        if !isExpression, !text.isEmpty, placement.choice != nil { violated("what is no expression held") }
        if placement.choice == nil, placement.verdicts.first?.reason?.isEmpty ?? true { violated("refused without a reason") }
    }
}
