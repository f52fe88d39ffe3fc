import Glibc
import HTTPServer
import JSON
import TestSupport
import Testing

@testable import BlockAPI

/// The API's description: `CLINKER_UPDATE=1 swift test --filter DescriptionTests` writes api-ref/openapi.json anew.
@Suite("OpenAPI")
struct DescriptionTests {
    private static let root = String(#filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/" + $1 })
    private static let golden = root + "/api-ref/openapi.json"

    /// A member a line, so that differences can be read.
    private static func pretty(_ value: JSON, _ indent: String = "") -> String {
        let inner = indent + "  "
        func isShort(_ value: JSON) -> Bool { value.text.utf8.count < 100 }
        switch value {
        case .object(let object) where !isShort(value):
            return "{\n"
                + object.members.map { "\(inner)\(JSON.string($0.name).text): \(pretty($0.value, inner))" }.joined(separator: ",\n")
                + "\n\(indent)}"
        case .array(let items) where !isShort(value):
            return "[\n" + items.map { inner + pretty($0, inner) }.joined(separator: ",\n") + "\n\(indent)]"
        default: return value.text
        }
    }

    private static func read(_ path: String) throws -> String {
        let file = try #require(fopen(path, "re"), "\(path)")
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("the served description is the one in api-ref/openapi.json")
    func goldenFile() async throws {
        let answer = try await InMemoryAPI().send("GET", "//openapi.json")
        #expect(answer.status == 200)
        let text = Self.pretty(answer.json) + "\n"
        if getenv("CLINKER_UPDATE") != nil {
            let file = try #require(fopen(Self.golden, "we"))
            fputs(text, file)
            fclose(file)
        }
        let kept = try Self.read(Self.golden)
        let difference = zip(text.split(separator: "\n"), kept.split(separator: "\n")).first { $0 != $1 }
        #expect(
            text == kept,
            "api-ref/openapi.json is older than the declarations: see the command above this suite. First: \(String(describing: difference))"
        )
    }

    @Test("each microversion has a description of its own, and nothing but a microversion can be asked for")
    func versions() async throws {
        let api = try await InMemoryAPI()
        let first = try await api.send("GET", "//openapi.json?microversion=3.0").json
        #expect(first["info"]?["version"] == "3.0")
        #expect(first["paths"]?["/attachments"] == nil && first["paths"]?["/volumes"] != nil)
        #expect(try await api.send("GET", "//openapi.json?microversion=3.27").json["paths"]?["/attachments"] != nil)
        for query in ["microversion=3.72", "microversion=3.01", "microversion=latest", "microversion=", "version=3.1"] {
            #expect(try await api.send("GET", "//openapi.json?\(query)").status == 400, "\(query)")
        }
        #expect(try await api.send("POST", "//openapi.json").status == 404)
    }

    @Test("every operation at every microversion has its place, its answer and its errors")
    func operations() async throws {
        let api = try await InMemoryAPI()
        for version in [0, 13, 27, 48, 71] {
            let document = OpenAPIDocument(api.operations, version: version).json
            for operation in api.operations where operation.versions.contains(version) {
                let found = document["paths"]?[operation.path]?[operation.method.lowercased()]
                #expect(found?["responses"]?["\(operation.success.status)"] != nil, "\(operation.name)")
                #expect((found?["responses"]?["403"] != nil) == !operation.policies.isEmpty, "\(operation.name)")
                if let action = operation.action { #expect(found?["x-actions"]?[action] != nil, "\(operation.name)") }
            }
        }
    }

    private static func references(in value: JSON) -> [String] {
        switch value {
        case .object(let object):
            object.members.flatMap { $0.name == "$ref" ? [$0.value.string ?? ""] : references(in: $0.value) }
        case .array(let items): items.flatMap { references(in: $0) }
        default: []
        }
    }

    @Test("a name in the description stands for one shape, and every reference leads somewhere")
    func names() async throws {
        let api = try await InMemoryAPI()
        for version in [0, 13, 27, 48, 63, 71] {
            let document = OpenAPIDocument(api.operations, version: version)
            var known: [String: JSON] = [:]
            for (name, shape) in document.named {
                let schema = shape.schema
                #expect(known[name] == nil || known[name] == schema, "3.\(version): \(name)")
                known[name] = schema
            }
            let json = document.json
            for reference in Self.references(in: json) {
                #expect(
                    reference.split(separator: "/").dropFirst().reduce(json) { $0[String($1)] ?? .null } != .null,
                    "3.\(version): \(reference)")
            }
        }
    }

    @Test("answers of a real Cinder have the shapes that are declared")
    func captures() async throws {
        let api = try await InMemoryAPI()
        let text = try Self.read(Self.root + "/Tests/Integration/captures/shapes.jsonl")
        var count = 0
        for line in text.split(separator: "\n") {
            let capture = try JSON(parsing: String(line))
            let version = try #require(capture["version"]?.string?.split(separator: ".").last.flatMap { Int($0) })
            let check = OpenAPICheck(try JSON(parsing: OpenAPIDocument(api.operations, version: version).json.text))
            let method = capture["method"]?.string ?? ""
            let path = String((capture["path"]?.string ?? "").prefix { $0 != "?" })
            let status = method == "POST" && path == "/volumes" ? 202 : 200
            let found = check.violations(
                method, path, status: status, contentType: HTTPResponse.json, body: (capture["response"] ?? .null).text)
            #expect(found == [], "\(capture["case"]?.string ?? "?")")
            count += 1
        }
        #expect(count > 25)
    }

    @Test("a limit that there is not is left out, not null")
    func limits() async throws {
        let text = try await InMemoryAPI().send("GET", "//openapi.json").json.text
        for name in ["minLength", "maxLength", "minimum", "maximum", "pattern", "minProperties", "maxProperties"] {
            #expect(!text.contains("\"\(name)\":null"), "\(name)")
        }
    }
}
