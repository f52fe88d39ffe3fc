import BlockStorage
import HTTPServer
import JSON

/// `/snapshots/{snapshot_id}/metadata`
enum SnapshotMetadataOperations {
    private static let whole = Schema.object([("metadata", .metadata(keys: .plainMetadataKey))], required: ["metadata"], others: true)
    private static let item: Schema = {
        var meta = Schema.metadata(keys: .plainMetadataKey)
        meta.minimumMembers = 1
        meta.maximumMembers = 1
        return .object([("meta", meta)], required: ["meta"], others: true)
    }()

    static let all: [APIOperation] = [
        APIOperation(
            "snapshot-metadata:list", "GET", "/snapshots/{snapshot_id}/metadata", policies: ["volume:get_snapshot_metadata"],
            summary: "Show a snapshot's metadata"
        ) { HTTPResponse.json(of: "metadata", .object(try await metadata($0))) },
        APIOperation(
            "snapshot-metadata:create", "POST", "/snapshots/{snapshot_id}/metadata", policies: ["volume:update_snapshot_metadata"],
            body: whole, summary: "Add to a snapshot's metadata"
        ) { request in
            let new = request.body["metadata"]?.object ?? [:]
            let metadata = try await change(request) { metadata in
                for member in new.members { metadata[member.name] = member.value }
            }
            return HTTPResponse.json(of: "metadata", .object(metadata))
        },
        APIOperation(
            "snapshot-metadata:replace", "PUT", "/snapshots/{snapshot_id}/metadata", policies: ["volume:update_snapshot_metadata"],
            body: whole, summary: "Replace a snapshot's metadata"
        ) { request in
            let new = request.body["metadata"]?.object ?? [:]
            return HTTPResponse.json(of: "metadata", .object(try await change(request) { $0 = new }))
        },
        APIOperation(
            "snapshot-metadata:show", "GET", "/snapshots/{snapshot_id}/metadata/{key}", policies: ["volume:get_snapshot_metadata"],
            summary: "Show one item of a snapshot's metadata"
        ) { request in
            guard let value = try await metadata(request)[request.parameters[1]] else { throw missing(request) }
            return HTTPResponse.json(of: "meta", .object(JSONObject([(name: request.parameters[1], value: value)])))
        },
        APIOperation(
            "snapshot-metadata:update", "PUT", "/snapshots/{snapshot_id}/metadata/{key}", policies: ["volume:update_snapshot_metadata"],
            body: item, summary: "Set one item of a snapshot's metadata"
        ) { request in
            let key = request.parameters[1]
            guard let value = request.body["meta"]?[key] else { throw HTTPError.badRequest("Request body and URI mismatch") }
            _ = try await change(request) { $0[key] = value }
            return HTTPResponse.json(of: "meta", .object(JSONObject([(name: key, value: value)])))
        },
        APIOperation(
            "snapshot-metadata:delete", "DELETE", "/snapshots/{snapshot_id}/metadata/{key}", policies: ["volume:delete_snapshot_metadata"],
            summary: "Remove one item of a snapshot's metadata"
        ) { request in
            let failure = missing(request)
            _ = try await change(request) { metadata in
                guard metadata[request.parameters[1]] != nil else { throw failure }
                metadata[request.parameters[1]] = nil
            }
            return HTTPResponse(status: 200, contentType: "text/html; charset=UTF-8")
        },
    ]

    private static func metadata(_ request: APIRequest) async throws -> JSONObject {
        let snapshot = try await request.database { try Snapshots.get(request.parameters[0], for: request.caller, in: $0) }
        return try JSON(parsing: snapshot.metadata).object ?? [:]
    }

    private static func change(_ request: APIRequest, _ body: @escaping @Sendable (inout JSONObject) throws -> Void) async throws
        -> JSONObject
    {
        try await request.change { try Snapshots.updateMetadata(request.parameters[0], caller: request.caller, in: $0, body) }
    }

    private static func missing(_ request: APIRequest) -> StorageError {
        StorageError(.notFound, "Snapshot \(request.parameters[0]) has no metadata with key \(request.parameters[1]).")
    }
}
