import BlockStorage
import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("Image metadata of volumes")
struct ImageMetadataTests {
    @Test("is set, shown with the volume, and removed item by item")
    func life() async throws {
        let api = try await InMemoryAPI()
        let id = try #require(
            try await api.send("POST", "/volumes", ["volume": ["size": 1, "metadata": ["own": "m"]]]).json["volume"]?["id"]?.string)
        func act(_ name: String, _ value: JSON) async throws -> InMemoryAPI.Answer {
            try await api.send("POST", "/volumes/\(id)/action", .object(JSONObject([(name: name, value: value)])))
        }
        func inVolume() async throws -> JSON? { try await api.send("GET", "/volumes/\(id)").json["volume"]?["volume_image_metadata"] }
        #expect(try await act("os-show_image_metadata", nil).status == 404)
        #expect(try await inVolume() == nil)
        #expect(try await act("os-set_image_metadata", ["metadata": ["a": "1"]]).text == #"{"metadata":{"a":"1"}}"#)
        #expect(try await act("os-set_image_metadata", ["metadata": ["b": "2"]]).json == ["metadata": ["a": "1", "b": "2"]])
        #expect(try await act("os-show_image_metadata", [:]).json == ["metadata": ["a": "1", "b": "2"]])
        #expect(try await inVolume() == ["a": "1", "b": "2"])
        #expect(try await api.send("GET", "/volumes/\(id)/metadata").json == ["metadata": ["own": "m"]])
        let removed = try await act("os-unset_image_metadata", ["key": "a"])
        #expect(removed.status == 200 && removed.text.isEmpty && removed.contentType == HTTPResponse.html)
        #expect(try await act("os-unset_image_metadata", ["key": "a"]).status == 404)
        #expect(try await inVolume() == ["b": "2"])
    }

    @Test("an item has at most 65535 bytes, all together at most 64 KiB, and none a NUL")
    func bounded() async throws {
        let api = try await InMemoryAPI()
        let id = try #require(try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
        for (value, text) in [
            (String(repeating: "x", count: 65_536), "field/attribute long"),
            (String(repeating: "x", count: 65_535), "image_metadata would have"), ("\u{0}", "NUL"),
        ] {
            let answer = try await api.send(
                "POST", "/volumes/\(id)/action", ["os-set_image_metadata": ["metadata": ["long": .string(value)]]])
            #expect(answer.status == 400 && answer.text.contains(text))
        }
        #expect(try await api.send("POST", "/volumes/\(id)/action", ["os-show_image_metadata": nil]).status == 404)
    }

    @Test("members of the project that may not show it get the volume without it")
    func policies() async throws {
        let member = VolumeView.view.fields.first { "\($0.name)" == "volume_image_metadata" }
        #expect(member?.rule?.name == "volume_extension:volume_image_metadata:show")
        #expect(member?.part == .extensions)
    }
}
