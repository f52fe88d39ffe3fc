import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What members may filter lists by, as a file says it to a running service.
@Suite("Filters of lists by a file")
struct ResourceFilterTests {
    @Test("a file says what members may filter by, at once when it changes; a broken one is an error, and refused at the start")
    func file() throws {
        let directory = temporaryDirectory("filters")
        // bcrypt of "oracle", cost 4.
        let hash = "$2y$04$jRxJc4.GcQCpxbM009jEjuWSFBcXCh2Oj4XPMEmQ4f22z1o8O/Gvi"
        try ServiceUnderTest.write(
            directory + "/users", "adm:\(hash):\(ServiceUnderTest.project):admin\nmem:\(hash):\(ServiceUnderTest.project):member\n")
        let path = directory + "/filters.json"
        try ServiceUnderTest.write(path, #"{"volume": ["name~", "status"], "snapshot": []}"#)
        let service = try ServiceUnderTest(
            auth: "http_basic", options: "http_basic_auth_user_file = \(directory)/users\nresource_query_filters_file = \(path)")
        func ask(_ user: String, _ method: String, _ path: String, version: String = "3.71", _ body: JSON? = nil) throws
            -> ServiceUnderTest.Answer
        {
            let credentials = user == "adm" ? "YWRtOm9yYWNsZQ==" : "bWVtOm9yYWNsZQ=="
            return try service.request(
                method, "/v3/\(ServiceUnderTest.project)\(path)", version: version, headers: [("Authorization", "Basic " + credentials)],
                body: body?.text)
        }
        func names(_ user: String, _ query: String, version: String = "3.71") throws -> [String]? {
            let answer = try ask(user, "GET", "/volumes?sort=name:asc&" + query, version: version)
            return answer.status == 200 ? answer.json["volumes"]?.array?.compactMap { $0["name"]?.string } : nil
        }
        for name in ["one", "two"] {
            #expect(try ask("mem", "POST", "/volumes", ["volume": ["size": 1, "name": .string(name)]]).status == 202)
        }
        #expect(try names("mem", "name~=wo") == ["two"] && names("mem", "name=one") == ["one"])
        #expect(try names("mem", "size=1") == nil && names("adm", "size=1") == ["one", "two"])
        // Before 3.34 a pattern does not allow the name; before 3.31 what is not configured is passed over.
        #expect(try names("mem", "name~=wo", version: "3.33") == ["two"] && names("mem", "name=one", version: "3.33") == nil)
        #expect(try names("mem", "size=2", version: "3.30") == ["one", "two"])
        #expect(try names("mem", "status=error", version: "3.30") == [])
        #expect(try ask("mem", "GET", "/snapshots?status=available").message == "Invalid filters status are found in query options.")
        #expect(try ask("mem", "GET", "/messages?event_id=1").status == 400)
        #expect(
            try ask("mem", "GET", "/resource_filters").json
                == [
                    "resource_filters": [
                        ["resource": "volume", "filters": ["name~", "status"]], ["resource": "snapshot", "filters": []],
                    ]
                ])

        func wait(_ what: String, until holds: () throws -> Bool) throws {
            let limit = Timestamp.monotonic() + 60
            while try !holds(), Timestamp.monotonic() < limit { usleep(100_000) }
            #expect(try holds(), "\(what): \(service.log.suffix(2000))")
        }
        try ServiceUnderTest.write(path, #"{"volume": ["size"]}"#)
        try wait("the new file counts") { try names("mem", "size=1") == ["one", "two"] }
        #expect(try names("mem", "name=one") == nil)
        try ServiceUnderTest.write(path, #"{"volume": "name"}"#)
        // What is half written when it is read is told too, in other words.
        try wait("the broken file is told") { service.log.contains("must be a list of names of filters") }
        #expect(try names("mem", "size=1") == ["one", "two"])
        #expect(service.stop() == 0)
        try service.launch()
        #expect(service.waitForEnd() == 78)
    }
}
