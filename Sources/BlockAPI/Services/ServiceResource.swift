import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// `/os-services` and `/os-availability-zone`
struct ServiceResource: Resource {
    let store: Store
    let serviceDownTime: Int
    let logs: LogOperations

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-services", name: "Services", description: "Services support.", updated: "2012-10-28T00:00:00-00:00",
                operations: [list] + changes + logs.operations),
            APIExtension(
                alias: "clinker-services", name: "ServiceRemoval", description: "Forgets services that are gone for good.",
                updated: "2026-11-21T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "services:remove", "PUT", "/os-services/remove", policies: ["clinker:services_remove"],
                        body: .object(
                            [("binary", .string(1, 255)), ("host", .string(1, 255, pattern: .host))], required: ["binary", "host"]),
                        answers: .empty(202), summary: "Forget a service that is down and has no volumes"
                    ) { request in
                        try await store.write {
                            try Services.remove(
                                binary: request.body["binary"]?.string ?? "", host: request.body["host"]?.string ?? "",
                                downAfter: serviceDownTime, in: $0)
                        }
                    }
                ]),
            APIExtension(
                alias: "os-availability-zone", name: "AvailabilityZones", description: "Describe Availability Zones.",
                updated: "2013-06-27T00:00:00+00:00", operations: [zones]),
        ]
    }

    private var list: APIOperation {
        APIOperation(
            "services:list", "GET", "/os-services", policies: ["volume_extension:services:index"],
            query: [
                APIOperation.Parameter("host", .text, "Only those of this node or backend."),
                APIOperation.Parameter("binary", .text, "Only those of this name."),
            ], answers: .all(ServiceView.view), summary: "List services"
        ) { request in
            var found = try await store.read { try Services.all(in: $0) }
            if let host = request.query("host") { found.removeAll { $0.host != host && !$0.host.hasPrefix(host + "@") } }
            if let binary = request.query("binary") { found.removeAll { $0.binary != binary } }
            return found.map { ServiceView.Source(service: $0, isUp: $0.isUp(downAfter: serviceDownTime)) }
        }
    }

    private struct Zone: Sendable {
        let name: String
        let isAvailable: Bool

        static let view = View<Zone>(
            "availabilityZone", "availabilityZoneInfo",
            [
                .text("zoneName") { $0.name },
                .written("zoneState", .of("available", .boolean)) { zone, _, writer in
                    writer.beginObject()
                    writer.member("available", zone.isAvailable)
                    writer.endObject()
                },
            ])
    }

    private var zones: APIOperation {
        APIOperation(
            "availability-zones:list", "GET", "/os-availability-zone", answers: .all(Zone.view), summary: "List availability zones"
        ) { _ in
            let services = try await store.read { try Services.all(in: $0) }.filter { $0.binary == "cinder-volume" }
            return Set(services.map(\.zone)).sorted().map { name in
                Zone(name: name, isAvailable: services.contains { $0.zone == name && !$0.isDisabled })
            }
        }
    }

    // MARK: changes

    private static let hostPattern = Schema.string(1, 255, nullable: true, pattern: .host)

    private var changes: [APIOperation] {
        [
            toggle("enable", disables: false), toggle("disable", disables: true),
            toggle("disable-log-reason", disables: true, hasReason: true), freezing("freeze", "volume:freeze_host", true),
            freezing("thaw", "volume:thaw_host", false),
        ]
    }

    private func toggle(_ name: String, disables: Bool, hasReason: Bool = false) -> APIOperation {
        var properties: [(name: String, schema: Schema)] = [
            ("binary", .string(1, 255)), ("host", Self.hostPattern), ("cluster", .string(0, 255, nullable: true)),
            ("service", .string(1, 255)),
        ]
        if hasReason { properties.append(("disabled_reason", .string(1, 255))) }
        var body = Schema.object(properties)
        body.anyRequired = ["binary", "service"]
        return APIOperation(
            "services:\(name)", "PUT", "/os-services/\(name)", policies: ["volume_extension:services:update"], body: body,
            answers: .bare(ServiceView.change),
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
            let service = request.body["service"]?.string ?? ""
            let named = binary ?? service
            try await store.write { try Services.setDisabled(disables, reason: reason, binary: named, host: host, in: $0) }
            return ServiceView.Change(
                host: host, service: service, binary: binary ?? "", isDisabled: disables, reason: hasReason ? .some(reason) : nil)
        }
    }

    private func freezing(_ name: String, _ rule: Policies.Rule, _ isFrozen: Bool) -> APIOperation {
        APIOperation(
            "services:\(name)", "PUT", "/os-services/\(name)", policies: ["volume_extension:services:update", rule],
            body: .object([("host", Self.hostPattern), ("cluster", .string(0, 255, nullable: true))]), answers: .empty(200),
            summary: isFrozen ? "Freeze a backend" : "Thaw a backend"
        ) { request in
            let host = request.body["host"]?.string ?? ""
            try request.oneOf(host: host, cluster: request.body["cluster"]?.string ?? "", since: 26)
            guard !host.isEmpty else {
                throw HTTPError.badRequest("No service found with cluster=\(request.body["cluster"]?.string ?? "")")
            }
            try await store.write { try Services.setFrozen(isFrozen, host: host, in: $0) }
        }
    }
}
