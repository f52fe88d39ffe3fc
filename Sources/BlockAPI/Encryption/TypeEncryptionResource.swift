import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// `/types/{type_id}/encryption`: how volumes of a type are encrypted.
struct TypeEncryptionResource: Resource {
    let store: Store

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "encryption", name: "VolumeTypeEncryption", description: "Encryption support for volume types.",
                updated: "2013-07-01T00:00:00+00:00", operations: records)
        ]
    }

    /// What the record shows, all of it or a single member.
    private static let members: [(name: String, shape: Shape, value: @Sendable (TypeEncryption) -> JSON)] = [
        ("encryption_id", .text, { .string($0.id) }),
        ("volume_type_id", .text, { .string($0.typeID) }),
        ("provider", .text, { JSON($0.values.provider) }),
        ("control_location", .choice(locations), { JSON($0.values.controlLocation) }),
        ("cipher", .nullable(.text), { JSON($0.values.cipher) }),
        ("key_size", .nullable(.integer), { $0.values.keySize.map { JSON($0) } ?? .null }),
        ("created_at", .time, { .string($0.createdAt) }),
        ("updated_at", .nullable(.time), { JSON($0.updatedAt) }),
        ("deleted", .boolean, { _ in false }),
        ("deleted_at", .null, { _ in .null }),
    ]
    private static let shape = Shape.object(members.map { Shape.Member($0.name, $0.shape) })

    private static let locations = ["front-end", "back-end"]

    private static func body(required: [String]) -> Schema {
        let encryption = Schema.object(
            [
                ("key_size", Schema(kinds: [.string, .integer, .null], minimum: 0, maximum: 2_147_483_647, format: .integer("key_size"))),
                ("provider", .string(0, 255)), ("control_location", Schema(choices: locations.map { .string($0) })),
                ("cipher", .string(0, 255, nullable: true)),
            ], required: required, others: true)
        return .object([("encryption", encryption)], required: ["encryption"])
    }

    private static func rule(_ name: String) -> Policies.Rule {
        Policies.Rule(stringLiteral: "volume_extension:volume_type_encryption:\(name)")
    }

    private var records: [APIOperation] {
        [
            APIOperation(
                "type-encryption:list", "GET", "/types/{type_id}/encryption", policies: [Self.rule("get")],
                answers: .json(.either([Self.shape, .object([])])),
                summary: "Show how volumes of a type are encrypted; nothing if they are not"
            ) { request in
                let found = try await encryption(request)
                return .object(JSONObject(found.map { found in Self.members.map { (name: $0.name, value: $0.value(found)) } } ?? []))
            },
            APIOperation(
                "type-encryption:show", "GET", "/types/{type_id}/encryption/{key}", policies: [Self.rule("get")],
                answers: .json(.map(.any)), summary: "Show one member of how volumes of a type are encrypted"
            ) { request in
                guard let found = try await encryption(request),
                    let member = Self.members.first(where: { $0.name == request.parameters[1] })
                else { throw TypeEncryptions.notFound(request.parameters[0]) }
                return .object(JSONObject([(name: member.name, value: member.value(found))]))
            },
            APIOperation(
                "type-encryption:create", "POST", "/types/{type_id}/encryption", policies: [Self.rule("create")],
                body: Self.body(required: ["provider", "control_location"]), answers: .member("encryption", .map(.any)),
                summary: "Say that volumes of a type are encrypted"
            ) { request in
                let typeID = request.parameters[0]
                var values = TypeEncryption.Values()
                let given = Self.read(request, into: &values)
                return .object(
                    try await store.write { [values] tx in
                        var shown = given
                        shown["volume_type_id"] = .string(typeID)
                        shown["encryption_id"] = .string(try TypeEncryptions.create(values, ofType: typeID, in: tx))
                        try CatalogueNotification.encryptionCreated(shown, ofType: typeID).note(by: request.caller, in: tx)
                        return shown
                    })
            },
            APIOperation(
                // Whatever the last name of the path is: there is one record.
                "type-encryption:update", "PUT", "/types/{type_id}/encryption/{key}", policies: [Self.rule("update")],
                body: Self.body(required: []), answers: .member("encryption", .map(.any)),
                summary: "Change how volumes of a type are encrypted"
            ) { request in
                try await store.write { tx in
                    try TypeEncryptions.update(ofType: request.parameters[0], in: tx) { _ = Self.read(request, into: &$0) }
                    try CatalogueNotification.encryptionUpdated(request.parameters[1], ofType: request.parameters[0])
                        .note(by: request.caller, in: tx)
                }
                var unchanged = TypeEncryption.Values()
                return .object(Self.read(request, into: &unchanged))
            },
            APIOperation(
                "type-encryption:delete", "DELETE", "/types/{type_id}/encryption/{key}", policies: [Self.rule("delete")],
                answers: .empty(202, as: HTTPResponse.html), summary: "Say that volumes of a type are not encrypted"
            ) { request in try await store.write { try TypeEncryptions.delete(ofType: request.parameters[0], in: $0) } },
        ]
    }

    private func encryption(_ request: APIRequest) async throws -> TypeEncryption? {
        let id = request.parameters[0]
        return try await store.read {
            _ = try VolumeTypes.get(id, for: request.caller, in: $0)
            return try TypeEncryptions.find(ofType: id, in: $0)
        }
    }

    /// Takes over what the body has; returns the body's members, the size of the key as a number.
    private static func read(_ request: APIRequest, into values: inout TypeEncryption.Values) -> JSONObject {
        var members = request.body["encryption"]?.object ?? [:]
        if let provider = members["provider"]?.string { values.provider = provider }
        if let location = members["control_location"]?.string { values.controlLocation = location }
        if let cipher = members["cipher"] { values.cipher = cipher.string }
        if let size = members["key_size"] {
            values.keySize = size.lenientInteger
            members["key_size"] = size.lenientInteger.map { JSON($0) } ?? .null
        }
        return members
    }
}
