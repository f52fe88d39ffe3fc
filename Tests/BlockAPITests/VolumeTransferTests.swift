import BlockStorage
import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("Transfers of volumes by the API")
struct VolumeTransferAPITests {
    private func volume(_ api: InMemoryAPI, _ name: String = "v") async throws -> String {
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "name": .string(name)]])
        let id = try #require(made.json["volume"]?["id"]?.string)
        try await api.database.write { tx in
            // As if it lay somewhere, and its creation were over.
            for operation in try Operations.runnable(in: tx) { try Operations.finish(operation, state: .done, error: nil, in: tx) }
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
        }
        return id
    }

    private static let other = "//v3/ffffffffffffffffffffffffffffffff"

    @Test(
        "the key is shown once; who has it takes the volume over, by either path", arguments: ["/volume-transfers", "/os-volume-transfer"])
    func life(path: String) async throws {
        let api = try await InMemoryAPI()
        let volume = try await volume(api)
        let made = try await api.send("POST", path, ["transfer": ["volume_id": .string(volume), "name": " gift "]])
        #expect(made.status == 202)
        let transfer = try #require(made.json["transfer"])
        let (id, key) = (try #require(transfer["id"]?.string), try #require(transfer["auth_key"]?.string))
        #expect(
            transfer["links"]?.array?.first?["href"] == .string("http://test/v3/\(InMemoryAPI.project)/os-volume-transfer/\(id)"))
        #expect(transfer["name"] == "gift" && transfer["accepted"] == false && transfer["destination_project_id"] == .null)
        #expect(try await api.send("GET", "/volumes/\(volume)").json["volume"]?["status"] == "awaiting-transfer")
        for shown in [path + "/\(id)", path, path + "/detail"] {
            let answer = try await api.send("GET", shown)
            #expect(answer.text.contains(id) && !answer.text.contains("auth_key") && !answer.text.contains(key))
        }
        let wrong = try await api.send("POST", Self.other + path + "/\(id)/accept", ["accept": ["auth_key": 12345]])
        #expect(wrong.status == 400 && wrong.text.contains("with invalid auth key."))
        let accepted = try await api.send("POST", Self.other + path + "/\(id)/accept", ["accept": ["auth_key": .string(key)]])
        #expect(accepted.status == 202)
        #expect(accepted.json["transfer"]?.object?.names == ["id", "name", "volume_id", "links"])
        let moved = try await api.send("GET", Self.other + "/volumes/\(volume)").json["volume"]
        #expect(moved?["os-vol-tenant-attr:tenant_id"] == "ffffffffffffffffffffffffffffffff" && moved?["status"] == "available")
        #expect(try await api.send("GET", path + "/\(id)").status == 404)
    }

    @Test(
        "an encrypted volume goes with its snapshots from 3.70 on, and its new owner may read its key before anything else is done with it")
    func encrypted() async throws {
        let api = try await InMemoryAPI()
        let volume = try await volume(api)
        try await api.database.write { tx in
            if let volume = try Volumes.lock(volume, in: tx) { try Volumes.setEncryptionKey("k", of: volume, in: tx) }
        }
        let body: JSON = ["transfer": ["volume_id": .string(volume)]]
        for (path, version) in [("/volume-transfers", 69), ("/os-volume-transfer", 71)] {
            let refused = try await api.send("POST", path, version: version, body)
            #expect(refused.status == 400 && refused.text.contains("transferring encrypted volume is not supported"), "\(refused.text)")
        }
        let alone = try await api.send(
            "POST", "/volume-transfers", version: 70, ["transfer": ["volume_id": .string(volume), "no_snapshots": true]])
        #expect(alone.status == 400 && alone.text.contains("transferring an encrypted volume without its snapshots is not supported"))
        let made = try await api.send("POST", "/volume-transfers", version: 70, body).json["transfer"]
        let (id, key) = (try #require(made?["id"]?.string), try #require(made?["auth_key"]?.string))
        let accepted = try await api.send(
            "POST", Self.other + "/volume-transfers/\(id)/accept", ["accept": ["auth_key": .string(key)]])
        #expect(accepted.status == 202, "\(accepted.text)")
        let operation = try await api.database.read { try Operations.latest(of: volume, in: $0) }
        #expect(operation?.flow.name == "volume.open_key" && operation?.projectID == "ffffffffffffffffffffffffffffffff")
    }

    @Test("members come with their microversions, and the older path knows no transfer without snapshots")
    func versions() async throws {
        let api = try await InMemoryAPI()
        let volume = try await volume(api)
        let body: JSON = ["transfer": ["volume_id": .string(volume), "no_snapshots": true]]
        #expect(try await api.send("POST", "/os-volume-transfer", body).status == 400)
        #expect(try await api.send("POST", "/volume-transfers", version: 54, body).status == 400)
        let made = try await api.send("POST", "/volume-transfers", version: 55, body).json["transfer"]
        #expect(made?["no_snapshots"] == true && made?["accepted"] == nil)
        let id = try #require(made?["id"]?.string)
        for (version, names) in [
            (54, ["id", "created_at", "name", "volume_id", "links"]),
            (55, ["id", "created_at", "name", "volume_id", "links", "no_snapshots"]),
        ] {
            let shown = try await api.send("GET", "/os-volume-transfer/\(id)", version: version).json["transfer"]
            #expect(shown?.object?.names == names)
        }
    }

    @Test("lists have pages; the oldest come first before 3.59, the newest since")
    func pages() async throws {
        let api = try await InMemoryAPI()
        var ids: [String] = []
        for name in ["a", "b", "c"] {
            let made = try await api.send(
                "POST", "/volume-transfers", ["transfer": ["volume_id": .string(try await volume(api, name)), "name": .string(name)]])
            ids.append(try #require(made.json["transfer"]?["id"]?.string))
        }
        func listed(_ path: String, version: Int = 71) async throws -> [String] {
            try await api.send("GET", path, version: version).json["transfers"]?.array?.compactMap { $0["id"]?.string } ?? []
        }
        #expect(try await listed("/volume-transfers") == ids.reversed())
        #expect(try await listed("/volume-transfers", version: 58) == ids)
        #expect(try await listed("/os-volume-transfer") == ids)
        #expect(try await listed("/volume-transfers?name=b") == [ids[1]])
        #expect(try await listed("/volume-transfers?limit=1&marker=\(ids[2])") == [ids[1]])
        #expect(try await listed("/volume-transfers?sort=display_name:asc&offset=1") == [ids[1], ids[2]])
        #expect(try await listed("/volume-transfers?salt=x").isEmpty)
        let page = try await api.send("GET", "/volume-transfers/detail?limit=2")
        #expect(page.json["transfers_links"]?.array?.first?["href"]?.string?.contains("/volume-transfers/detail?limit=2&marker=") == true)
        #expect(try await api.send("GET", Self.other + "/volume-transfers").json == ["transfers": []])
        #expect(try await api.send("GET", Self.other + "/volume-transfers?all_tenants=1").json["transfers"]?.array?.count == 3)
    }
}
