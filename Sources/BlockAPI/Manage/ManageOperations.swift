import BlockStorage
import HTTPServer
import JSON
import Policy
import Primitives

/// Taking over what lies in a backend: `/manageable_volumes` and `/manageable_snapshots`, the same under their older paths,
/// and the action that leaves it there again.
enum ManageOperations {
    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-volume-manage", name: "VolumeManage", description: "Allows existing backend storage to be 'managed' by Cinder.",
            updated: "2014-02-10T00:00:00+00:00",
            operations: volumes("/os-volume-manage", "volume-manage", APIVersion.all)
                + volumes("/manageable_volumes", "manageable-volumes", 8...71)),
        APIExtension(
            alias: "os-volume-unmanage", name: "VolumeUnmanage", description: "Enable volume unmanage operation.",
            updated: "2012-05-31T00:00:00+00:00",
            operations: [
                APIOperation(
                    "volumes:os-unmanage", "POST", "/volumes/{id}/action", action: "os-unmanage",
                    policies: ["volume_extension:volume_unmanage"], body: .action("os-unmanage"), success: 202,
                    summary: "Forget a volume and leave its storage"
                ) { request in
                    try await request.change {
                        try request.service.requests.unmanage(request.parameters[0], caller: request.caller, in: $0)
                    }
                    return HTTPResponse(status: 202)
                }
            ]),
        APIExtension(
            alias: "os-snapshot-manage", name: "SnapshotManage",
            description: "Allows existing backend storage to be 'managed' by Cinder.", updated: "2014-12-31T00:00:00+00:00",
            operations: snapshots("/os-snapshot-manage", "snapshot-manage", APIVersion.all)
                + snapshots("/manageable_snapshots", "manageable-snapshots", 8...71)),
        APIExtension(
            alias: "os-snapshot-unmanage", name: "SnapshotUnmanage", description: "Enable volume unmanage operation.",
            updated: "2014-12-31T00:00:00+00:00",
            operations: [
                APIOperation(
                    "snapshots:os-unmanage", "POST", "/snapshots/{id}/action", action: "os-unmanage",
                    policies: ["snapshot_extension:snapshot_unmanage"], body: .action("os-unmanage"), success: 202,
                    summary: "Forget a snapshot and leave its storage"
                ) { request in
                    try await request.change {
                        try request.service.requests.unmanageSnapshot(request.parameters[0], caller: request.caller, in: $0)
                    }
                    return HTTPResponse(status: 202)
                }
            ]),
    ]

    private static let reference = Schema(kinds: [.object, .string])

    private static func volumes(_ path: String, _ name: String, _ versions: ClosedRange<Int>) -> [APIOperation] {
        let older: [(name: String, schema: Schema)] = [
            ("description", .string(0, 255, nullable: true, format: .printable)), ("availability_zone", .string(0, 255, nullable: true)),
            ("bootable", .boolean), ("volume_type", .string(0, 255, nullable: true)), ("name", .string(0, 255, nullable: true)),
            ("host", .string(1, 255, nullable: true, pattern: .host)), ("ref", reference), ("metadata", .metadata(nullable: true)),
        ]
        let cluster: [(name: String, schema: Schema)] = [("cluster", .string(0, 255, nullable: true))]
        func body(_ properties: [(name: String, schema: Schema)]) -> Schema {
            .object([("volume", .object(properties, required: ["ref"]))], required: ["volume"])
        }
        let list: Policies.Rule = "volume_extension:list_manageable"
        return [
            APIOperation("\(name):list", "GET", path, versions: versions, policies: [list], summary: "List what a backend holds") {
                try await self.list($0, snapshots: false, detail: false)
            },
            APIOperation(
                "\(name):detail", "GET", path + "/detail", versions: versions, policies: [list],
                summary: "List what a backend holds in detail"
            ) { try await self.list($0, snapshots: false, detail: true) },
            APIOperation(
                "\(name):create", "POST", path, versions: versions, policies: ["volume_extension:volume_manage"],
                bodies: [(0...15, body(older)), (16...71, body(older + cluster))], success: 202,
                summary: "Make a volume of what a backend holds", handler: manage),
        ]
    }

    private static func snapshots(_ path: String, _ name: String, _ versions: ClosedRange<Int>) -> [APIOperation] {
        let list: Policies.Rule = "snapshot_extension:list_manageable"
        return [
            APIOperation("\(name):list", "GET", path, versions: versions, policies: [list], summary: "List a backend's snapshots") {
                try await self.list($0, snapshots: true, detail: false)
            },
            APIOperation(
                "\(name):detail", "GET", path + "/detail", versions: versions, policies: [list],
                summary: "List a backend's snapshots in detail"
            ) { try await self.list($0, snapshots: true, detail: true) },
            APIOperation(
                "\(name):create", "POST", path, versions: versions, policies: ["snapshot_extension:snapshot_manage"],
                body: .object(
                    [
                        (
                            "snapshot",
                            .object(
                                [
                                    ("description", .string(0, 255, nullable: true, format: .printable)),
                                    ("metadata", .metadata(nullable: true)), ("name", .string(0, 255, nullable: true)),
                                    ("volume_id", .uuid), ("ref", Schema(kinds: [.object, .null, .string])),
                                ], required: ["ref", "volume_id"])
                        )
                    ], required: ["snapshot"]), success: 202, summary: "Make a snapshot of what a backend holds", handler: manageSnapshot),
        ]
    }

    // MARK: taking over

    private static func reference(_ body: JSON?) throws(HTTPError) -> JSONObject {
        let given = ["source-name", "source-id"].compactMap { key in (body?["ref"]?.object?[key]).map { (key: key, value: $0) } }
        guard given.count == 1, let name = given[0].value.string, !name.isEmpty, name.utf8.count <= 1024 else {
            throw .badRequest("Invalid input received: ref must name the storage by one text, source-name or source-id.")
        }
        // What was judged is what the driver is told, and nothing else.
        return [given[0].key: .string(name)]
    }

    @Sendable private static func manage(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["volume"]
        let (host, cluster) = (body?["host"]?.string ?? "", body?["cluster"]?.string ?? "")
        try request.oneOf(host: host, cluster: cluster, since: 16)
        guard !host.isEmpty else { throw HTTPError.badRequest("Cluster '\(cluster)' not found") }
        try await request.database { connection in
            if let name = body?["volume_type"]?.string, !name.isEmpty, !UUID.isUUIDLike(name),
                try VolumeTypes.named(name, in: connection) == nil
            {
                throw StorageError(.invalid, "Invalid volume type: Cannot find requested '\(name)' volume type")
            }
            _ = try Services.usable(host, downAfter: request.service.serviceDownTime, in: connection)
        }
        let reference = try reference(body)
        var managed = ManagedVolume(host: host, reference: reference)
        managed.name = body?["name"]?.trimmedString
        managed.description = body?["description"]?.trimmedString
        managed.typeName = body?["volume_type"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        managed.zone = body?["availability_zone"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        managed.isBootable = body?["bootable"]?.lenientBool ?? false
        managed.metadata = body?["metadata"]?.object ?? [:]
        let asked = managed
        let id = try await request.change {
            try request.service.requests.manage(asked, downAfter: request.service.serviceDownTime, caller: request.caller, in: $0)
        }
        let volume = try await request.database { try Volumes.shown(id, to: request.caller, in: $0) }
        return HTTPResponse(status: 202, body: .buffer(VolumeView.body(volume, request, extended: false)))
    }

    @Sendable private static func manageSnapshot(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["snapshot"]
        try await request.database { _ = try Volumes.get(body?["volume_id"]?.string ?? "", for: request.caller, in: $0) }
        let reference = try reference(body)
        var new = NewSnapshot()
        new.name = body?["name"]?.trimmedString
        new.description = body?["description"]?.trimmedString
        new.metadata = body?["metadata"]?.object ?? [:]
        let asked = new
        let snapshot = try await request.change { tx in
            let id = try request.service.requests.manageSnapshot(
                of: body?["volume_id"]?.string ?? "", asked, reference: reference, downAfter: request.service.serviceDownTime,
                caller: request.caller, in: tx)
            return try Snapshots.get(id, for: request.caller, in: tx)
        }
        var response = try SnapshotOperations.answer(snapshot, request, extended: false)
        response.status = 202
        return response
    }

    // MARK: what is there

    /// A storage object, and whether it can be taken over.
    private struct Manageable {
        /// What it is managed by.
        let name: String
        let size: Int64
        let owner: String?
        /// Why the driver leaves it as it is.
        let reason: String?
        /// For a snapshot: the object it is of.
        var source: String?
    }

    private static func list(_ request: APIRequest, snapshots: Bool, detail: Bool) async throws -> HTTPResponse {
        let paging = try Paging(request)
        let (host, cluster) = (request.query("host") ?? "", request.version >= 17 ? request.query("cluster") ?? "" : "")
        try request.oneOf(host: host, cluster: cluster, since: 17)
        for (name, _) in request.http.query where !Paging.names.contains(name) && name != "host" && name != "cluster" {
            throw HTTPError.badRequest("Invalid input received: Invalid filter \(name): only host and cluster are known here.")
        }
        guard cluster.isEmpty else { throw HTTPError.notFound("Cluster \(cluster) could not be found.") }
        for (key, _) in paging.sort where key != "reference" && key != "size" {
            throw HTTPError.badRequest("Invalid input received: Invalid sort keys: \(key); known are reference and size")
        }
        let service = try await request.database { connection in
            guard try Services.find(binary: "cinder-volume", host: HostName.backend(of: host), in: connection) != nil else {
                throw StorageError(.notFound, "Service cinder-volume could not be found on host \(host).")
            }
            return try Services.usable(host, downAfter: request.service.serviceDownTime, in: connection)
        }
        let listing = try await request.service.listBackend(service.host, request.caller.requestID)
        var found = try await request.database { connection in
            try objects(listing, snapshots: snapshots, request.service.requests.names).map { object in
                Manageable(
                    name: object.reference, size: object.size, owner: try request.service.requests.owner(of: object.name, in: connection),
                    reason: object.reason, source: object.source)
            }
        }
        let order = paging.sort.isEmpty ? [(key: "reference", ascending: false)] : paging.sort
        found.sort { a, b in
            for (key, ascending) in order {
                if key == "size", a.size != b.size { return (a.size < b.size) == ascending }
                if key == "reference", a.name != b.name { return (a.name < b.name) == ascending }
            }
            return a.name < b.name
        }
        if let marker = paging.marker {
            // Clients send the reference as they were given it.
            let name = PythonLiteral.dictionary(marker)?.first { $0.key == .text("source-name") }?.value.columnText ?? marker
            guard let index = found.firstIndex(where: { $0.name == name }) else {
                throw HTTPError.badRequest("Invalid input received: marker not found: \(marker)")
            }
            found.removeFirst(index + 1)
        }
        found = Array(found.dropFirst(paging.offset).prefix(paging.limit))
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key(snapshots ? "manageable-snapshots" : "manageable-volumes")
            writer.beginArray()
            for object in found {
                writer.beginObject()
                writer.member("reference", ["source-name": .string(object.name)])
                writer.member("size", object.size)
                writer.member("safe_to_manage", object.owner == nil && object.reason == nil)
                if snapshots { writer.member("source_reference", object.source.map { ["source-name": .string($0)] } ?? .null) }
                if detail {
                    writer.member("reason_not_safe", object.owner == nil ? object.reason : "already managed")
                    writer.member("cinder_id", object.owner)
                    writer.memberNull("extra_info")
                }
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
    }

    private typealias Listed = (name: String, reference: String, size: Int64, reason: String?, source: String?)

    /// Objects of a driver's list: volumes, or snapshots, which a driver may list in their volume or beside it.
    private static func objects(_ listing: JSON, snapshots: Bool, _ names: StorageNames) -> [Listed] {
        (listing["volumes"]?.array ?? []).flatMap { object -> [Listed] in
            guard let name = object["name"]?.string else { return [] }
            let size = object["size"]?.integer ?? 0
            let isSnapshot = names.snapshotID(name) != nil
            let own: Listed = (
                name: name, reference: object["reference"]?.string ?? name, size: size, reason: object["unsafe"]?.string, source: nil
            )
            guard snapshots else { return isSnapshot ? [] : [own] }
            if isSnapshot { return [own] }
            return (object["snapshots"]?.array ?? []).compactMap { snapshot in
                names.snapshot(listed: snapshot["id"]?.string, snapshot["name"]?.string).map {
                    (name: $0, reference: $0, size: size, reason: nil, source: name)
                }
            }
        }
    }
}
