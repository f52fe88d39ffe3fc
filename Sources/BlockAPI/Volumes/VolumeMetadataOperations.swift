import BlockStorage
import Database
import HTTPServer
import JSON

/// `/volumes/{volume_id}/metadata`
enum VolumeMetadataOperations {
    private static let whole = Schema.object([("metadata", .metadata())], required: ["metadata"])
    private static let item: Schema = {
        var meta = Schema.metadata()
        meta.minimumMembers = 1
        meta.maximumMembers = 1
        return .object([("meta", meta)], required: ["meta"])
    }()

    static let all: [APIOperation] = [
        APIOperation(
            "volume-metadata:list", "GET", "/volumes/{volume_id}/metadata", policies: ["volume:get_volume_metadata"],
            summary: "Show a volume's metadata"
        ) { request in
            let metadata = try await request.database { connection in
                _ = try Volumes.get(request.parameters[0], for: request.caller, in: connection)
                return try Volumes.map(.user, of: request.parameters[0], in: connection)
            }
            var response = HTTPResponse.json(of: "metadata", .object(metadata))
            if request.version >= 15 {
                response.headers.append((name: "Etag", value: etag(metadata)))
                response.contentType = "text/html; charset=UTF-8"
            }
            return response
        },
        APIOperation(
            "volume-metadata:create", "POST", "/volumes/{volume_id}/metadata", policies: ["volume:create_volume_metadata"],
            body: whole, summary: "Add to a volume's metadata"
        ) { request in
            let new = request.body["metadata"]?.object ?? [:]
            let metadata = try await request.change { tx in
                try Volumes.updateMetadata(request.parameters[0], caller: request.caller, in: tx) { metadata in
                    for member in new.members { metadata[member.name] = member.value }
                }
            }
            return HTTPResponse.json(of: "metadata", .object(metadata))
        },
        APIOperation(
            "volume-metadata:replace", "PUT", "/volumes/{volume_id}/metadata", policies: ["volume:update_volume_metadata"],
            body: whole, summary: "Replace a volume's metadata"
        ) { request in
            let new = request.body["metadata"]?.object ?? [:]
            let isMatching = try await matching(request) { tx in
                try Volumes.updateMetadata(request.parameters[0], caller: request.caller, in: tx) { $0 = new }
            }
            return isMatching ? HTTPResponse.json(of: "metadata", .object(new)) : mismatch
        },
        APIOperation(
            "volume-metadata:show", "GET", "/volumes/{volume_id}/metadata/{key}", policies: ["volume:get_volume_metadata"],
            summary: "Show one item of a volume's metadata"
        ) { request in
            let value = try await request.database { connection in
                _ = try Volumes.get(request.parameters[0], for: request.caller, in: connection)
                return try Volumes.map(.user, of: request.parameters[0], in: connection)[request.parameters[1]]
            }
            guard let value else { throw missing(request) }
            return HTTPResponse.json(of: "meta", .object(JSONObject([(name: request.parameters[1], value: value)])))
        },
        APIOperation(
            "volume-metadata:update", "PUT", "/volumes/{volume_id}/metadata/{key}", policies: ["volume:update_volume_metadata"],
            body: item, summary: "Set one item of a volume's metadata"
        ) { request in
            let key = request.parameters[1]
            guard let value = request.body["meta"]?[key] else { throw HTTPError.badRequest("Request body and URI mismatch") }
            let isMatching = try await matching(request) { tx in
                try Volumes.updateMetadata(request.parameters[0], caller: request.caller, in: tx) { $0[key] = value }
            }
            return isMatching ? HTTPResponse.json(of: "meta", .object(JSONObject([(name: key, value: value)]))) : mismatch
        },
        APIOperation(
            "volume-metadata:delete", "DELETE", "/volumes/{volume_id}/metadata/{key}", policies: ["volume:delete_volume_metadata"],
            summary: "Remove one item of a volume's metadata"
        ) { request in
            let failure = missing(request)
            try await request.change { tx in
                _ = try Volumes.updateMetadata(request.parameters[0], caller: request.caller, in: tx) { metadata in
                    guard metadata[request.parameters[1]] != nil else { throw failure }
                    metadata[request.parameters[1]] = nil
                }
            }
            return HTTPResponse(status: 200, contentType: "text/html; charset=UTF-8")
        },
    ]

    private static func missing(_ request: APIRequest) -> StorageError {
        StorageError(.notFound, "Volume \(request.parameters[0]) has no metadata with key \(request.parameters[1]).")
    }

    private static let mismatch = HTTPResponse(status: 412, contentType: "text/html; charset=UTF-8")

    /// Since 3.15 a change can be made to depend on what the client last saw. False if it saw something else, and nothing was changed.
    private static func matching(_ request: APIRequest, _ body: @escaping @Sendable (any Transaction) throws -> Void) async throws -> Bool {
        let expected = request.version >= 15 ? request.http.header("If-Match") : nil
        return try await request.change { tx in
            if let expected, !expected.isEmpty {
                _ = try Volumes.get(request.parameters[0], for: request.caller, in: tx)
                let current = etag(try Volumes.map(.user, of: request.parameters[0], in: tx))
                let given = expected.split(separator: ",").map { String($0.filter { $0 != "\"" && $0 != " " }) }
                guard given.contains(current) || given.contains("*") else { return false }
            }
            try body(tx)
            return true
        }
    }

    /// The MD5 of `{"metadata": {...}}` as Python's json.dumps writes it: clients compare it with what Cinder gave them.
    static func etag(_ metadata: JSONObject) -> String {
        let items = metadata.members.map { "\(dumps($0.name)): \(dumps($0.value.string ?? ""))" }.joined(separator: ", ")
        return MD5.hex("{\"metadata\": {\(items)}}")
    }

    /// A string as json.dumps writes it: ASCII only.
    private static func dumps(_ text: String) -> String {
        var result = "\""
        for unit in text.utf16 {
            switch unit {
            case 0x22: result += "\\\""
            case 0x5C: result += "\\\\"
            case 0x0A: result += "\\n"
            case 0x0D: result += "\\r"
            case 0x09: result += "\\t"
            case 0x20..<0x7F: result.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default:
                let hex = String(unit, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            }
        }
        return result + "\""
    }
}
