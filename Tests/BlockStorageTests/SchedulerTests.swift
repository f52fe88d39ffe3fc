import JSON
import Settings
import Testing

@testable import BlockStorage

func pool(
    _ host: String, total: Double? = 100, free: Double? = 100, provisioned: Double? = nil, allocated: Double = 0, reserved: Double = 0,
    ratio: String = "20.0", thin: Bool = true, zone: String = "nova", volumes: Int = 0, capabilities: JSONObject = [:]
) -> PoolState {
    PoolState(
        host: host, zone: zone, capabilities: capabilities, totalGB: total, freeGB: free, provisionedGB: provisioned,
        allocatedGB: allocated,
        volumes: volumes, reservedPercentage: reserved, maxOverSubscriptionRatio: ratio, isThin: thin, isThick: !thin, timestamp: "")
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

    // MARK: configured

    private func scheduler(_ options: String, random: @escaping @Sendable () -> Double = { 0 }) throws -> Scheduler {
        try Scheduler(try Settings(text: "[DEFAULT]\n" + options), random: random)
    }

    @Test("an unknown filter, weigher or handler is refused with those that are known")
    func unknown() {
        for (options, words) in [
            ("scheduler_default_filters = NopeFilter", ["scheduler_default_filters", "'NopeFilter'", "JsonFilter"]),
            ("scheduler_default_weighers = NopeWeigher", ["scheduler_default_weighers", "'NopeWeigher'", "GoodnessWeigher"]),
            ("scheduler_weight_handler = Nope", ["scheduler_weight_handler", "'Nope'", "StochasticHostWeightHandler"]),
        ] {
            let problems = #expect(throws: SettingsError.self) { try scheduler(options) }?.problems.joined() ?? ""
            for word in words { #expect(problems.contains(word), "\(options): \(problems)") }
        }
        #expect(throws: Never.self) {
            try scheduler("scheduler_default_filters = cinder.scheduler.filters.capacity_filter.CapacityFilter")
        }
    }

    /// CapacityFilter's corner cases: total, free, provisioned, reserved, ratio, thin pool, request; whether it fits.
    @Test(
        "CapacityFilter",
        arguments: [
            (100.0, 100.0, 0.0, 0.0, "20", false, 100, true), (100, 100, 0, 0, "20", false, 101, false),
            (100, 50, 0, 0, "20", false, 51, false), (100, 100, 60, 0, "20", false, 41, false), (100, 100, 60, 0, "20", false, 40, true),
            (100, 100, 0, 10, "20", false, 91, false), (100, 100, 0, 10, "20", false, 90, true),
            (99.5, 99.5, 0, 7, "20", false, 94, false), (99.5, 99.5, 0, 7, "20", false, 93, true),
            (0, 0, 0, 0, "20", false, 1, false), (-5, 5, 0, 0, "20", false, 1, false), (0, 0, 0, 0, "20", false, 0, true),
            (100, 1, 1900, 0, "20", true, 100, true), (100, 1, 1900, 0, "20", true, 101, false), (100, 100, 0, 0, "0.9", true, 1, false),
            (100, 100, 100, 0, "1", true, 1, false), (100, 100, 99, 0, "1", true, 1, true), (100, 60, 82, 0, "auto", true, 218, true),
            (100, 60, 82, 0, "auto", true, 219, false),
        ] as [(Double, Double, Double, Double, String, Bool, Int, Bool)])
    func capacity(
        total: Double, free: Double, provisioned: Double, reserved: Double, ratio: String, thin: Bool, size: Int, fits: Bool
    ) {
        let pool = pool("h", total: total, free: free, provisioned: provisioned, reserved: reserved, ratio: ratio, thin: thin)
        #expect((CapacityFilter().refusal(of: pool, for: request(size)) == nil) == fits)
    }

    @Test("CapacityFilter: what is unknown is enough unless a part is reserved; a thick type is not over-subscribed")
    func unknownCapacity() {
        let filter = CapacityFilter()
        #expect(filter.refusal(of: pool("h", total: nil, free: nil, reserved: 10), for: request(5)) == nil)
        #expect(filter.refusal(of: pool("h", total: nil, free: 1), for: request(5)) == nil)
        #expect(filter.refusal(of: pool("h", total: nil, free: 1, reserved: 10), for: request(5)) != nil)
        #expect(filter.refusal(of: pool("h", total: 100, free: nil), for: request(500)) == nil)
        let thick = request(60, specs: ["provisioning:type": "thick"])
        #expect(filter.refusal(of: pool("h", provisioned: 50), for: thick) != nil)
        #expect(filter.refusal(of: pool("h", provisioned: 50), for: request(60)) == nil)
        var there = request(1000)
        there.occupiedHost = "h@b#p"
        #expect(filter.refusal(of: pool("h@b#p", thin: false), for: there) == nil)
        #expect(filter.refusal(of: pool("h@b#q", thin: false), for: there) != nil)
    }

    @Test("CapabilitiesFilter: nested keys, lists, scopes, protocols, growth while attached")
    func capabilities() {
        let filter = CapabilitiesFilter()
        let pool = pool(
            "h",
            capabilities: [
                "a": ["b": ["c": "deep"]], "list": ["x", "y"], "flag": true, "storage_protocol": "iSCSI", "online_extend_support": false,
                "null": .null,
            ])
        for (specs, passes) in [
            (["capabilities:a:b:c": "deep"], true), (["a:b:c": "other"], true), (["capabilities:a:b": "deep"], false),
            (["list": "y"], true), (["list": "z"], false), (["flag": "<is> True"], true), (["flag": "True"], true),
            (["flag": "true"], false), (["storage_protocol": "iscsi"], true), (["storage_protocol": "iSCSI"], true),
            (["storage_protocol": "<in> fc"], false), (["null": "None"], false), (["missing": "x"], false), (["vendor:missing": "x"], true),
            (["capabilities:missing": "x"], false),
        ] as [(JSONObject, Bool)] {
            #expect((filter.refusal(of: pool, for: request(1, specs: specs)) == nil) == passes, "\(specs)")
        }
        var growing = request(1)
        growing.growsAttached = true
        #expect(filter.refusal(of: pool, for: growing) != nil)
    }

    @Test(
        "operators of extra specs that are malformed hold for nothing",
        arguments: [">=", ">= ", ">= x", "= 1 2", "<or>", "<or> ", "s==", "== ", "!= a", "<is> yes", ">=5"])
    func malformedSpecs(requirement: String) {
        #expect(!CapabilitiesFilter.satisfies("5", requirement))
    }

    @Test("SameBackendFilter and DifferentBackendFilter: by the volumes of the hint, in any form")
    func neighbours() async throws {
        let storage = try await Storage()
        let one = try await storage.volume(on: "h@one#p")
        let two = try await storage.volume(on: "h@two#p")
        let pools = [pool("h@one#p"), pool("h@two#p"), pool("h@three#p")]
        let scheduler = try scheduler("scheduler_default_filters = SameBackendFilter,DifferentBackendFilter")
        for (hints, passing) in [
            ([:], ["h@one#p", "h@two#p", "h@three#p"]), (["same_host": .string(one)], ["h@one#p"]),
            (["same_host": [.string(one), .string(two)]], ["h@one#p", "h@two#p"]),
            (["different_host": .string(one)], ["h@two#p", "h@three#p"]),
            (["different_host": [.string(one), .string(two)]], ["h@three#p"]),
            (["same_host": .string(one), "different_host": .string(two)], ["h@one#p"]),
            (["same_host": "11111111-1111-1111-1111-111111111111"], []), (["same_host": "not an id"], []),
            (["different_host": "11111111-1111-1111-1111-111111111111"], ["h@one#p", "h@two#p", "h@three#p"]),
            (["different_host": 5], []), (["same_host": []], ["h@one#p", "h@two#p", "h@three#p"]),
        ] as [(JSONObject, [String])] {
            var request = request(1)
            request.hints = try storage.database.readBlocking { try SchedulerHints(hints, of: nil, in: $0) }
            let found = scheduler.place(request, among: pools).verdicts.filter { $0.filter == nil }.map(\.pool)
            #expect(found == passing, "\(hints)")
        }
    }

    @Test("hints of a project name its own volumes; another's are to it as if they did not exist")
    func foreignHints() async throws {
        let storage = try await Storage()
        let theirs = try await storage.volume(on: "h@one#p")
        let pools = [pool("h@one#p"), pool("h@two#p")]
        let scheduler = try scheduler("scheduler_default_filters = SameBackendFilter,DifferentBackendFilter")
        let owner = try storage.database.readBlocking { try Volumes.find(theirs, in: $0)?.projectID }
        for (hints, project, passing) in [
            (["same_host": .string(theirs)], "stranger", []), (["different_host": .string(theirs)], "stranger", ["h@one#p", "h@two#p"]),
            (["same_host": .string(theirs)], owner, ["h@one#p"]), (["different_host": .string(theirs)], owner, ["h@two#p"]),
            (["same_host": .string(theirs)], nil, ["h@one#p"]),
        ] as [(JSONObject, String?, [String])] {
            var request = request(1)
            request.hints = try storage.database.readBlocking { try SchedulerHints(hints, of: project, in: $0) }
            let found = scheduler.place(request, among: pools).verdicts.filter { $0.filter == nil }.map(\.pool)
            #expect(found == passing, "\(hints) of \(project ?? "an administrator")")
        }
        let many: JSONObject = ["same_host": .array((0..<300).map { _ in .string(theirs) })]
        #expect(throws: StorageError.self) { try SchedulerHints.check(many) }
    }

    /// Says what it is given.
    private struct Known: InstanceLocator {
        let places: [String: InstancePlace]
        func place(ofInstance id: String) async -> InstancePlace { places[id] ?? .unknown(reason: "there is no instance \(id)") }
    }

    @Test("InstanceLocalityFilter: only the host on which the instance of the hint runs")
    func instanceLocality() async throws {
        let (here, there) = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")
        let storage = try await Storage()
        let pools = ["here@one#p", "here@two#q", "there@one#p", "here.example@one#p", "her@one#p"].map { pool($0, free: 100) }
        let instances = Known(places: [here: .host("here"), there: .host("there")])
        for (filters, hint, passing, reason) in [
            ("InstanceLocalityFilter", nil, [0, 1, 2, 3, 4], ""), ("InstanceLocalityFilter", .null, [0, 1, 2, 3, 4], ""),
            ("InstanceLocalityFilter", .string(here), [0, 1], "the instance runs on here"),
            ("InstanceLocalityFilter", .string(there), [2], "the instance runs on there"),
            ("InstanceLocalityFilter", "33333333-3333-3333-3333-333333333333", [], "there is no instance 3"),
            ("InstanceLocalityFilter", "not an id", [], "is no instance's id"), ("InstanceLocalityFilter", 5, [], "is no instance's id"),
            ("InstanceLocalityFilter", [.string(here)], [], "is no instance's id"),
            // Who did not turn it on does not ask.
            ("CapacityFilter", .string(there), [0, 1, 2, 3, 4], ""), ("CapacityFilter", "not an id", [0, 1, 2, 3, 4], ""),
        ] as [(String, JSON?, [Int], String)] {
            let settings = try Settings(text: "[DEFAULT]\nscheduler_default_filters = \(filters)")
            let scheduler = try Scheduler(settings, instances: Scheduler.asksForInstances(settings) ? instances : nil, random: { 0 })
            let hints: JSONObject = hint.map { ["local_to_instance": $0] } ?? [:]
            let place = await scheduler.instance(hints)
            var request = request(1)
            request.hints = try storage.database.readBlocking { try SchedulerHints(hints, of: nil, instance: place, in: $0) }
            let verdicts = scheduler.place(request, among: pools).verdicts
            #expect(verdicts.filter { $0.filter == nil }.map(\.pool) == passing.map { pools[$0].host }, "\(hints)")
            for verdict in verdicts where verdict.filter != nil {
                #expect(verdict.filter == "InstanceLocalityFilter" && verdict.reason?.contains(reason) == true, "\(hints): \(verdict)")
            }
        }
    }

    @Test(
        "JsonFilter",
        arguments: [
            (#"["=", "$vendor_name", "Clinker"]"#, true), (#"["=", "$vendor_name", "Other"]"#, false),
            (#"["<", "$free_capacity_gb", 50]"#, false), (#"[">=", "$free_capacity_gb", 50]"#, true),
            (#"["and", ["=", "$a.b", "deep"], [">", "$capabilities.free_capacity_gb", 10]]"#, true),
            (#"["or", ["=", "$a.b", "no"], ["in", "$vendor_name", "x", "Clinker"]]"#, true),
            (#"["not", ["=", "$vendor_name", "Clinker"]]"#, false), (#"["=", "$missing", null]"#, true), (#"["=", "$host", "h"]"#, true),
            (#"["="]"#, false), (#"["nope", 1, 2]"#, false), (#"[]"#, true), (#"["<", "$vendor_name", 5]"#, false), ("nonsense", false),
            (#"["and"]"#, true), ("0", false), (#"["<", 1, 2, 3]"#, true), (#"["<", 1, 3, 2]"#, false),
            (String(repeating: #"["not", "#, count: 40) + "1" + String(repeating: "]", count: 40), false),
        ])
    func json(query: String, holds: Bool) async throws {
        let storage = try await Storage()
        var request = request(1)
        request.hints = try storage.database.readBlocking { try SchedulerHints(["query": .string(query)], of: nil, in: $0) }
        let pool = pool("h", free: 50, capabilities: ["vendor_name": "Clinker", "a": ["b": "deep"]])
        #expect((JsonFilter().refusal(of: pool, for: request) == nil) == holds)
    }

    @Test("a reason quotes the beginning of what a client asked for, however long that is")
    func longHint() async throws {
        let storage = try await Storage()
        let scheduler = try Scheduler(try Settings(text: "[DEFAULT]\nscheduler_default_filters = JsonFilter\n"))
        var request = request(1)
        let query = "[\"\(String(repeating: "Z", count: 8000))\", 1, 1]"
        request.hints = try storage.database.readBlocking { try SchedulerHints(["query": .string(query)], of: nil, in: $0) }
        let verdict = try #require(scheduler.place(request, among: [pool("h")]).verdicts.first)
        let reason = try #require(verdict.reason)
        #expect(reason.contains("there is no operator 'ZZZ") && reason.utf8.count < 300)
    }

    @Test("DriverFilter and GoodnessWeigher: the driver's functions of the pool and the request")
    func functions() throws {
        let scheduler = try scheduler(
            "scheduler_default_filters = DriverFilter\nscheduler_default_weighers = GoodnessWeigher")
        func with(_ host: String, _ filter: JSON, _ goodness: JSON = .null) -> PoolState {
            pool(
                host,
                capabilities: [
                    "filter_function": filter, "goodness_function": goodness, "total_volumes": 7, "storage_protocol": "iSCSI",
                ])
        }
        let placement = scheduler.place(
            request(5, specs: ["tier": "3"]),
            among: [
                with("plain", .null, "50"), with("small", "volume.size < 5", "100"), with("fits", "volume.size <= 5", "(extra.tier) * 20"),
                with("wrong", "volume.size <", "100"), with("unknown", "stats.nope > 1", "100"), with("out", "true", "1"),
                with("protocol", "capabilities.storage_protocol == 'iscsi'", "101"), with("bool", "stats.total_volumes == 7", "1 < 2"),
                with("zero", "1 / 0", "1"), with("bad", "1", "1 / 0"),
            ])
        #expect(placement.choice?.host == "bool")
        let refused = Dictionary(
            placement.verdicts.compactMap { verdict in verdict.reason.map { (verdict.pool, $0) } }, uniquingKeysWith: { $1 })
        #expect(Set(refused.keys) == ["small", "wrong", "unknown", "out", "zero"])
        #expect(refused["unknown"]?.contains("there is no stats.nope") == true && refused["zero"]?.contains("division by zero") == true)
        let weights = Dictionary(
            placement.verdicts.compactMap { verdict in verdict.weight.map { (verdict.pool, $0) } }, uniquingKeysWith: { $1 })
        #expect(weights == ["plain": 0.5, "fits": 0.6, "protocol": 0, "bool": 1, "bad": 0])
    }

    @Test(
        "expressions",
        arguments: [
            ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("2 ^ 3 ^ 2", 512), ("-2 ^ 2", -4), ("7 / 2", 3.5), ("10 - 2 - 3", 5), ("- -3", 3),
            ("1 < 2 < 3", 1), ("1 < 3 < 2", 0), ("1 == 1.0", 1), ("'a' == 'a'", 1), ("'a' == 1", 0), ("'a' <> 1", 1), ("'a' < 'b'", 1),
            ("not 1", 0), ("!0", 1), ("1 and 0 or 1", 1), ("1 & 0 | 0", 0), ("1 > 2 ? 10 : 20", 20), ("1 ? 2 ? 3 : 4 : 5", 3),
            ("abs(-4)", 4), ("min(3, 1, 2)", 1), ("max(3, volume.size)", 9), ("volume.size * 1e1", 90), (".5 + .25", 0.75),
            ("extra.a:b == 4", 1), ("volume.size > 5 ? volume.size : 0", 9), ("'it' + 's' == \"its\"", 1), ("0 and 1 / 0", 0),
        ] as [(String, Double)])
    func expressions(text: String, value: Double) throws {
        let found = try Expression(parsing: text).evaluate { space, name in
            ["volume.size": 9, "extra.a:b": 4][space + "." + name]
        }
        #expect(found.number == value)
    }

    @Test(
        "what is no expression is refused with the reason",
        arguments: [
            "", " ", "1 +", "(1", "1)", "1 2", "a", "a.", ".a", "volume.size >", "abs(1, 2)", "min()", "foo(1)", "1 ? 2", "'open", "1..2",
            "#",
            "not", "1 = 1", String(repeating: "(", count: 100) + "1", String(repeating: "-", count: 10_000) + "1",
            String(repeating: "!", count: 10_000) + "1",
        ])
    func noExpressions(text: String) {
        #expect(throws: Expression.Problem.self) { try Expression(parsing: text).evaluate { _, _ in nil } }
    }

    @Test("weighers: normalised, multiplied, added; the first of the heaviest wins")
    func weighers() throws {
        let pools = [
            pool("a", free: 10, allocated: 90, thin: false, volumes: 1), pool("b", free: 60, allocated: 40, thin: false, volumes: 9),
            pool("c", free: 60, allocated: 60, thin: false, volumes: 5),
        ]
        func weights(_ options: String) throws -> (String?, [Double]) {
            let placement = try scheduler(options).place(request(1), among: pools)
            return (placement.choice?.host, placement.verdicts.map { (($0.weight ?? -9) * 1000).rounded() / 1000 })
        }
        // Thick: min(total - provisioned, free), and what is provisioned is what is allocated: 10, 60, 40.
        #expect(try weights("") == ("b", [0, 1, 0.6]))
        #expect(try weights("capacity_weight_multiplier = -2") == ("a", [0, -2, -1.2]))
        #expect(try weights("scheduler_default_weighers = AllocatedCapacityWeigher") == ("b", [-1, 0, -0.4]))
        #expect(try weights("scheduler_default_weighers = VolumeNumberWeigher") == ("a", [0, -1, -0.5]))
        #expect(
            try weights("scheduler_default_weighers = CapacityWeigher,VolumeNumberWeigher\nvolume_number_multiplier = -0.5")
                == ("b", [0, 0.5, 0.35]))
        #expect(try scheduler("").place(request(1), among: [pool("x"), pool("y")]).choice?.host == "x")
    }

    @Test("unknown capacity comes last, whichever way is wanted")
    func infinite() throws {
        let pools = [pool("unknown", total: nil, free: nil), pool("full", free: 10, thin: false), pool("empty", free: 90, thin: false)]
        #expect(try scheduler("").place(request(1), among: pools).choice?.host == "empty")
        let reverse = try scheduler("capacity_weight_multiplier = -1").place(request(1), among: pools)
        #expect(reverse.choice?.host == "full" && reverse.verdicts.first { $0.pool == "unknown" }?.weight == -1)
        #expect(WeightScale.finite([1, 5, .infinity]) == [1, 5, 405] && WeightScale.finite([7, .infinity]) == [7, 10_007])
        #expect(WeightScale.finite([.infinity]) == [9_999])
    }

    @Test("the stochastic handler draws by weight, the chance weigher by lot")
    func lots() throws {
        let pools = [pool("a", free: 10, thin: false), pool("b", free: 30, thin: false), pool("c", free: 60, thin: false)]
        for (ticket, winner) in [(0.0, "a"), (0.09, "a"), (0.11, "b"), (0.39, "b"), (0.41, "c"), (0.999, "c")] {
            let drawn = try scheduler("scheduler_weight_handler = StochasticHostWeightHandler") { ticket }
            #expect(drawn.place(request(1), among: pools).choice?.host == winner, "\(ticket)")
        }
        let lots = Lots([0.2, 0.9, 0.5])
        let chance = try scheduler("scheduler_default_weighers = ChanceWeigher") { lots.next() }
        #expect(chance.place(request(1), among: pools).choice?.host == "b")
    }

    private final class Lots: @unchecked Sendable {
        private var values: [Double]
        init(_ values: [Double]) { self.values = values }
        func next() -> Double { values.removeFirst() }
    }

    @Test("a filter that refuses leaves the pool without weight, and none left means no choice")
    func nothing() {
        let placement = Scheduler().place(request(1, zones: ["mars"]), among: [pool("a"), pool("b")])
        #expect(placement.choice == nil && placement.verdicts.allSatisfy { $0.filter == "AvailabilityZoneFilter" && $0.weight == nil })
        #expect(Scheduler().place(request(1), among: []).verdicts.isEmpty)
    }
}

extension Storage {
    fileprivate func volume(on host: String) async throws -> String {
        let id = try await create()
        try await database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.place(volume, host: host, serviceID: nil, zone: "nova", in: tx) }
        }
        return id
    }
}
