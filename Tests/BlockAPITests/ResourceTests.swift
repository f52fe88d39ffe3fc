import BlockStorage
import Database
import HTTPServer
import JSON
import TestSupport
import Testing

@testable import BlockAPI

/// Resources are values with what they need: their handlers run without a server, and the API over them without a backend.
@Suite("Resources in memory")
struct ResourceTests {
    @Test("a resource is asked by itself, with nothing but the database")
    func messages() async throws {
        let api = try await InMemoryAPI()
        try await api.database.write {
            try Messages.add(
                .createVolume, .createFailed, volumeID: "11111111-2222-3333-4444-555555555555", projectID: InMemoryAPI.project,
                requestID: "req-1", keptFor: 86_400, in: $0)
        }
        let resource = MessageResource(store: api.store)
        let list = try #require(resource.operations.first { $0.name == "messages:list" })
        let response = try await list.handler(try api.request())
        #expect(response.status == 200)
        let answer = try await api.send("GET", "/messages")
        let id = try #require(answer.json["messages"]?.array?.first?["id"]?.string)
        #expect(
            answer.json["messages"]?.array?.first?["links"]?.array?.first?["href"]
                == .string("http://test/v3/\(InMemoryAPI.project)/messages/\(id)"))
        #expect(try await api.send("DELETE", "/messages/\(id)").status == 204)
        #expect(try await api.send("GET", "/messages/\(id)").status == 404)
    }

    @Test("metadata of volumes: tags, replacement, and the item that is not there")
    func metadata() async throws {
        let api = try await InMemoryAPI()
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "metadata": ["a": "b"]]])
        #expect(made.status == 202)
        let id = try #require(made.json["volume"]?["id"]?.string)
        let listed = try await api.send("GET", "/volumes/\(id)/metadata")
        #expect(listed.json == ["metadata": ["a": "b"]])
        #expect(listed.headers.first { $0.name == "Etag" }?.value == MetadataTag.of(["a": "b"]))
        #expect(listed.contentType == HTTPResponse.html)
        #expect(try await api.send("GET", "/volumes/\(id)/metadata", version: 14).contentType == HTTPResponse.json)
        #expect(try await api.send("PUT", "/volumes/\(id)/metadata/c", ["meta": ["c": "d"]]).text == #"{"meta":{"c":"d"}}"#)
        #expect(try await api.send("PUT", "/volumes/\(id)/metadata/x", ["meta": ["c": "d"]]).status == 400)
        #expect(try await api.send("DELETE", "/volumes/\(id)/metadata/nothing").status == 404)
        #expect(try await api.send("PUT", "/volumes/\(id)/metadata", ["metadata": [:]]).text == #"{"metadata":{}}"#)
    }

    @Test("of a volume that cannot be reserved the states are named in which it could be, in the words that Glance looks for")
    func reserved() async throws {
        let api = try await InMemoryAPI()
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1]])
        let id = try #require(made.json["volume"]?["id"]?.string)
        for (multiattach, states) in [(false, "available or downloading"), (true, "available or in-use or downloading")] {
            _ = try await api.database.write {
                try $0.update(VolumeTable.table, VolumeTable.table.id(id), set: VolumeTable.table.multiattach(multiattach))
            }
            let refused = try await api.send("POST", "/attachments", ["attachment": ["volume_uuid": .string(id)]])
            #expect(
                refused.json["badRequest"]?["message"]
                    == .string("Invalid volume: Volume \(id) status must be \(states) to reserve, but the current status is creating."))
        }
    }

    @Test("attachments of a page stand in their volumes")
    func attachments() async throws {
        let api = try await InMemoryAPI()
        var volumes: [String] = []
        for number in 0..<5 {
            let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "name": .string("v\(number)")]])
            volumes.append(try #require(made.json["volume"]?["id"]?.string))
        }
        for number in [1, 3] {
            let id = volumes[number]
            try await api.database.write { tx in
                if let volume = try Volumes.lock(id, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
            }
            #expect(
                try await api.send(
                    "POST", "/volumes/\(id)/action",
                    ["os-attach": ["instance_uuid": .string(id), "mountpoint": .string("/dev/\"v\(number)")]]
                ).status == 202)
        }
        let page = try await api.send("GET", "/volumes/detail?sort=name:asc").json["volumes"]?.array ?? []
        #expect(page.count == 5)
        for (number, volume) in page.enumerated() {
            let attached = volume["attachments"]?.array ?? []
            #expect(attached.count == ([1, 3].contains(number) ? 1 : 0))
            if let first = attached.first {
                #expect(first["server_id"] == .string(volumes[number]) && first["device"] == .string("/dev/\"v\(number)"))
            }
            #expect(try await api.send("GET", "/volumes/\(volumes[number])").json["volume"]?["attachments"] == volume["attachments"])
        }
    }

    @Test("unknown filters of pools are refused since 3.31, where any capability can be asked for before")
    func poolFilters() async throws {
        let api = try await InMemoryAPI()
        for query in ["zz=1", "detail=true&zz=1", "zz=1&yy=2", "capacity:foo=1"] {
            let answer = try await api.send("GET", "/scheduler-stats/get_pools?\(query)")
            #expect(answer.status == 400 && answer.text.contains("are found in query options."), "\(query): \(answer.text)")
            #expect(try await api.send("GET", "/scheduler-stats/get_pools?\(query)", version: 30).status == 200, "\(query)")
        }
        #expect(try await api.send("GET", "/scheduler-stats/get_pools?detail=true&name=x").status == 200)
    }
}
