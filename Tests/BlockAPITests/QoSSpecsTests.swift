import BlockStorage
import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("QoS specs")
struct QoSSpecsTests {
    private func make(_ api: InMemoryAPI, _ members: JSON) async throws -> String {
        try #require(try await api.send("POST", "/qos-specs", ["qos_specs": members]).json["qos_specs"]?["id"]?.string)
    }

    private func type(_ api: InMemoryAPI, _ name: String) async throws -> String {
        try #require(try await api.send("POST", "/types", ["volume_type": ["name": .string(name)]]).json["volume_type"]?["id"]?.string)
    }

    @Test("what is made is shown with its links, and listed without")
    func views() async throws {
        let api = try await InMemoryAPI()
        let id = try await make(api, ["name": " fast ", "consumer": "both", "total_iops_sec": "100", "note": nil])
        let shown = try await api.send("GET", "/qos-specs/\(id)").json
        let specs: JSON = ["id": .string(id), "name": "fast", "consumer": "both", "specs": ["total_iops_sec": "100"]]
        #expect(shown["qos_specs"] == specs)
        #expect(shown["links"]?.array?.first?["href"] == .string("http://test/v3/\(InMemoryAPI.project)/qos-specs/\(id)"))
        #expect(try await api.send("GET", "/qos-specs?name=fast&consumer=both").json == ["qos_specs": [specs]])
        for query in ["name=slow", "bogus=x"] {
            #expect(try await api.send("GET", "/qos-specs?" + query).json == ["qos_specs": []], "\(query)")
        }
        let again = try await api.send("POST", "/qos-specs", ["qos_specs": ["name": "fast"]])
        #expect(again.status == 409 && again.text.contains("QoS Specs fast already exists."))
    }

    @Test("specs are changed one by one, and removed together or not at all")
    func changes() async throws {
        let api = try await InMemoryAPI()
        let id = try await make(api, ["name": "fast", "a": "1"])
        let answer = try await api.send("PUT", "/qos-specs/\(id)", ["qos_specs": ["b": "2", "consumer": "front-end"]])
        #expect(answer.json == ["qos_specs": ["b": "2", "consumer": "front-end"]])
        func specs() async throws -> JSON? { try await api.send("GET", "/qos-specs/\(id)").json["qos_specs"] }
        #expect(try await specs()?["specs"] == ["a": "1", "b": "2"])
        #expect(try await specs()?["consumer"] == "front-end")
        _ = try await api.send("PUT", "/qos-specs/\(id)", ["qos_specs": ["a": nil, "new": nil]])
        #expect(try await specs()?["specs"] == ["a": nil, "b": "2"])
        _ = try await api.send("PUT", "/qos-specs/\(id)", ["qos_specs": ["a": "1"]])
        #expect(try await api.send("PUT", "/qos-specs/\(id)/delete_keys", ["keys": ["a", "c"]]).status == 404)
        #expect(try await specs()?["specs"] == ["a": "1", "b": "2"])
        #expect(try await api.send("PUT", "/qos-specs/\(id)/delete_keys", ["keys": ["a", "b"]]).status == 202)
        #expect(try await specs()?["specs"] == [:])
    }

    @Test(
        "what is wrong with a body is said with the member",
        arguments: [
            ["name": "n", "consumer": "nobody"], ["name": "n", "k": 5], ["name": "n", "k": .string(String(repeating: "x", count: 256))],
            ["name": "n", "k": "a\u{0}b"], ["name": "n", "a\u{0}": "b"], ["name": ""], ["name": " "], ["k": "v"],
        ] as [JSON])
    func refusals(members: JSON) async throws {
        let api = try await InMemoryAPI()
        let answer = try await api.send("POST", "/qos-specs", ["qos_specs": members])
        #expect(answer.status == 400)
        #expect(try await api.send("GET", "/qos-specs").json == ["qos_specs": []])
    }

    @Test("more than 256 specs are refused, made at once or one by one")
    func bounded() async throws {
        let api = try await InMemoryAPI()
        func specs(_ range: Range<Int>) -> [(name: String, value: JSON)] { range.map { (name: "k\($0)", value: "v") } }
        let whole = JSON.object(JSONObject([(name: "name", value: "n")] + specs(0..<257)))
        #expect(try await api.send("POST", "/qos-specs", ["qos_specs": whole]).text.contains("257 items"))
        let id = try await make(api, .object(JSONObject([(name: "name", value: "n")] + specs(0..<256))))
        #expect(try await api.send("PUT", "/qos-specs/\(id)", ["qos_specs": ["more": "v"]]).status == 400)
    }

    @Test("a type has one set of specs, which goes only by force while a type has it")
    func associations() async throws {
        let api = try await InMemoryAPI()
        let (first, second, type) = (
            try await make(api, ["name": "first"]), try await make(api, ["name": "second"]), try await type(api, "gold")
        )
        func associate(_ id: String) async throws -> InMemoryAPI.Answer {
            try await api.send("GET", "/qos-specs/\(id)/associate?vol_type_id=\(type)")
        }
        #expect(try await associate(first).status == 202)
        #expect(try await associate(first).status == 202)
        #expect(try await associate(second).status == 400)
        #expect(try await api.send("GET", "/types/\(type)").json["volume_type"]?["qos_specs_id"] == .string(first))
        #expect(
            try await api.send("GET", "/qos-specs/\(first)/associations").json
                == ["qos_associations": [["association_type": "volume_type", "name": "gold", "id": .string(type)]]])
        #expect(try await api.send("DELETE", "/qos-specs/\(first)").text.contains("Qos specs still in use."))
        #expect(try await api.send("DELETE", "/qos-specs/\(first)?force=true").status == 202)
        #expect(try await api.send("GET", "/types/\(type)").json["volume_type"]?["qos_specs_id"] == .null)
        #expect(try await associate(second).status == 202)
        #expect(try await api.send("GET", "/qos-specs/\(second)/disassociate_all").status == 202)
        #expect(try await api.send("GET", "/types/\(type)").json["volume_type"]?["qos_specs_id"] == .null)
    }

    @Test("GETs that change something are known as changes")
    func changesByGet() async throws {
        let api = try await InMemoryAPI()
        for (path, isChange) in [("associate", true), ("disassociate", true), ("disassociate_all", true), ("associations", false)] {
            let request = HTTPRequest(method: "GET", uri: "/v3/\(InMemoryAPI.project)/qos-specs/x/\(path)", headers: [])
            #expect(api.api.changesByGet(request) == isChange, "\(path)")
        }
    }
}
