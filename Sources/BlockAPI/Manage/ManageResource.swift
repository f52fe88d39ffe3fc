import BlockStorage
import Database
import HTTPServer
import JSON
import Policy
import Primitives

/// Taking over what lies in a backend: `/manageable_volumes` and `/manageable_snapshots`, the same under their older paths,
/// and the action that leaves it there again.
struct ManageResource: Resource {
    let store: Store
    let requests: VolumeRequests
    let manageable: ManageableList
    let serviceDownTime: Int

    var extensions: [APIExtension] {
        [
            managing("Volume", updated: "2014-02-10T00:00:00+00:00", volumes),
            unmanaging("Volume", updated: "2012-05-31T00:00:00+00:00", "volume_extension:volume_unmanage", VolumeResource.hiding) {
                try requests.unmanage($0, caller: $1, in: $2)
            },
            managing("Snapshot", updated: "2014-12-31T00:00:00+00:00", snapshots),
            unmanaging("Snapshot", updated: "2014-12-31T00:00:00+00:00", "snapshot_extension:snapshot_unmanage", nil) {
                try requests.unmanageSnapshot($0, caller: $1, in: $2)
            },
        ]
    }

    /// The operations of a kind, under their older path and under the one since 3.8.
    private func managing(
        _ kind: String, updated: String, _ operations: (_ path: String, _ name: String, _ versions: ClosedRange<Int>) -> [APIOperation]
    ) -> APIExtension {
        let word = kind.lowercased()
        return APIExtension(
            alias: "os-\(word)-manage", name: "\(kind)Manage", description: "Allows existing backend storage to be 'managed' by Cinder.",
            updated: updated,
            operations: operations("os-\(word)-manage", "\(word)-manage", APIVersion.all)
                + operations("manageable_\(word)s", "manageable-\(word)s", 8...71))
    }

    private func unmanaging(
        _ kind: String, updated: String, _ policy: Policies.Rule, _ hiding: APIOperation.Hiding?,
        _ unmanage: @escaping @Sendable (_ id: String, Caller, any Transaction) throws -> Void
    ) -> APIExtension {
        let word = kind.lowercased()
        let operation = APIOperation(
            "\(word)s:os-unmanage", "POST", "/\(word)s/{id}/action", action: "os-unmanage", policies: [policy],
            body: .action("os-unmanage"), answers: .empty(202), summary: "Forget a \(word) and leave its storage"
        ) { request in try await store.write { try unmanage(request.parameters[0], request.caller, $0) } }
        return APIExtension(
            alias: "os-\(word)-unmanage", name: "\(kind)Unmanage", description: "Enable volume unmanage operation.", updated: updated,
            operations: [hiding.map { operation.hidden($0) } ?? operation])
    }

    private func lists(
        _ path: String, _ name: String, _ versions: ClosedRange<Int>, _ policy: Policies.Rule, snapshots: Bool, summary: String
    ) -> [APIOperation] {
        let list = manageable.list(path, snapshots: snapshots)
        return [
            list.operation("\(name):list", versions: versions, policies: [policy], parts: .summary, summary: summary),
            list.operation(
                "\(name):detail", at: path + "/detail", versions: versions, policies: [policy], parts: .own,
                summary: summary + " in detail"),
        ]
    }

    // MARK: volumes

    private func volumes(_ path: String, _ name: String, _ versions: ClosedRange<Int>) -> [APIOperation] {
        let older: [(name: String, schema: Schema)] = [
            ("description", .string(0, 255, nullable: true, format: .printable)), ("availability_zone", .string(0, 255, nullable: true)),
            ("bootable", .boolean), ("volume_type", .string(0, 255, nullable: true)), ("name", .string(0, 255, nullable: true)),
            ("host", .string(1, 255, nullable: true, pattern: .host)), ("ref", Schema(kinds: [.object, .string])),
            ("metadata", .metadata(nullable: true)),
        ]
        let cluster: [(name: String, schema: Schema)] = [("cluster", .string(0, 255, nullable: true))]
        func body(_ properties: [(name: String, schema: Schema)]) -> Schema {
            .object([("volume", .object(properties, required: ["ref"]))], required: ["volume"])
        }
        return lists(
            path, name, versions, "volume_extension:list_manageable", snapshots: false, summary: "List what a backend holds"
        ) + [
            APIOperation(
                "\(name):create", "POST", "/" + path, versions: versions, policies: ["volume_extension:volume_manage"],
                bodies: [(0...15, body(older)), (16...71, body(older + cluster))], answers: .volume(.own, status: 202),
                summary: "Make a volume of what a backend holds", handler: manage)
        ]
    }

    private static func reference(_ body: JSON?) throws(HTTPError) -> JSONObject {
        let given = ["source-name", "source-id"].compactMap { key in (body?["ref"]?.object?[key]).map { (key: key, value: $0) } }
        guard given.count == 1, let name = given[0].value.string, !name.isEmpty, name.utf8.count <= 1024 else {
            throw .badRequest("Invalid input received: ref must name the storage by one text, source-name or source-id.")
        }
        // What was judged is what the driver is told, and nothing else.
        return [given[0].key: .string(name)]
    }

    @Sendable private func manage(_ request: APIRequest) async throws -> VolumeRows {
        let body = request.body["volume"]
        let (host, cluster) = (body?["host"]?.string ?? "", body?["cluster"]?.string ?? "")
        try request.oneOf(host: host, cluster: cluster, since: 16)
        guard !host.isEmpty else { throw HTTPError.badRequest("Cluster '\(cluster)' not found") }
        try await store.read { connection in
            if let name = body?["volume_type"]?.string, !name.isEmpty, !UUID.isUUIDLike(name),
                try VolumeTypes.named(name, in: connection) == nil
            {
                throw StorageError(.invalid, "Invalid volume type: Cannot find requested '\(name)' volume type")
            }
            _ = try Services.usable(host, downAfter: serviceDownTime, in: connection)
        }
        let reference = try Self.reference(body)
        var managed = ManagedVolume(host: host, reference: reference)
        managed.name = body?["name"]?.trimmedString
        managed.description = body?["description"]?.trimmedString
        managed.typeName = body?["volume_type"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        managed.zone = body?["availability_zone"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        managed.isBootable = body?["bootable"]?.lenientBool ?? false
        managed.metadata = body?["metadata"]?.object ?? [:]
        let asked = managed
        // Read before the commit: after it, the flow may have changed what the answer says already.
        return try await store.write { tx in
            let id = try requests.manage(asked, downAfter: serviceDownTime, caller: request.caller, in: tx)
            return try Volumes.shown(id, to: request.caller, in: tx)
        }
    }

    // MARK: snapshots

    private static let snapshotBody = Schema.object(
        [
            (
                "snapshot",
                .object(
                    [
                        ("description", .string(0, 255, nullable: true, format: .printable)), ("metadata", .metadata(nullable: true)),
                        ("name", .string(0, 255, nullable: true)), ("volume_id", .uuid), ("ref", Schema(kinds: [.object, .null, .string])),
                    ], required: ["ref", "volume_id"])
            )
        ], required: ["snapshot"])

    private func snapshots(_ path: String, _ name: String, _ versions: ClosedRange<Int>) -> [APIOperation] {
        lists(path, name, versions, "snapshot_extension:list_manageable", snapshots: true, summary: "List a backend's snapshots") + [
            APIOperation(
                "\(name):create", "POST", "/" + path, versions: versions, policies: ["snapshot_extension:snapshot_manage"],
                body: Self.snapshotBody, answers: .one(SnapshotView.view, .own, status: 202),
                summary: "Make a snapshot of what a backend holds", handler: manageSnapshot)
        ]
    }

    @Sendable private func manageSnapshot(_ request: APIRequest) async throws -> Snapshot {
        let body = request.body["snapshot"]
        try await store.read { _ = try Volumes.get(body?["volume_id"]?.string ?? "", for: request.caller, in: $0) }
        let reference = try Self.reference(body)
        var new = NewSnapshot()
        new.name = body?["name"]?.trimmedString
        new.description = body?["description"]?.trimmedString
        new.metadata = body?["metadata"]?.object ?? [:]
        let asked = new
        return try await store.write { tx in
            let id = try requests.manageSnapshot(
                of: body?["volume_id"]?.string ?? "", asked, reference: reference, downAfter: serviceDownTime,
                caller: request.caller, in: tx)
            return try Snapshots.get(id, for: request.caller, in: tx)
        }
    }
}
