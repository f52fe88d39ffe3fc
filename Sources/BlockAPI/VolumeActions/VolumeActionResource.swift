import BlockStorage
import Database
import HTTPServer
import JSON
import Policy
import Primitives

/// `POST /volumes/{id}/action`: every action is an extension's, as in Cinder.
struct VolumeActionResource: Resource {
    let store: Store
    let requests: VolumeRequests
    let outcomes: Outcomes
    let guardian: DetachGuard
    let images: ImageFinder
    let serviceDownTime: Int
    /// Volumes of which a request is about to make an image.
    let sentVolumes = Guarded<Set<String>>([])

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-volume-actions", name: "VolumeActions", description: "Actions of volumes: attach, detach, extend and others.",
                updated: "2012-05-31T00:00:00+00:00",
                operations: (storage + attaching + imaging).map { $0.hidden(VolumeResource.hiding) }),
            APIExtension(
                alias: "os-admin-actions", name: "AdminActions", description: "Actions of administrators.",
                updated: "2012-08-25T00:00:00+00:00",
                operations: (administration + migration).map { $0.hidden(VolumeResource.hiding) }),
        ]
    }

    func action(
        _ key: String, policies: [Policies.Rule], body: Schema = .any, status: Int = 202, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Void
    ) -> APIOperation {
        APIOperation(
            "volumes:\(key)", "POST", "/volumes/{id}/action", action: key, policies: policies, body: .action(key, body),
            answers: .empty(status), summary: summary, handler: handler)
    }

    /// What changes the volume itself.
    private var storage: [APIOperation] {
        [
            APIOperation(
                "volumes:revert", "POST", "/volumes/{id}/action", action: "revert", versions: 40...71,
                policies: ["volume:revert_to_snapshot"],
                body: .action("revert", .object([("snapshot_id", Schema(kinds: [.string, .null]))], others: true)), answers: .empty(202),
                summary: "Bring a volume back to its latest snapshot"
            ) { request in
                try await store.write {
                    try requests.revert(
                        request.parameters[0], to: request.body["revert"]?["snapshot_id"]?.string, caller: request.caller, in: $0)
                }
            },
            action(
                "os-extend", policies: ["volume:extend"],
                body: .object([("new_size", .size(nullable: false))], required: ["new_size"]),
                summary: "Make a volume larger"
            ) { request in
                let size = request.body["os-extend"]?["new_size"]?.lenientInteger ?? 0
                let allowAttached = request.version >= 42 && request.allows("volume:extend_attached_volume")
                try await store.write { tx in
                    try requests.extend(
                        request.parameters[0], to: size, allowAttached: allowAttached, caller: request.caller, in: tx)
                }
            },
            action(
                "os-retype", policies: ["volume:retype"],
                body: .object(
                    [("new_type", .string()), ("migration_policy", .choice("on-demand", "never", nullable: true))], required: ["new_type"]),
                summary: "Give a volume another type"
            ) { request in
                let body = request.body["os-retype"]
                try await store.write { tx in
                    try requests.retype(
                        request.parameters[0], to: body?["new_type"]?.string ?? "",
                        mayMigrate: body?["migration_policy"]?.string == "on-demand", caller: request.caller, in: tx)
                }
            },
            action(
                "os-set_bootable", policies: ["volume:update"], body: .object([("bootable", .boolean)], required: ["bootable"]),
                status: 200, summary: "Say whether a volume can be booted from"
            ) { request in
                let bootable = request.body["os-set_bootable"]?["bootable"]?.lenientBool ?? false
                try await store.write { try Volumes.setBootable(bootable, of: request.parameters[0], caller: request.caller, in: $0) }
            },
            action(
                "os-update_readonly_flag", policies: ["volume:update_readonly_flag"],
                body: .object([("readonly", .boolean)], required: ["readonly"]),
                summary: "Say whether a volume may be attached for reading only"
            ) { request in
                let readOnly = request.body["os-update_readonly_flag"]?["readonly"]?.lenientBool ?? false
                try await store.write { try Volumes.setReadOnly(readOnly, of: request.parameters[0], caller: request.caller, in: $0) }
            },
        ]
    }
}
