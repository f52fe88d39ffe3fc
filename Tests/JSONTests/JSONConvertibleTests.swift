import JSON
import Testing

@Suite("Structures stored as JSON")
struct JSONConvertibleTests {
    struct Place: JSONConvertible {
        static let members = [JSONMember("host", \Self.host)]
        var host = ""
    }

    // Not private: an optimised build gives a private type a longer name.
    struct Stored: JSONConvertible {
        static let members = [
            JSONMember("new_size", \Self.newSize), JSONMember("attached", \Self.isAttached), JSONMember("tried", \Self.tried),
            JSONMember("old", \Self.old), JSONMember("connector", \Self.connector),
        ]
        var newSize = 0
        var isAttached = false
        var tried: [String] = []
        var old: Place?
        var connector: JSON = .null
    }

    @Test("what is written is read again; what there is none of is left out")
    func roundTrip() throws {
        var stored = Stored()
        stored.newSize = 3
        stored.tried = ["one"]
        #expect(stored.text == #"{"new_size":3,"attached":false,"tried":["one"],"connector":null}"#)
        stored.old = Place(host: "node")
        stored.connector = ["host": "compute-1"]
        let again = try Stored(parsing: stored.text)
        #expect(again.text == stored.text && again.newSize == 3 && again.old?.host == "node")
    }

    @Test("a missing member keeps its first value, null is none, another release's member is ignored")
    func missing() throws {
        let stored = try Stored(parsing: #"{"old":null,"made":true}"#)
        #expect(stored.newSize == 0 && stored.old == nil && stored.tried.isEmpty)
    }

    @Test(
        "a member of another form is refused with its name",
        arguments: [
            (#"{"new_size":"3"}"#, "new_size"), (#"{"new_size":1.5}"#, "new_size"), (#"{"tried":[1]}"#, "tried"), (#"{"old":[]}"#, "old"),
            (#"{"attached":1}"#, "attached"), (#"{"old":{"host":1}}"#, "old"),
        ])
    func wrong(text: String, name: String) {
        let error = #expect(throws: JSONMemberError.self) { try Stored(parsing: text) }
        #expect(error?.description.contains("the member \(name) of Stored must be") == true)
    }

    @Test("what is no object is refused")
    func noObject() {
        #expect(throws: JSONMemberError.self) { try Stored(parsing: "[]") }
        #expect(throws: JSONError.self) { try Stored(parsing: "{") }
    }

    @Test("members say their form")
    func kinds() {
        #expect(Stored.members.map(\.kind) == ["integer", "boolean", "list of text", "optional object", "any"])
    }
}
