import JSON
import Testing

@testable import BlockStorage

func pool(
    _ host: String, total: Double? = 100, free: Double? = 100, provisioned: Double? = nil, allocated: Double = 0, reserved: Double = 0,
    ratio: String = "20.0", thin: Bool = true, zone: String = "nova", capabilities: JSONObject = [:]
) -> PoolState {
    PoolState(
        host: host, zone: zone, capabilities: capabilities, totalGB: total, freeGB: free, provisionedGB: provisioned,
        allocatedGB: allocated,
        volumes: 0, reservedPercentage: reserved, maxOverSubscriptionRatio: ratio, isThin: thin, isThick: !thin, timestamp: "")
}

func request(_ size: Int, specs: JSONObject = [:], zones: [String] = [], required: String? = nil, attempted: [String] = [])
    -> PlacementRequest
{
    PlacementRequest(volumeID: "v", size: size, zones: zones, extraSpecs: specs, requiredBackend: required, attempted: attempted)
}

@Suite("Scheduler")
struct SchedulerTests {
    @Test("virtual free capacity follows Cinder's arithmetic")
    func arithmetic() {
        #expect(pool("h", total: 100, free: 50, provisioned: 60, reserved: 10).virtualFree(thin: true) == 1740)
        #expect(pool("h", total: 100, free: 50, provisioned: 60, reserved: 10).virtualFree(thin: false) == 30)
        #expect(pool("h", total: 100, free: 20, provisioned: 60, thin: false).virtualFree(thin: true) == 20)
        #expect(pool("h", total: 99.999, free: 99.999, reserved: 7, thin: false).virtualFree(thin: false) == 94)
        #expect(pool("h", total: nil, free: nil).virtualFree(thin: true) == nil)
        #expect(pool("h", total: 100, free: 60, provisioned: 0, ratio: "auto").overSubscription == 20)
        #expect(pool("h", total: 100, free: 60, provisioned: 82, ratio: "auto").overSubscription == 3)
    }

    @Test("the pool with most room wins; equals keep their order")
    func weighing() {
        let scheduler = Scheduler()
        #expect(
            scheduler.place(request(1), among: [pool("a", free: 10, thin: false), pool("b", free: 90, thin: false)]).choice?.host == "b")
        #expect(scheduler.place(request(1), among: [pool("a"), pool("b")]).choice?.host == "a")
        #expect(
            scheduler.place(request(1), among: [pool("a", total: nil, free: nil), pool("b", free: 2, thin: false)]).choice?.host == "b")
    }

    @Test("each filter refuses with its reason")
    func verdicts() {
        let pools = [
            pool("h@small#p", total: 5, free: 5, thin: false), pool("h@far#p", zone: "mars"), pool("h@tried#p"),
            pool("h@plain#p", capabilities: ["volume_backend_name": "plain"]),
            pool("h@gold#p", capabilities: ["volume_backend_name": "gold"]),
        ]
        let placement = Scheduler().place(
            request(10, specs: ["volume_backend_name": "gold", "other:scope": "x"], zones: ["nova"], attempted: ["h@tried"]), among: pools)
        #expect(placement.choice?.host == "h@gold#p")
        let refusals = Dictionary(placement.verdicts.map { ($0.pool, $0.filter) }, uniquingKeysWith: { $1 })
        #expect(refusals["h@small#p"] == "CapacityFilter")
        #expect(refusals["h@far#p"] == "AvailabilityZoneFilter")
        #expect(refusals["h@tried#p"] == "IgnoreAttemptedHostsFilter")
        #expect(refusals["h@plain#p"] == "CapabilitiesFilter")
        #expect(Scheduler().place(request(1, required: "h@gold"), among: pools).choice?.host == "h@gold#p")
    }

    @Test("over-subscription ends where the ratio says")
    func overSubscription() {
        let scheduler = Scheduler()
        #expect(scheduler.place(request(10), among: [pool("h", total: 10, free: 10, provisioned: 90, ratio: "10")]).choice != nil)
        #expect(scheduler.place(request(11), among: [pool("h", total: 10, free: 10, provisioned: 90, ratio: "10")]).choice == nil)
        #expect(scheduler.place(request(1), among: [pool("h", ratio: "0.5")]).choice == nil)
        #expect(scheduler.place(request(1), among: [pool("h", total: 0, free: 0)]).choice == nil)
        #expect(scheduler.place(request(1000), among: [pool("h", total: nil, free: nil)]).choice != nil)
    }

    @Test(
        "operators of extra specs",
        arguments: [
            ("5", ">= 4", true), ("5", "= 6", false), ("5", "== 5", true), ("5", "!= 5", false), ("5", "<= 4", false), ("x", "== 5", false),
            ("abc", "s== abc", true), ("abc", "s!= abc", false), ("b", "s< a", false), ("b", "s>= a", true), ("iscsi", "<in> scs", true),
            ("True", "<is> true", true), ("False", "<is> True", false), ("b", "<or> a <or> b", true), ("c", "<or> a <or> b", false),
            ("x", "x", true), ("x", "X", false), ("", "", true),
        ])
    func operators(value: String, requirement: String, expected: Bool) {
        #expect(CapabilitiesFilter.satisfies(value, requirement) == expected)
    }
}
