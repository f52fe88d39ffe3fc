import Glibc
import JSON
import Settings
import TestSupport
import Testing

@testable import BlockAPI

/// The file of `resource_query_filters_file`: what it says, what is refused of it, and what its words allow.
@Suite("Filters of lists by a file")
struct ResourceFilterTests {
    private static func parse(_ text: String) throws(SettingsError) -> ResourceFilters {
        try ResourceFilterFile.parse(Array(text.utf8), name: "f.json")
    }

    @Test("a file's resources and filters keep their order; patterns allow the plain name since 3.34")
    func read() throws {
        let filters = try Self.parse(#"{"zz": [], "volume": ["status", "name~"], "pool": ["name"]}"#)
        #expect(filters.all.map(\.resource) == ["zz", "volume", "pool"] && filters.all[1].filters == ["status", "name~"])
        for version in [31, 33, 34, 71] {
            #expect(filters.allows("name~", of: "volume", version: version) && filters.allows("status", of: "volume", version: version))
            #expect(filters.allows("name", of: "volume", version: version) == (version >= 34))
            #expect(!filters.allows("status~", of: "volume", version: version) && !filters.allows("name", of: "snapshot", version: version))
        }
        #expect(try Self.parse("{}").all.isEmpty)
    }

    @Test(
        "what is no such file is refused, with the member and the rule",
        arguments: [
            ("", "f.json: not JSON: "), ("{", "f.json: not JSON: "), (#"{"a": [], "a": []}"#, "name given twice"),
            ("[]", "f.json: resource filters are an object of lists"), ("null", "f.json: resource filters are an object of lists"),
            (#"{"volume": "name"}"#, #"f.json: "volume" must be a list of names of filters"#),
            (#"{"volume": {"name": true}}"#, #"f.json: "volume" must be a list of names of filters"#),
            (#"{"volume": ["name", 7]}"#, #"f.json: "volume"[1] must be a filter's name: 1 to 255 ASCII characters"#),
            (#"{"volume": [""]}"#, #"f.json: "volume"[0] must be"#), (#"{"volume": ["näme"]}"#, #"f.json: "volume"[0] must be"#),
            (#"{"volume": ["a\nb"]}"#, #"f.json: "volume"[0] must be"#), (#"{"a\nb": 1}"#, #"f.json: "a\nb" must be a list"#),
            (#"{"volume": [\#((0...500).map { "\"f\($0)\"" }.joined(separator: ","))]}"#, #""volume" has more than 500 filters"#),
            ("{\((0...100).map { "\"r\($0)\": []" }.joined(separator: ","))}", "f.json: more than 100 resources"),
        ])
    func refused(text: String, said: String) {
        let error = #expect(throws: SettingsError.self) { try Self.parse(text) }
        #expect(error?.problems.first?.contains(said) == true, "\(String(describing: error?.problems))")
        #expect(error?.problems.allSatisfy { !$0.contains("\n") } == true)
    }

    @Test("every problem of a file is told, not only the first")
    func everything() {
        let error = #expect(throws: SettingsError.self) { try Self.parse(#"{"volume": 1, "backup": [1, "name", 2]}"#) }
        #expect(error?.problems.count == 3)
    }

    @Test("a file that others can write is refused, and so is a directory; where there is none the standard filters hold")
    func trusted() throws {
        let directory = temporaryDirectory("filters")
        let settings = Settings()
        let file = ResourceFilterFile(settings, beside: [directory + "/clinker.conf"])
        #expect(file.path == directory + "/resource_filters.json")
        #expect(try file.load().all.count == ResourceFilters.standard.all.count && file.warnings(.standard).isEmpty)
        #expect(mkdir(file.path, 0o700) == 0)
        #expect(throws: SettingsError.self) { try file.load() }
        #expect(rmdir(file.path) == 0)
        let descriptor = open(file.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        let text = #"{"volume": ["host"], "shares": []}"#
        #expect(write(descriptor, text, text.utf8.count) == text.utf8.count)
        close(descriptor)
        let filters = try file.load()
        #expect(filters.all.map(\.resource) == ["volume", "shares"])
        #expect(file.warnings(filters) == [#"\#(file.path): "shares" is filtered by no list"#])
        chmod(file.path, 0o666)
        let error = #expect(throws: SettingsError.self) { try file.load() }
        #expect(error?.problems.first?.contains("can be written by others") == true)
    }

    @Test("pools are filtered by what is configured, for administrators too, and clients' all_tenants is no filter")
    func pools() async throws {
        let api = try await InMemoryAPI(filters: try Self.parse(#"{"pool": ["name~", "vendor"]}"#))
        for (query, version, status) in [
            ("name=x", 71, 200), ("name~=x", 71, 200), ("name=x", 33, 400), ("name~=x", 33, 200), ("volume_type=x", 71, 400),
            ("volume_type=x", 30, 200), ("vendor=x", 71, 200), ("all_tenants=1", 71, 200), ("all_tenants=1&zz=1", 71, 400),
        ] {
            let answer = try await api.send("GET", "/scheduler-stats/get_pools?\(query)", version: version)
            #expect(answer.status == status, "\(query), 3.\(version): \(answer.text)")
        }
        let shown = try await api.send("GET", "/resource_filters?resource=pool")
        #expect(shown.json == ["resource_filters": [["resource": "pool", "filters": ["name~", "vendor"]]]])
        #expect(try await api.send("GET", "/resource_filters?resource=volume").json == ["resource_filters": []])
        // What pools cannot be asked for by default is the pattern too.
        let usual = try await InMemoryAPI()
        #expect(try await usual.send("GET", "/scheduler-stats/get_pools?name~=x").status == 400)
    }
}
