import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("Schemas and versions")
struct SchemaTests {
    private func message(_ schema: Schema, _ body: String) throws -> String? {
        do throws(HTTPError) {
            try schema.check(try! JSON(parsing: body))
            return nil
        } catch { return error.message }
    }

    @Test(
        "violations are told in the words that Cinder's clients know",
        arguments: [
            (#"{}"#, "'volume' is a required property"), (#"[]"#, "[] is not of type 'object'"),
            (#"{"volume":"x"}"#, "Invalid input for field/attribute volume. Value: x. 'x' is not of type 'object'"),
            (#"{"volume":{"size":0}}"#, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1"),
            (#"{"volume":{"size":"abc"}}"#, "Invalid input for field/attribute size. Value: abc. 'abc' does not match '^[0-9]+$'"),
            (
                #"{"volume":{"size":1.5}}"#,
                "Invalid input for field/attribute size. Value: 1.5. 1.5 is not of type 'integer', 'string', 'null'"
            ),
            (
                #"{"volume":{"size":"99999999999"}}"#,
                "Invalid input for field/attribute size. Value: 99999999999. 99999999999 is greater than the maximum of 2147483647"
            ),
            (
                #"{"volume":{"size":1,"foo":"bar"}}"#,
                "Invalid input for field/attribute volume. Value: {'size': 1, 'foo': 'bar'}. Additional properties are not allowed ('foo' was unexpected)"
            ),
            (
                #"{"volume":{"snapshot_id":"zzz"}}"#,
                "Invalid input for field/attribute snapshot_id. Value: zzz. 'zzz' is not valid under any of the given schemas"
            ),
            (
                #"{"volume":{"metadata":{"":"v"}}}"#,
                "Invalid input for field/attribute metadata. Value: {'': 'v'}. '' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'"
            ),
            (#"{"volume":{"metadata":{"k":null}}}"#, "Invalid input for field/attribute k. Value: None. None is not of type 'string'"),
            (
                #"{"volume":{"name":"a\u0000b"}}"#,
                "Invalid input for field/attribute name. Value: a\0b. 'a\\x00b' contains a NUL character, which no text may"
            ),
        ])
    func messages(body: String, expected: String) async throws {
        let create = try #require(try await InMemoryAPI.declared.value.first { $0.name == "volumes:create" }?.schema(71))
        #expect(try message(create, body) == expected)
    }

    @Test("strings and numbers at their limits pass")
    func limits() async throws {
        let create = try #require(try await InMemoryAPI.declared.value.first { $0.name == "volumes:create" }?.schema(71))
        let name = String(repeating: "n", count: 255)
        for body in [
            #"{"volume":{"size":2147483647}}"#, #"{"volume":{"size":"1"}}"#, #"{"volume":{"size":null}}"#,
            "{\"volume\":{\"name\":\" \(name) \"}}",
            "{\"volume\":{\"metadata\":{\"\(name)\":\"\(name)\"}}}", #"{"volume":{},"OS-SCH-HNT:scheduler_hints":{"a":[1]}}"#,
            #"{"volume":{"snapshot_id":"0123456789ABCDEF0123456789abcdef"}}"#,
        ] { #expect(try message(create, body) == nil) }
    }

    @Test("an older microversion tolerates what a newer one refuses")
    func versions() async throws {
        let create = try #require(try await InMemoryAPI.declared.value.first { $0.name == "volumes:create" })
        #expect(try message(create.schema(0)!, #"{"volume":{"size":1,"foo":1}}"#) == nil)
        #expect(try message(create.schema(53)!, #"{"volume":{"size":1,"foo":1}}"#) != nil)
    }

    @Test(
        "version headers are read as Cinder reads them",
        arguments: [
            (nil, 0), ("volume 3.0", 0), ("volume 3.71", 71), ("volume latest", 71), ("compute 2.1, volume 3.27", 27), ("volumev3 3.5", 5),
        ] as [(String?, Int)])
    func goodVersions(header: String?, minor: Int) throws { #expect(try APIVersion.negotiate(header) == minor) }

    @Test(
        "bad version headers are 400 or 406",
        arguments: [
            ("volume banana", 400), ("volume 3", 400), ("volume 3.099", 400), ("volume 3.99", 406), ("volume 2.0", 406),
            ("compute 2.1", 400), ("", 400), ("VOLUME 3.5", 400),
            ("volume 3.-1", 400), ("volume 99999999999999999999.1", 400),
        ])
    func badVersions(header: String, status: Int) {
        #expect { try APIVersion.negotiate(header) } throws: { ($0 as? HTTPError)?.status == status }
    }

    @Test("Python's way of writing values")
    func python() {
        #expect(PythonText.repr(["a", 1, nil, true, ["k": "it's"]]) == "['a', 1, None, True, {'k': \"it's\"}]")
        #expect(PythonText.str("x") == "x")
        for (text, value) in [
            ("None", .none), ("True", .bool(true)), ("-12", .integer(-12)), ("1_000", .integer(1000)), ("1.50", .real(1.5)),
            ("1e3", .real(1000)),
            (" 'it\\'s'", .text("it's")), ("u\"x\"", .text("x")), ("'a' 'b'", .text("ab")),
            ("['a', 1]", .items([.text("a"), .integer(1)])),
            ("('a',)", .items([.text("a")])), ("('a')", .text("a")), ("{'a'}", .items([.text("a")])), ("[]", .items([])),
            ("{}", .dictionary([])),
            ("{'k': 'v',}", .dictionary([PythonLiteral.Pair(key: .text("k"), value: .text("v"))])),
        ] as [(String, PythonLiteral)] { #expect(PythonLiteral(text) == value, "\(text)") }
        for bad in [
            "", "x", "none", "01", "1x", "1.2.3", "'a", "['a'", "[,]", "['a' 1]", "{'k': }", "{'k'", "{'k': 'v', 'l'}", "'a' x", "[1]]",
            "-", "--1",
            "u", String(repeating: "[", count: 40), String(repeating: "1", count: 40), "__import__('os')",
        ] { #expect(PythonLiteral(bad) == nil, "\(bad)") }
    }

    @Test("each operation is declared once: no two answer the same method, path, action and version")
    func uniqueness() async throws {
        let all = try await InMemoryAPI.declared.value
        #expect(Set(all.map(\.name)).count == all.count)
        for (index, one) in all.enumerated() {
            for other in all[(index + 1)...] where one.method == other.method && one.path == other.path && one.action == other.action {
                #expect(!one.versions.overlaps(other.versions), "\(one.name) and \(other.name)")
            }
            for body in one.bodies { #expect(body.versions.clamped(to: one.versions).count > 0) }
        }
    }

    @Test("the entity tag of metadata is the one that Cinder gives")
    func etag() {
        #expect(MetadataTag.of(["k": "v"]) == "8cfa0e3346bdcec9c73891be4a6c18a7")
        #expect(MetadataTag.of(["k\u{c}": "a\u{8}é\u{7f}😀/\""]) == "7a312d48f5fe26eb2e2ede5190ad1d89")
    }
}
