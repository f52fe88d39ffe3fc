import BlockStorage
import HTTPServer
import JSON
import TestSupport
import Testing

@testable import BlockAPI

/// A view is declared once: what is written and what is described are the same.
@Suite("Views")
struct ViewTests {
    private struct Thing: Sendable {
        var name: String? = "n"
        var size = 3
    }

    private static let view = View<Thing>(
        "thing", "things",
        [
            .text("id") { _ in "1" },
            .optionalText("name") { $0.name },
            Field.integer("size") { $0.size }.part(.detail),
            Field.text("owner") { _ in "p" }.part(.detail).since(13),
            Field.text("secret") { _ in "s" }.part(.extensions).rule("volume_extension:volume_host_attribute"),
            Field.flag("admin") { _ in true }.forAdministrators(),
            Field.text("level") { _ in "all" }.rule("volume_extension:volume_host_attribute"),
            Field.text("level") { _ in "some" }.exceptRule("volume_extension:volume_host_attribute"),
            Field.text("odd") { _ in "odd" }.when { $0.size % 2 == 1 },
        ])

    private func written(_ thing: Thing, _ parts: Parts, version: Int, isAdmin: Bool, _ api: InMemoryAPI) throws -> String {
        let plan = Self.view.plan(parts, for: try api.request(version: version, isAdmin: isAdmin))
        var writer = JSONWriter()
        plan.write(thing, &writer)
        return writer.takeString()
    }

    @Test("fields are written in their order, by part, microversion, rule, right and value")
    func fields() async throws {
        let api = try await InMemoryAPI()
        #expect(
            try written(Thing(), .whole, version: 71, isAdmin: true, api)
                == #"{"id":"1","name":"n","size":3,"owner":"p","secret":"s","admin":true,"level":"all","odd":"odd"}"#)
        #expect(
            try written(Thing(name: nil, size: 2), .whole, version: 12, isAdmin: false, api)
                == #"{"id":"1","name":null,"size":2,"level":"some"}"#)
        #expect(try written(Thing(size: 2), .summary, version: 71, isAdmin: false, api) == #"{"id":"1","name":"n","level":"some"}"#)
        #expect(
            try written(Thing(size: 2), .own, version: 13, isAdmin: true, api)
                == #"{"id":"1","name":"n","size":2,"owner":"p","admin":true,"level":"all"}"#)
    }

    /// The shape as a document with nothing else in it has it.
    private func described(_ parts: Parts, version: Int) -> (check: JSONSchemaCheck, schema: JSON) {
        let shape = Self.view.shape(parts, version: version)
        let schemas = JSONObject(shape.named.map { (name: $0.name, value: $0.shape.schema) })
        return (JSONSchemaCheck(in: ["components": ["schemas": .object(schemas)]]), shape.schema)
    }

    @Test("what is written is what the shape says, and nothing else is")
    func shape() async throws {
        let api = try await InMemoryAPI()
        for version in [0, 12, 13, 71] {
            for parts in [Parts.summary, .own, .whole] {
                let (check, schema) = described(parts, version: version)
                for isAdmin in [false, true] {
                    for thing in [Thing(), Thing(name: nil, size: 2)] {
                        let text = try written(thing, parts, version: version, isAdmin: isAdmin, api)
                        #expect(check.violations(try JSON(parsing: text), schema) == [], "3.\(version): \(text)")
                    }
                }
            }
        }
        let (check, schema) = described(.whole, version: 12)
        #expect(check.violations(["id": "1", "name": "n", "size": 3, "level": "all", "owner": "p"], schema) == [".owner is not declared"])
        #expect(check.violations(["id": 1, "size": 3], schema) == [".name is missing", ".level is missing", ".id is no string: 1"])
    }
}
