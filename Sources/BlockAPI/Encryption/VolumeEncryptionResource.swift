import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// `/volumes/{id}/encryption`: what whoever attaches a volume must know to read it.
struct VolumeEncryptionResource: Resource {
    let store: Store

    var extensions: [APIExtension] {
        let rule = "volume_extension:volume_encryption_metadata" as Policies.Rule
        return [
            APIExtension(
                alias: "os-volume-encryption-metadata", name: "VolumeEncryptionMetadata",
                description: "Volume encryption metadata retrieval support.", updated: "2013-07-10T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "volume-encryption:list", "GET", "/volumes/{id}/encryption", policies: [rule], answers: .json(Self.shape),
                        summary: "Show how a volume is encrypted"
                    ) { request in .object(try await members(request)) }.hidden(VolumeResource.hiding),
                    APIOperation(
                        "volume-encryption:show", "GET", "/volumes/{id}/encryption/{key}", policies: [rule], answers: .json(.any),
                        summary: "Show one member of how a volume is encrypted"
                    ) { request in
                        guard let value = try await members(request)[request.parameters[1]] else {
                            throw StorageError(
                                .notFound, "Volume \(request.parameters[0]) has no encryption metadata with key \(request.parameters[1]).")
                        }
                        return value
                    }.hidden(VolumeResource.hiding),
                ])
        ]
    }

    private static let shape = Shape.object([
        Shape.Member("encryption_key_id", .nullable(.text)), Shape.Member("provider", .text, isOptional: true),
        Shape.Member("control_location", .text, isOptional: true), Shape.Member("cipher", .nullable(.text), isOptional: true),
        Shape.Member("key_size", .nullable(.integer), isOptional: true),
    ])

    private func members(_ request: APIRequest) async throws -> JSONObject {
        let id = request.parameters[0]
        let (key, encryption) = try await store.read {
            let volume = try Volumes.get(id, for: request.caller, in: $0)
            return (volume.encryptionKeyID, try TypeEncryptions.find(ofType: volume.volumeTypeID, in: $0))
        }
        var members: JSONObject = ["encryption_key_id": JSON(key)]
        guard let values = encryption?.values else { return members }
        members["provider"] = JSON(values.provider)
        members["control_location"] = JSON(values.controlLocation)
        members["cipher"] = JSON(values.cipher)
        members["key_size"] = values.keySize.map { JSON($0) } ?? .null
        return members
    }
}
