import BlockStorage
import Database
import HTTPServer
import JSON

/// `/volumes`
struct VolumeResource: Resource {
    let store: Store
    let requests: VolumeRequests
    let images: ImageFinder

    /// Of a volume that the caller may not see it learns nothing.
    static let hiding = APIOperation.Hiding(rule: "volume:get", error: StorageError.volumeNotFound)

    var operations: [APIOperation] {
        let list = VolumeList.list(store)
        return [
            list.operation("volumes:list", policies: ["volume:get_all"], parts: .summary, summary: "List volumes"),
            list.operation(
                "volumes:detail", at: "volumes/detail", policies: ["volume:get_all"], parts: .whole, summary: "List volumes in detail"),
            APIOperation(
                "volumes:summary", "GET", "/volumes/summary", versions: 12...71, policies: ["volume:get_all"],
                query: [APIOperation.Parameter("all_tenants", .text, "For administrators: of all projects.")],
                answers: .one(VolumeSummary.view), summary: "Number and size of all volumes"
            ) { request in
                let project = try request.wantsAllProjects() ? nil : request.caller.projectID
                let hidesCopies = !request.identity.isAdmin
                return try await store.list(for: request.caller, isShort: false) {
                    let found = try VolumeQuery.summary(projectID: project, hidesCopies: hidesCopies, in: $0)
                    return VolumeSummary(count: found.count, size: found.size, metadata: found.metadata)
                }
            },
            APIOperation(
                "volumes:show", "GET", "/volumes/{id}", policies: ["volume:get"], answers: .volume(.whole),
                summary: "Show a volume"
            ) { request in
                try await store.read { try Volumes.shown(request.parameters[0], to: request.caller, in: $0) }
            }.hidden(Self.hiding),
            APIOperation(
                "volumes:create", "POST", "/volumes", policies: ["volume:create"], bodies: VolumeBodies.creation,
                answers: .volume(.own, status: 202), summary: "Create a volume"
            ) { request in
                let new = try await VolumeBodies.newVolume(request, images)
                return try await store.write { tx in
                    try Volumes.shown(requests.create(new, caller: request.caller, in: tx), to: request.caller, in: tx)
                }
            },
            APIOperation(
                "volumes:update", "PUT", "/volumes/{id}", policies: ["volume:update"], bodies: VolumeBodies.update,
                answers: .volume(.own), summary: "Change name, description or metadata of a volume"
            ) { request in
                let body = request.body["volume"]
                func text(_ name: String, _ older: String) -> JSON? { (body?[name] ?? body?[older]).map { JSON($0.trimmedString) } }
                let id = request.parameters[0]
                let name = text("name", "display_name")
                let description = text("description", "display_description")
                return try await store.write { tx in
                    try Volumes.update(
                        id, name: name, description: description, metadata: body?["metadata"], caller: request.caller, in: tx)
                    return try Volumes.shown(id, to: request.caller, in: tx)
                }
            }.hidden(Self.hiding),
            APIOperation(
                "volumes:delete", "DELETE", "/volumes/{id}", policies: ["volume:delete"],
                query: [
                    APIOperation.Parameter("cascade", .text, "Whether to delete its snapshots too."),
                    APIOperation.Parameter("force", .text, "Whether to delete it whatever its state.", since: 23),
                ],
                answers: .empty(202, as: HTTPResponse.html), summary: "Delete a volume"
            ) { request in
                let cascade = try request.flag("cascade")
                let force = request.version >= 23 ? try request.flag("force") : false
                if force { try request.enforce("volume:force_delete") }
                try await store.write { tx in
                    try requests.delete(request.parameters[0], force: force, cascade: cascade, caller: request.caller, in: tx)
                }
            }.hidden(Self.hiding),
        ] + metadata.operations.map { $0.hidden(Self.hiding) }
    }

    private var metadata: MetadataResource {
        MetadataResource(
            store: store, name: "volume-metadata", path: "/volumes/{volume_id}/metadata", noun: "a volume's metadata", items: .metadata(),
            values: .text,
            rules: MetadataResource.Rules(
                list: "volume:get_volume_metadata", show: "volume:get_volume_metadata", create: "volume:create_volume_metadata",
                replace: "volume:update_volume_metadata", update: "volume:update_volume_metadata", delete: "volume:delete_volume_metadata"),
            etagsSince: 15,
            missing: { StorageError(.notFound, "Volume \($0) has no metadata with key \($1).") },
            read: { id, caller, connection in
                _ = try Volumes.get(id, for: caller, in: connection)
                return try Volumes.map(.user, of: id, in: connection)
            }, change: { try Volumes.updateMetadata(of: $0, caller: $1, in: $2, $3) })
    }

    /// What adds fields to volumes: `VolumeView` has them.
    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-vol-tenant-attr", name: "VolumeTenantAttribute", description: "Show the volume's project.",
                updated: "2011-11-03T00:00:00+00:00"),
            APIExtension(
                alias: "os-vol-mig-status-attr", name: "VolumeMigStatusAttribute", description: "Show the state of a volume's migration.",
                updated: "2013-08-08T00:00:00+00:00"),
            APIExtension(
                alias: "os-vol-host-attr", name: "VolumeHostAttribute", description: "Show the backend and pool of a volume.",
                updated: "2011-11-03T00:00:00+00:00"),
            APIExtension(
                alias: "OS-SCH-HNT", name: "SchedulerHints", description: "Pass hints to the scheduler when a volume is created.",
                updated: "2013-04-18T00:00:00+00:00",
                bodyMembers: ["volumes:create", "operations:explain"].map {
                    (operation: $0, name: "OS-SCH-HNT:scheduler_hints", schema: Schema(kinds: [.object, .null]))
                }),
        ]
    }
}

/// What `/volumes/summary` says.
struct VolumeSummary: Sendable {
    let count, size: Int
    /// The values that each key of metadata has.
    let metadata: [(key: String, values: [String])]

    static let view = View<VolumeSummary>(
        "volume-summary", "volume-summaries", describedAs: "VolumeTotals",
        [
            .integer("total_count") { $0.count },
            .integer("total_size") { $0.size },
            Field.written("metadata", .map(.list(.text))) { summary, _, writer in
                writer.beginObject()
                for (key, values) in summary.metadata {
                    writer.key(key)
                    writer.beginArray()
                    for value in values { writer.string(value) }
                    writer.endArray()
                }
                writer.endObject()
            }.since(36),
        ])
}
