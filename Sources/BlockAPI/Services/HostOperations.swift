import BlockStorage
import HTTPServer
import JSON

/// `/os-hosts` and `/capabilities`
enum HostOperations {
    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-hosts", name: "Hosts", description: "Admin-only host administration.", updated: "2011-06-29T00:00:00+00:00",
            operations: hosts),
        APIExtension(
            alias: "capabilities", name: "Capabilities", description: "Capabilities support.", updated: "2015-08-31T00:00:00+00:00",
            operations: [
                APIOperation(
                    "capabilities:show", "GET", "/capabilities/{id}", policies: ["volume_extension:capabilities"],
                    summary: "Show what a backend can do", handler: capabilities)
            ]),
    ]

    private static let hosts: [APIOperation] = [
        APIOperation("hosts:list", "GET", "/os-hosts", policies: ["volume_extension:hosts"], summary: "List hosts") { request in
            var services = try await request.database { try Services.all(in: $0) }
            if let zone = request.query("zone") { services.removeAll { $0.zone != zone } }
            return HTTPResponse.json(
                of: "hosts",
                .array(
                    services.map { service in
                        [
                            "host_name": .string(service.host), "service": .string(service.binary), "zone": .string(service.zone),
                            "service-status": service.isUp(downAfter: request.service.serviceDownTime) ? "available" : "unavailable",
                            "service-state": service.isDisabled ? "disabled" : "enabled", "last-update": .string(service.updatedAt),
                        ]
                    }))
        },
        APIOperation("hosts:show", "GET", "/os-hosts/{id}", policies: ["volume_extension:hosts"], summary: "Show what lies on a host") {
            request in
            let host = request.parameters[0]
            let usage = try await request.list(isShort: false) { connection in
                guard try Services.all(in: connection).contains(where: { $0.host == host }) else {
                    throw StorageError(.notFound, "Service cinder-volume could not be found on host \(host).")
                }
                return try HostUsage.ofProjects(on: host, in: connection)
            }
            let total = usage.reduce(into: HostUsage(project: "(total)")) { $0.add($1) }
            return HTTPResponse.json(
                of: "host",
                .array(
                    ([total] + usage).map { usage in
                        [
                            "resource": [
                                "host": .string(host), "project": .string(usage.project), "volume_count": .string("\(usage.volumes)"),
                                "total_volume_gb": .string("\(usage.volumeGigabytes)"), "snapshot_count": .string("\(usage.snapshots)"),
                                "total_snapshot_gb": .string("\(usage.snapshotGigabytes)"),
                            ]
                        ]
                    }))
        },
        APIOperation(
            "hosts:update", "PUT", "/os-hosts/{id}", policies: ["volume_extension:hosts"],
            body: .object([("status", .choice("enable", "disable"))], others: true), summary: "Enable or disable a host's services"
        ) { request in
            let host = request.parameters[0]
            guard let status = request.body["status"]?.string else {
                throw HTTPError.badRequest("Invalid input received: status is missing; it must be enable or disable.")
            }
            try await request.change { tx in
                let services = try Services.all(in: tx).filter { $0.host == host }
                guard !services.isEmpty else { throw StorageError(.notFound, "Host \(host) could not be found.") }
                for service in services {
                    try Services.setDisabled(status == "disable", reason: nil, binary: service.binary, host: host, in: tx)
                }
            }
            return .json { writer in
                writer.beginObject()
                writer.member("host", host)
                writer.member("status", status == "disable" ? "disabled" : "enabled")
                writer.endObject()
            }
        },
    ]

    /// Properties that types can ask of any backend.
    private static let common: JSON = [
        "thin_provisioning": ["title": "Thin Provisioning", "description": "Sets thin provisioning.", "type": "boolean"],
        "compression": ["title": "Compression", "description": "Enables compression.", "type": "boolean"],
        "qos": ["title": "QoS", "description": "Enables QoS.", "type": "boolean"],
        "replication_enabled": ["title": "Replication", "description": "Enables replication.", "type": "boolean"],
    ]

    @Sendable private static func capabilities(_ request: APIRequest) async throws -> HTTPResponse {
        let host = request.parameters[0]
        let (backend, pools) = try await request.database { connection in
            let backend = HostName.backend(of: host)
            guard try Services.find(binary: "cinder-volume", host: backend, in: connection) != nil else {
                throw StorageError(.notFound, "Can't find service: \(host)")
            }
            return (backend, try request.service.pools(connection))
        }
        guard let pool = pools.first(where: { $0.host == host || $0.backend == backend }) else {
            throw StorageError(.unavailable, "The backend \(backend) is down and has said nothing of itself.")
        }
        func known(_ name: String) -> JSON { pool.capability(name) ?? .null }
        return .json { writer in
            writer.beginObject()
            writer.member("namespace", "OS::Storage::Capabilities::\(host)")
            writer.member("vendor_name", known("vendor_name"))
            writer.member("volume_backend_name", known("volume_backend_name"))
            writer.member("pool_name", known("pool_name"))
            writer.member("driver_version", known("driver_version"))
            writer.member("storage_protocol", known("storage_protocol"))
            writer.member("display_name", known("display_name"))
            writer.member("description", known("description"))
            writer.member("visibility", known("visibility"))
            writer.member("replication_targets", pool.capability("replication_targets") ?? [])
            writer.member("properties", common)
            writer.endObject()
        }
    }
}
