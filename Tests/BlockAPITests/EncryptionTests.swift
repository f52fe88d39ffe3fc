import BlockStorage
import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("Encryption of types and volumes")
struct EncryptionTests {
    private static let record: JSON = [
        "encryption": ["provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": "256"]
    ]

    private func type(_ api: InMemoryAPI, _ name: String = "secret") async throws -> String {
        try #require(try await api.send("POST", "/types", ["volume_type": ["name": .string(name)]]).json["volume_type"]?["id"]?.string)
    }

    @Test("a record is made, shown whole and by its members, changed and removed, whatever the path calls it")
    func life() async throws {
        let api = try await InMemoryAPI()
        let id = try await type(api)
        let path = "/types/\(id)/encryption"
        #expect(try await api.send("GET", path).text == "{}")
        #expect(try await api.send("PUT", path + "/x", Self.record).status == 404)
        #expect(try await api.send("DELETE", path + "/x").status == 404)
        let made = try await api.send("POST", path, Self.record).json["encryption"]
        #expect(made?["key_size"] == 256 && made?["volume_type_id"] == .string(id))
        let again = try await api.send("POST", path, Self.record)
        #expect(again.status == 400 && again.text.contains("already exists."))
        let shown = try await api.send("GET", path).json
        #expect(shown["encryption_id"] == made?["encryption_id"] && shown["cipher"] == "aes-xts-plain64")
        #expect(try await api.send("GET", path + "/key_size").text == #"{"key_size":256}"#)
        #expect(try await api.send("GET", path + "/nothing").status == 404)
        let change: JSON = ["encryption": ["cipher": nil, "key_size": 512]]
        #expect(try await api.send("PUT", path + "/provider", change).json == change)
        let changed = try await api.send("GET", path).json
        #expect(changed["cipher"] == .null && changed["key_size"] == 512 && changed["provider"] == "luks")
        #expect(try await api.send("DELETE", path + "/provider").status == 202)
        #expect(try await api.send("GET", path).text == "{}")
    }

    @Test("the key's size is a whole number, as a number or a text", arguments: ["1.0", " 1", "01", "x", ""])
    func keySize(size: String) async throws {
        let api = try await InMemoryAPI()
        let answer = try await api.send(
            "POST", "/types/\(try await type(api))/encryption",
            ["encryption": ["provider": "luks", "control_location": "front-end", "key_size": .string(size)]])
        #expect(answer.status == 400 && answer.text.contains("key_size must be an integer."))
    }

    @Test("a volume of an encrypted type is encrypted from the beginning, and a type with volumes does not become one")
    func use() async throws {
        let api = try await InMemoryAPI()
        let (secret, plain) = (try await type(api), try await type(api, "plain"))
        _ = try await api.send("POST", "/types/\(secret)/encryption", Self.record)
        let encrypted = try await api.send("POST", "/volumes", ["volume": ["size": 1, "volume_type": "secret"]])
        #expect(encrypted.status == 202 && encrypted.json["volume"]?["encrypted"] == true)
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "volume_type": "plain"]])
        let volume = try #require(made.json["volume"]?["id"]?.string)
        #expect(made.json["volume"]?["encrypted"] == false)
        try await api.database.write { tx in
            if let locked = try Volumes.lock(volume, in: tx) { try Volumes.setStatus(.available, of: locked, in: tx) }
        }
        let retype = try await api.send("POST", "/volumes/\(volume)/action", ["os-retype": ["new_type": "secret"]])
        #expect(retype.status == 400 && retype.text.contains("a retype does not encrypt or decrypt"))
        for type in [plain, secret] {
            for (method, path) in [("POST", ""), ("PUT", "/x"), ("DELETE", "/x")] {
                let answer = try await api.send(method, "/types/\(type)/encryption" + path, method == "DELETE" ? nil : Self.record)
                #expect(answer.status == 400 && answer.text.contains("encryption specs. Volume type in use."), "\(answer.text)")
            }
        }
    }

    @Test("what cannot be encrypted is refused: keys of other sizes, volumes that several hosts attach, sources of another kind")
    func refusals() async throws {
        let api = try await InMemoryAPI()
        let (odd, shared, secret) = (try await type(api, "odd"), try await type(api, "shared"), try await type(api))
        for id in [odd, shared, secret] { _ = try await api.send("POST", "/types/\(id)/encryption", Self.record) }
        _ = try await api.send("PUT", "/types/\(odd)/encryption/x", ["encryption": ["key_size": 100]])
        _ = try await api.send("POST", "/types/\(shared)/extra_specs", ["extra_specs": ["multiattach": "<is> True"]])
        let size = try await api.send("POST", "/volumes", ["volume": ["size": 1, "volume_type": "odd"]])
        #expect(size.status == 400 && size.text.contains("key_size 100"))
        let several = try await api.send("POST", "/volumes", ["volume": ["size": 1, "volume_type": "shared"]])
        #expect(several.status == 400 && several.text.contains("Multiattach cannot be used with encrypted volumes."))
        let source = try #require(try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
        try await api.database.write { tx in
            if let locked = try Volumes.lock(source, in: tx) { try Volumes.setStatus(.available, of: locked, in: tx) }
        }
        let clone = try await api.send(
            "POST", "/volumes", ["volume": ["size": 1, "source_volid": .string(source), "volume_type": "secret"]])
        #expect(clone.status == 400 && clone.text.contains("requested type is not compatible"))
    }

    @Test("an encrypted volume tells its key and how it is encrypted")
    func metadata() async throws {
        let api = try await InMemoryAPI()
        let secret = try await type(api)
        _ = try await api.send("POST", "/types/\(secret)/encryption", Self.record)
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "volume_type": "secret"]])
        let volume = try #require(made.json["volume"]?["id"]?.string)
        let key = "11111111-2222-4333-8444-555555555555"
        try await api.database.write { tx in
            if let locked = try Volumes.lock(volume, in: tx) { try Volumes.setEncryptionKey(key, of: locked, in: tx) }
        }
        let all = try await api.send("GET", "/volumes/\(volume)/encryption").json
        #expect(all["encryption_key_id"] == .string(key) && all["provider"] == "luks" && all["cipher"] == "aes-xts-plain64")
        #expect(all["key_size"] == 256 && all["control_location"] == "front-end")
        #expect(try await api.send("GET", "/volumes/\(volume)/encryption/encryption_key_id").text.contains(key))
    }

    @Test("a volume that is not encrypted says that it has no key, and nothing else")
    func volume() async throws {
        let api = try await InMemoryAPI()
        let id = try #require(try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
        #expect(try await api.send("GET", "/volumes/\(id)/encryption").text == #"{"encryption_key_id":null}"#)
        #expect(try await api.send("GET", "/volumes/\(id)/encryption/encryption_key_id").text == "null")
        #expect(try await api.send("GET", "/volumes/\(id)/encryption/cipher").status == 404)
    }

    @Test("a type goes with its record")
    func deletion() async throws {
        let api = try await InMemoryAPI()
        let id = try await type(api)
        _ = try await api.send("POST", "/types/\(id)/encryption", Self.record)
        #expect(try await api.send("DELETE", "/types/\(id)").status == 202)
        let again = try await type(api)
        #expect(try await api.send("GET", "/types/\(again)/encryption").text == "{}")
    }
}
