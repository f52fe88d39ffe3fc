import BlockStorage
import JSON
import Testing

@testable import BlockAPI

/// What others are notified of when administrators change types and QoS specs: the event types, publishers and members that a Cinder 29
/// was seen to send.
@Suite("Notifications of types and QoS specs")
struct CatalogueNotificationTests {
    private struct Noted: Equatable {
        let type, priority, publisher: String
        let payload: JSON
    }

    private func api() async throws -> InMemoryAPI {
        let api = try await InMemoryAPI()
        api.database.accompany(by: NotificationOutbox(node: "node"))
        return api
    }

    /// What was noted since the last call.
    private func noted(_ api: InMemoryAPI) async throws -> [Noted] {
        try await api.database.write { tx in
            let all = try PendingNotifications.first(1000, in: tx)
            try PendingNotifications.remove(all.map(\.id), in: tx)
            return try all.map {
                Noted(type: $0.eventType, priority: $0.priority, publisher: $0.publisher, payload: try JSON(parsing: $0.payload))
            }
        }
    }

    private func only(_ api: InMemoryAPI) async throws -> Noted {
        let all = try await noted(api)
        try #require(all.count == 1, "\(all.map(\.type))")
        return all[0]
    }

    private func makeType(_ api: InMemoryAPI, _ name: String, isPublic: Bool = true) async throws -> String {
        let answer = try await api.send(
            "POST", "/types",
            ["volume_type": ["name": .string(name), "extra_specs": ["a": "b"], "os-volume-type-access:is_public": .bool(isPublic)]])
        return try #require(answer.json["volume_type"]?["id"]?.string)
    }

    @Test("a type is told whole when it is made, changed and deleted")
    func types() async throws {
        let api = try await api()
        let id = try await makeType(api, "fast")
        var told = try await only(api)
        #expect(told.type == "volume_type.create" && told.priority == "info" && told.publisher == "volumeType.node")
        let type = try #require(told.payload["volume_types"]?.object)
        #expect(
            type.names == [
                "id", "name", "description", "qos_specs_id", "is_public", "deleted_at", "deleted", "created_at", "updated_at",
                "extra_specs",
            ])
        #expect(type["id"]?.string == id && type["extra_specs"] == ["a": "b"] && type["is_public"] == true && type["updated_at"] == .null)

        _ = try await api.send("PUT", "/types/\(id)", ["volume_type": ["description": "d"]])
        told = try await only(api)
        #expect(told.type == "volume_type.update" && told.payload["volume_types"]?["description"] == "d")
        #expect(told.payload["volume_types"]?["updated_at"]?.string != nil)

        #expect(try await api.send("DELETE", "/types/\(id)").status == 202)
        told = try await only(api)
        #expect(told.type == "volume_type.delete" && told.payload["volume_types"]?["id"]?.string == id)
    }

    @Test("a refused change of a type is told as an error, with what was asked for or what is there")
    func refusedTypes() async throws {
        let api = try await api()
        let id = try await makeType(api, "fast")
        _ = try await makeType(api, "slow")
        _ = try await noted(api)
        #expect(try await api.send("POST", "/types", ["volume_type": ["name": "fast"]]).status == 409)
        #expect(
            try await only(api)
                == Noted(
                    type: "volume_type.create", priority: "error", publisher: "volumeType.node",
                    payload: [
                        "volume_types": ["name": "fast"], "name": nil, "id": nil, "error_message": "Volume Type fast already exists.",
                    ]))
        #expect(try await api.send("PUT", "/types/\(id)", ["volume_type": ["name": "slow"]]).status == 409)
        #expect(try await only(api).payload["volume_types"] == ["name": "slow"])
        for method in ["PUT", "DELETE"] {
            #expect(try await api.send(method, "/types/nobody", method == "PUT" ? ["volume_type": ["name": "n"]] : nil).status == 404)
            let told = try await only(api)
            #expect(told.priority == "error" && told.payload["id"] == "nobody" && told.payload["volume_types"] == .null)
        }
        let standard = try #require(try await api.send("GET", "/types/default").json["volume_type"]?["id"]?.string)
        #expect(try await api.send("DELETE", "/types/\(standard)").status == 400)
        let told = try await only(api)
        #expect(told.type == "volume_type.delete" && told.priority == "error" && told.payload["volume_types"]?["name"] == "__DEFAULT__")
    }

    @Test("extra specs are told when they are added, with their values, and by their key when one is set or removed")
    func extraSpecs() async throws {
        let api = try await api()
        let id = try await makeType(api, "fast")
        _ = try await noted(api)
        _ = try await api.send("POST", "/types/\(id)/extra_specs", ["extra_specs": ["x": "y", "z": nil]])
        _ = try await api.send("PUT", "/types/\(id)/extra_specs/x", ["x": "w"])
        #expect(try await api.send("DELETE", "/types/\(id)/extra_specs/x").status == 202)
        #expect(try await api.send("DELETE", "/types/\(id)/extra_specs/x").status == 404)
        let told = try await noted(api)
        #expect(told.map(\.type) == ["create", "update", "delete"].map { "volume_type_extra_specs." + $0 })
        #expect(told.allSatisfy { $0.publisher == "volumeTypeExtraSpecs.node" && $0.payload["type_id"]?.string == id })
        #expect(told[0].payload["specs"] == ["x": "y", "z": nil])
        #expect(told[1].payload["id"] == "x" && told[1].payload.object?.names == ["type_id", "id", "created_at", "updated_at"])
        #expect(told[2].payload.object?.names == ["type_id", "id", "created_at", "updated_at", "deleted_at"])
    }

    @Test("metadata of volumes is nobody's business, as in Cinder")
    func volumeMetadata() async throws {
        let api = try await api()
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1]])
        let id = try #require(made.json["volume"]?["id"]?.string)
        _ = try await noted(api)
        #expect(try await api.send("POST", "/volumes/\(id)/metadata", ["metadata": ["a": "b"]]).status == 200)
        #expect(try await api.send("DELETE", "/volumes/\(id)/metadata/a").status == 200)
        #expect(try await noted(api) == [])
    }

    @Test("who may use a private type is told")
    func access() async throws {
        let api = try await api()
        let id = try await makeType(api, "private", isPublic: false)
        _ = try await noted(api)
        for action in ["addProjectAccess", "removeProjectAccess"] {
            #expect(try await api.send("POST", "/types/\(id)/action", .object([action: ["project": "p2"]])).status == 202)
        }
        let told = try await noted(api)
        #expect(told.map(\.type) == ["volume_type_project.access.add", "volume_type_project.access.remove"])
        #expect(told.allSatisfy { $0.publisher == "volume_type_project.node" })
        #expect(told.allSatisfy { $0.payload == ["volume_type_id": .string(id), "project_id": "p2"] })
    }

    @Test("how a type's volumes are encrypted is told when it is said and changed, and not when it ends, as in Cinder")
    func encryption() async throws {
        let api = try await api()
        let id = try await makeType(api, "secret")
        _ = try await noted(api)
        let path = "/types/\(id)/encryption"
        let made = try await api.send(
            "POST", path, ["encryption": ["provider": "luks", "control_location": "front-end", "key_size": "256"]])
        let record = try #require(made.json["encryption"]?["encryption_id"])
        _ = try await api.send("PUT", path + "/\(record.string ?? "")", ["encryption": ["key_size": 128]])
        #expect(try await api.send("DELETE", path + "/\(record.string ?? "")").status == 202)
        let told = try await noted(api)
        #expect(told.map(\.type) == ["volume_type_encryption.create", "volume_type_encryption.update"])
        #expect(told[0].publisher == "volumeTypeEncryption.node")
        let specs: JSON = [
            "provider": "luks", "control_location": "front-end", "key_size": 256, "volume_type_id": .string(id), "encryption_id": record,
        ]
        #expect(told[0].payload == ["type_id": .string(id), "specs": specs])
        #expect(told[1].payload == ["type_id": .string(id), "id": record])
    }

    @Test("QoS specs are told by each change, and each change that is refused as an error")
    func qos() async throws {
        let api = try await api()
        let type = try await makeType(api, "fast")
        _ = try await noted(api)
        let made = try await api.send("POST", "/qos-specs", ["qos_specs": ["name": " q ", "consumer": "both", "k": "v"]])
        let id = try #require(made.json["qos_specs"]?["id"]?.string)
        var told = try await only(api)
        #expect(told.type == "qos_specs.create" && told.publisher == "QoSSpecs.node" && told.priority == "info")
        #expect(told.payload["name"] == "q" && told.payload["specs"] == ["consumer": "both", "k": "v"])
        #expect(told.payload.object?.names == ["name", "created_at", "specs"])

        let requests: [(String, String, JSON?, String, [String])] = [
            ("PUT", "", ["qos_specs": ["k": "w"]], "update", ["id", "created_at", "updated_at", "specs"]),
            ("GET", "/associate?vol_type_id=\(type)", nil, "associate", ["id", "type_id", "created_at"]),
            ("GET", "/disassociate?vol_type_id=\(type)", nil, "disassociate", ["id", "type_id", "created_at"]),
            ("GET", "/disassociate_all", nil, "disassociate_all", ["id", "created_at"]),
            ("PUT", "/delete_keys", ["keys": ["k"]], "delete_keys", ["id", "created_at", "updated_at"]),
            ("DELETE", "", nil, "delete", ["id", "created_at", "deleted_at"]),
        ]
        for (method, path, body, name, members) in requests {
            #expect(try await api.send(method, "/qos-specs/\(id)\(path)", body).status < 300)
            told = try await only(api)
            #expect(told.type == "qos_specs.\(name)" && told.priority == "info")
            #expect(told.payload.object?.names == members && told.payload["id"]?.string == id, "\(name)")
        }
        for (method, path, body, name, _) in requests {
            #expect(try await api.send(method, "/qos-specs/\(id)\(path)", body).status == 404)
            told = try await only(api)
            #expect(told.type == "qos_specs.\(name)" && told.priority == "error")
            #expect(told.payload == ["id": .string(id), "error_message": .string("No such QoS spec \(id).")])
        }
        #expect(try await api.send("POST", "/qos-specs", ["qos_specs": ["name": "r", "consumer": "nobody"]]).status == 400)
        told = try await only(api)
        #expect(told.type == "qos_specs.create" && told.priority == "error" && told.payload.object?.names == ["name", "error_message"])
    }

    @Test("where nobody is to be notified a refusal stays one, and nothing is noted")
    func off() async throws {
        let api = try await InMemoryAPI()
        _ = try await makeType(api, "fast")
        #expect(try await api.send("POST", "/types", ["volume_type": ["name": "fast"]]).status == 409)
        #expect(try await noted(api) == [])
    }
}
