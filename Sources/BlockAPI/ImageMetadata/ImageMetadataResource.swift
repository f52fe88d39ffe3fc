import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// What a volume has of its image's properties: actions of the volume, and a member of it.
struct ImageMetadataResource: Resource {
    let store: Store

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-vol-image-meta", name: "VolumeImageMetadata", description: "Image metadata of volumes.",
                updated: "2012-12-07T00:00:00+00:00", operations: [set, show, unset].map { $0.hidden(VolumeResource.hiding) })
        ]
    }

    /// The member that it adds to volumes which have any.
    static let member = Field<VolumeView.Source>.written("volume_image_metadata", .map(.text)) { source, _, writer in
        if let text = source.row.bytes(VolumeTable.table.imageMetadata) { writer.raw(text) }
    }.part(.extensions).rule("volume_extension:volume_image_metadata:show")
        // Without any it is `{}`.
        .when(VolumeTable.table.imageMetadata, isLongerThan: 2)

    /// Values may be long here, as an image's properties are.
    private static let properties = Schema(
        kinds: [.object], patternProperties: [(.metadataKey, .string(format: .longText))], allowsOthers: false)

    private var set: APIOperation {
        let key = "os-set_image_metadata"
        return action(
            key, policies: ["volume_extension:volume_image_metadata:set", "volume:update_volume_metadata"],
            body: .object([("metadata", Self.properties)], required: ["metadata"]), answers: .member("metadata", .map(.text)),
            summary: "Add to the image metadata of a volume"
        ) { request in
            let added = request.body[key]?["metadata"]?.object ?? [:]
            return try await store.write { tx in
                let all = try Volumes.updateMetadata(.image, of: request.parameters[0], caller: request.caller, in: tx) { items in
                    for member in added.members { items[member.name] = member.value }
                }
                return .object(all)
            }
        }
    }

    private var show: APIOperation {
        action(
            "os-show_image_metadata", policies: ["volume:get_volume_metadata"], body: .any, answers: .member("metadata", .map(.text)),
            summary: "Show the image metadata of a volume"
        ) { request in
            let id = request.parameters[0]
            let items = try await store.read {
                _ = try Volumes.get(id, for: request.caller, in: $0)
                return try Volumes.map(.image, of: id, in: $0)
            }
            guard !items.isEmpty else { throw Self.missing(id) }
            return .object(items)
        }
    }

    private var unset: APIOperation {
        let key = "os-unset_image_metadata"
        return action(
            key, policies: ["volume_extension:volume_image_metadata:remove", "volume:delete_volume_metadata"],
            body: .object([("key", .string(1, 255))], required: ["key"]), answers: .empty(200, as: HTTPResponse.html),
            summary: "Remove one item of the image metadata of a volume"
        ) { request in
            let (id, name) = (request.parameters[0], request.body[key]?["key"]?.string ?? "")
            _ = try await store.write { tx in
                try Volumes.updateMetadata(.image, of: id, caller: request.caller, in: tx) { items in
                    guard items[name] != nil else { throw Self.missing(id) }
                    items[name] = nil
                }
            }
        }
    }

    private func action<Output>(
        _ key: String, policies: [Policies.Rule], body: Schema, answers: Reply<Output>, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Output
    ) -> APIOperation {
        APIOperation(
            "volumes:\(key)", "POST", "/volumes/{id}/action", action: key, policies: policies, body: .action(key, body), answers: answers,
            summary: summary, handler: handler)
    }

    private static func missing(_ id: String) -> StorageError {
        StorageError(.notFound, "Glance metadata for volume/snapshot \(id) cannot be found.")
    }
}
