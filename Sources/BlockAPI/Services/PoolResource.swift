import BlockStorage
import Database
import HTTPServer
import JSON

/// `/scheduler-stats/get_pools`
struct PoolResource: Resource {
    let store: Store
    let scheduler: Scheduler
    let pools: any PoolReports

    private static let filters = ["name", "volume_type"]

    private static let view = View<PoolState>(
        "pool", "pools",
        [
            .text("name") { $0.host },
            Field.written("capabilities", .map(.any)) { pool, _, writer in writer.value(.object(pool.capabilities)) }.part(.detail),
        ])

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "scheduler-stats", name: "Scheduler_stats", description: "Scheduler stats support.",
                updated: "2014-09-07T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "pools:list", "GET", "/scheduler-stats/get_pools", policies: ["scheduler_extension:scheduler_stats:get_pools"],
                        query: [
                            APIOperation.Parameter("detail", .text, "Whether to show what pools can do."),
                            APIOperation.Parameter("name", .text, "Only this pool."),
                            APIOperation.Parameter("volume_type", .text, "Only those that suit the type.", since: 35),
                        ],
                        answers: .rendered { version in
                            .of(
                                "pools",
                                .list(
                                    .either([Self.view.shape(.own, version: version), Self.view.shape(.summary, version: version)])))
                        }, summary: "List pools", handler: list)
                ])
        ]
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Rendered {
        var detail = false
        if let text = request.query("detail") {
            guard let value = PythonText.bool(text) else {
                throw HTTPError.badRequest("Invalid input received: detail must be a boolean, not '\(text)'")
            }
            detail = value
        }
        // Of pools even an administrator may ask for nothing else since filters are configured; before, for any capability.
        if request.version >= 31 {
            let configured = store.resourceFilters()
            try FilterNames.refuse(
                request.http.lastOfEach.map(\.name).filter {
                    // Clients send all_tenants always.
                    $0 != "detail" && $0 != "all_tenants" && !configured.allows($0, of: "pool", version: request.version)
                })
        }
        var found = try await store.read { try pools.pools(in: $0) }
        if let name = request.query("name") { found.removeAll { $0.host != name } }
        if request.version >= 28 {
            for (name, value) in request.http.query
            where name != "detail" && !Self.filters.contains(name) && (name != "all_tenants" || request.version < 31) {
                found.removeAll { pool in
                    guard let capability = pool.capability(name) else { return true }
                    return capability.string.map { $0 != value } ?? (PythonText.str(capability) != value && capability.text != value)
                }
            }
        }
        if request.version >= 35, let name = request.query("volume_type") {
            let specs = try await store.read { try VolumeTypes.resolve(name, in: $0).extraSpecs }
            let placement = PlacementRequest(volumeID: "", size: 0, zones: [], extraSpecs: specs, requiredBackend: nil, attempted: [])
            let suitable = Set(scheduler.place(placement, among: found).verdicts.filter { $0.filter == nil }.map(\.pool))
            found.removeAll { !suitable.contains($0.host) }
        }
        let plan = Self.view.plan(detail ? .own : .summary, for: request)
        let shown = found
        return Rendered(capacity: 4096) { writer in
            writer.beginObject()
            writer.key(plan.view.plural)
            plan.write(shown, &writer)
            writer.endObject()
        }
    }
}
