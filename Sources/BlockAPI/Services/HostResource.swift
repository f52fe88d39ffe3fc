import BlockStorage
import Database
import HTTPServer
import JSON

/// `/os-hosts` and `/capabilities`
struct HostResource: Resource {
    let store: Store
    let serviceDownTime: Int
    let pools: any PoolReports

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-hosts", name: "Hosts", description: "Admin-only host administration.", updated: "2011-06-29T00:00:00+00:00",
                operations: hosts),
            APIExtension(
                alias: "capabilities", name: "Capabilities", description: "Capabilities support.", updated: "2015-08-31T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "capabilities:show", "GET", "/capabilities/{id}", policies: ["volume_extension:capabilities"],
                        answers: .bare(Capabilities.view), summary: "Show what a backend can do", handler: capabilities)
                ]),
        ]
    }

    // MARK: hosts

    private static let hostView = View<ServiceView.Source>(
        "host", "hosts",
        [
            .text("host_name") { $0.service.host },
            .text("service") { $0.service.binary },
            .text("zone") { $0.service.zone },
            .choice("service-status", ["available", "unavailable"]) { $0.isUp ? "available" : "unavailable" },
            .choice("service-state", ["enabled", "disabled"]) { $0.service.isDisabled ? "disabled" : "enabled" },
            .time("last-update") { $0.service.updatedAt },
        ])

    /// What a project has on a host.
    private struct Usage: Sendable {
        let host: String
        let usage: HostUsage

        static let view = View<Usage>(
            "resource", "resources", describedAs: "HostUsage",
            [
                .text("host") { $0.host },
                .text("project") { $0.usage.project },
                .text("volume_count") { "\($0.usage.volumes)" },
                .text("total_volume_gb") { "\($0.usage.volumeGigabytes)" },
                .text("snapshot_count") { "\($0.usage.snapshots)" },
                .text("total_snapshot_gb") { "\($0.usage.snapshotGigabytes)" },
            ])
    }

    private struct Change: Sendable {
        let host: String
        let isDisabled: Bool

        static let view = View<Change>(
            "host", "hosts", describedAs: "HostChange",
            [.text("host") { $0.host }, .choice("status", ["enabled", "disabled"]) { $0.isDisabled ? "disabled" : "enabled" }])
    }

    private var hosts: [APIOperation] {
        [
            APIOperation(
                "hosts:list", "GET", "/os-hosts", policies: ["volume_extension:hosts"],
                query: [APIOperation.Parameter("zone", .text, "Only those of this zone.")], answers: .all(Self.hostView),
                summary: "List hosts"
            ) { request in
                var services = try await store.read { try Services.all(in: $0) }
                if let zone = request.query("zone") { services.removeAll { $0.zone != zone } }
                return services.map { ServiceView.Source(service: $0, isUp: $0.isUp(downAfter: serviceDownTime)) }
            },
            APIOperation(
                "hosts:show", "GET", "/os-hosts/{id}", policies: ["volume_extension:hosts"],
                answers: .written(.of("host", .list(.of("resource", Usage.view.shape(.whole, version: 0))))) { usages, request, writer in
                    let plan = Usage.view.plan(.whole, for: request)
                    writer.beginObject()
                    writer.key("host")
                    writer.beginArray()
                    for usage in usages {
                        writer.beginObject()
                        writer.key("resource")
                        plan.write(usage, &writer)
                        writer.endObject()
                    }
                    writer.endArray()
                    writer.endObject()
                }, summary: "Show what lies on a host", handler: usage),
            APIOperation(
                "hosts:update", "PUT", "/os-hosts/{id}", policies: ["volume_extension:hosts"],
                body: .object([("status", .choice("enable", "disable"))], others: true), answers: .bare(Change.view),
                summary: "Enable or disable a host's services"
            ) { request in
                let host = request.parameters[0]
                guard let status = request.body["status"]?.string else {
                    throw HTTPError.badRequest("Invalid input received: status is missing; it must be enable or disable.")
                }
                try await store.write { tx in
                    let services = try Services.all(in: tx).filter { $0.host == host }
                    guard !services.isEmpty else { throw StorageError(.notFound, "Host \(host) could not be found.") }
                    for service in services {
                        try Services.setDisabled(status == "disable", reason: nil, binary: service.binary, host: host, in: tx)
                    }
                }
                return Change(host: host, isDisabled: status == "disable")
            },
        ]
    }

    @Sendable private func usage(_ request: APIRequest) async throws -> [Usage] {
        let host = request.parameters[0]
        let usage = try await store.list(for: request.caller, isShort: false) { connection in
            guard try Services.all(in: connection).contains(where: { $0.host == host }) else {
                throw StorageError(.notFound, "Service cinder-volume could not be found on host \(host).")
            }
            return try HostUsage.ofProjects(on: host, in: connection)
        }
        let total = usage.reduce(into: HostUsage(project: "(total)")) { $0.add($1) }
        return ([total] + usage).map { Usage(host: host, usage: $0) }
    }

    // MARK: capabilities

    private struct Capabilities: Sendable {
        let host: String
        let pool: PoolState

        static let view = View<Capabilities>("capabilities", "capabilities", fields)

        private static let fields: [Field<Capabilities>] = {
            var fields = [Field<Capabilities>.text("namespace") { "OS::Storage::Capabilities::\($0.host)" }]
            fields += reported.map { name in
                Field.written(name, .any) { source, _, writer in writer.value(source.pool.capability("\(name)") ?? .null) }
            }
            fields.append(
                Field.written("replication_targets", .any) { source, _, writer in
                    writer.value(source.pool.capability("replication_targets") ?? [])
                })
            fields.append(Field.written("properties", .map(.map(.text))) { _, _, writer in writer.value(common) })
            return fields
        }()

        /// What a driver says of itself.
        private static let reported: [StaticString] = [
            "vendor_name", "volume_backend_name", "pool_name", "driver_version", "storage_protocol", "display_name", "description",
            "visibility",
        ]

        /// Properties that types can ask of any backend.
        private static let common: JSON = [
            "thin_provisioning": ["title": "Thin Provisioning", "description": "Sets thin provisioning.", "type": "boolean"],
            "compression": ["title": "Compression", "description": "Enables compression.", "type": "boolean"],
            "qos": ["title": "QoS", "description": "Enables QoS.", "type": "boolean"],
            "replication_enabled": ["title": "Replication", "description": "Enables replication.", "type": "boolean"],
        ]
    }

    @Sendable private func capabilities(_ request: APIRequest) async throws -> Capabilities {
        let host = request.parameters[0]
        let (backend, known) = try await store.read { connection -> (String, [PoolState]) in
            let backend = HostName.backend(of: host)
            guard try Services.find(binary: "cinder-volume", host: backend, in: connection) != nil else {
                throw StorageError(.notFound, "Can't find service: \(host)")
            }
            return (backend, try pools.pools(in: connection))
        }
        guard let pool = known.first(where: { $0.host == host || $0.backend == backend }) else {
            throw StorageError(.unavailable, "The backend \(backend) is down and has said nothing of itself.")
        }
        return Capabilities(host: host, pool: pool)
    }
}
