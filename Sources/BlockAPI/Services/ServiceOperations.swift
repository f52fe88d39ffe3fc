import BlockStorage
import HTTPServer
import JSON
import Policy

/// `/os-services`, `/os-availability-zone`, `/scheduler-stats/get_pools`
enum ServiceOperations {
    static let core: [APIOperation] = []

    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-services", name: "Services", description: "Services support.", updated: "2012-10-28T00:00:00-00:00",
            operations: [
                APIOperation(
                    "services:list", "GET", "/os-services", policies: ["volume_extension:services:index"], summary: "List services",
                    handler: services)
            ] + changes + LogOperations.all),
        APIExtension(
            alias: "clinker-services", name: "ServiceRemoval", description: "Forgets services that are gone for good.",
            updated: "2026-11-21T00:00:00+00:00",
            operations: [
                APIOperation(
                    "services:remove", "PUT", "/os-services/remove", policies: ["clinker:services_remove"],
                    body: .object(
                        [("binary", .string(1, 255)), ("host", .string(1, 255, pattern: .host))], required: ["binary", "host"]),
                    success: 202, summary: "Forget a service that is down and has no volumes"
                ) { request in
                    try await request.change {
                        try Services.remove(
                            binary: request.body["binary"]?.string ?? "", host: request.body["host"]?.string ?? "",
                            downAfter: request.service.serviceDownTime, in: $0)
                    }
                    return HTTPResponse(status: 202)
                }
            ]),
        APIExtension(
            alias: "os-availability-zone", name: "AvailabilityZones", description: "Describe Availability Zones.",
            updated: "2013-06-27T00:00:00+00:00",
            operations: [
                APIOperation("availability-zones:list", "GET", "/os-availability-zone", summary: "List availability zones", handler: zones)
            ]),
        APIExtension(
            alias: "scheduler-stats", name: "Scheduler_stats", description: "Scheduler stats support.",
            updated: "2014-09-07T00:00:00+00:00",
            operations: [
                APIOperation(
                    "pools:list", "GET", "/scheduler-stats/get_pools", policies: ["scheduler_extension:scheduler_stats:get_pools"],
                    summary: "List pools", handler: pools)
            ]),
    ]

    // MARK: changes

    private static let hostPattern = Schema.string(1, 255, nullable: true, pattern: .host)

    private static let changes: [APIOperation] = [
        toggle("enable", disables: false), toggle("disable", disables: true), toggle("disable-log-reason", disables: true, hasReason: true),
        freezing("freeze", "volume:freeze_host", true), freezing("thaw", "volume:thaw_host", false),
    ]

    private static func toggle(_ name: String, disables: Bool, hasReason: Bool = false) -> APIOperation {
        var properties: [(name: String, schema: Schema)] = [
            ("binary", .string(1, 255)), ("host", hostPattern), ("cluster", .string(0, 255, nullable: true)), ("service", .string(1, 255)),
        ]
        if hasReason { properties.append(("disabled_reason", .string(1, 255))) }
        var body = Schema.object(properties)
        body.anyRequired = ["binary", "service"]
        return APIOperation(
            "services:\(name)", "PUT", "/os-services/\(name)", policies: ["volume_extension:services:update"], body: body,
            summary: disables ? "Place no volumes on a backend" : "Place volumes on a backend again"
        ) { request in
            let binary = request.body["binary"]?.string
            guard let host = request.body["host"]?.string else {
                throw HTTPError.badRequest("Invalid input received: Host field is missing.")
            }
            let reason = request.body["disabled_reason"]?.trimmedString
            if hasReason, reason?.isEmpty ?? true {
                throw HTTPError.badRequest("Disabled reason contains invalid characters or is too long.")
            }
            let named = binary ?? request.body["service"]?.string ?? ""
            try await request.change { try Services.setDisabled(disables, reason: reason, binary: named, host: host, in: $0) }
            return .json { writer in
                writer.beginObject()
                writer.member("host", host)
                writer.member("service", request.body["service"]?.string ?? "")
                writer.member("binary", binary ?? "")
                writer.member("status", disables ? "disabled" : "enabled")
                writer.member("disabled", disables)
                if hasReason { writer.member("disabled_reason", reason) }
                writer.endObject()
            }
        }
    }

    private static func freezing(_ name: String, _ rule: Policies.Rule, _ isFrozen: Bool) -> APIOperation {
        APIOperation(
            "services:\(name)", "PUT", "/os-services/\(name)", policies: ["volume_extension:services:update", rule],
            body: .object([("host", hostPattern), ("cluster", .string(0, 255, nullable: true))]),
            summary: isFrozen ? "Freeze a backend" : "Thaw a backend"
        ) { request in
            let host = request.body["host"]?.string ?? ""
            try request.oneOf(host: host, cluster: request.body["cluster"]?.string ?? "", since: 26)
            guard !host.isEmpty else {
                throw HTTPError.badRequest("No service found with cluster=\(request.body["cluster"]?.string ?? "")")
            }
            try await request.change { try Services.setFrozen(isFrozen, host: host, in: $0) }
            return HTTPResponse(status: 200)
        }
    }

    @Sendable private static func services(_ request: APIRequest) async throws -> HTTPResponse {
        var found = try await request.database { try Services.all(in: $0) }
        if let host = request.query("host") { found.removeAll { $0.host != host && !$0.host.hasPrefix(host + "@") } }
        if let binary = request.query("binary") { found.removeAll { $0.binary != binary } }
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key("services")
            writer.beginArray()
            for service in found {
                let isVolume = service.binary == "cinder-volume"
                let isUp = service.isUp(downAfter: request.service.serviceDownTime)
                writer.beginObject()
                writer.member("binary", service.binary)
                writer.member("host", service.host)
                writer.member("zone", service.zone)
                writer.member("status", service.isDisabled ? "disabled" : "enabled")
                writer.member("state", isUp ? "up" : "down")
                writer.member("updated_at", service.heardAt)
                if isVolume, request.version >= 49 { writer.member("backend_state", service.backendState ?? "down") }
                if request.version >= 7 { writer.memberNull("cluster") }
                writer.member("disabled_reason", service.disabledReason)
                if isVolume {
                    writer.member("replication_status", service.replicationStatus)
                    writer.member("active_backend_id", service.activeBackendID)
                    writer.member("frozen", service.isFrozen)
                }
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }

    @Sendable private static func zones(_ request: APIRequest) async throws -> HTTPResponse {
        let services = try await request.database { try Services.all(in: $0) }.filter { $0.binary == "cinder-volume" }
        let names = Set(services.map(\.zone)).sorted()
        return .json { writer in
            writer.beginObject()
            writer.key("availabilityZoneInfo")
            writer.beginArray()
            for name in names {
                writer.beginObject()
                writer.member("zoneName", name)
                writer.key("zoneState")
                writer.beginObject()
                writer.member("available", services.contains { $0.zone == name && !$0.isDisabled })
                writer.endObject()
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }

    @Sendable private static func pools(_ request: APIRequest) async throws -> HTTPResponse {
        var detail = false
        if let text = request.query("detail") {
            guard let value = PythonText.bool(text) else {
                throw HTTPError.badRequest("Invalid input received: detail must be a boolean, not '\(text)'")
            }
            detail = value
        }
        var found = try await request.database { try request.service.pools($0) }
        if let name = request.query("name") { found.removeAll { $0.host != name } }
        if request.version >= 28 {
            for (name, value) in request.http.query where !["detail", "name", "volume_type"].contains(name) {
                found.removeAll { pool in
                    guard let capability = pool.capability(name) else { return true }
                    return capability.string.map { $0 != value } ?? (PythonText.str(capability) != value && capability.text != value)
                }
            }
        }
        if request.version >= 35, let name = request.query("volume_type") {
            let specs = try await request.database { try VolumeTypes.resolve(name, in: $0).extraSpecs }
            let placement = PlacementRequest(volumeID: "", size: 0, zones: [], extraSpecs: specs, requiredBackend: nil, attempted: [])
            let suitable = Set(request.service.scheduler.place(placement, among: found).verdicts.filter { $0.filter == nil }.map(\.pool))
            found.removeAll { !suitable.contains($0.host) }
        }
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key("pools")
            writer.beginArray()
            for pool in found {
                writer.beginObject()
                writer.member("name", pool.host)
                if detail { writer.member("capabilities", .object(pool.capabilities)) }
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }
}
