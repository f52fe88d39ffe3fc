import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Answers that clients build on, and that a real Cinder gives so. The whole comparison is in Tests/Oracle.
@Suite("Answers", .serialized)
struct AnswerTests {
    private static func encoded(_ text: String) -> String {
        text.utf8.map { byte in
            let scalar = Unicode.Scalar(byte)
            let isPlain = scalar.properties.isAlphabetic && scalar.isASCII || ("0"..."9").contains(scalar)
            return isPlain ? String(scalar) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }

    private static func ids(_ service: ServiceUnderTest, _ query: String) throws -> [String]? {
        let answer = try service.api("GET", "/volumes?\(query)")
        return answer.status == 200 ? answer.json["volumes"]?.array?.compactMap { $0["id"]?.string } : nil
    }

    @Test("the microversion header: all its lines are one list, and whatever names a volume service counts")
    func microversions() throws {
        let service = try ServiceUnderTest()
        let path = "/v3/\(ServiceUnderTest.project)/volumes"
        for (lines, status, version) in [
            (["volumev3 3.34"], 200, "volume 3.34"), (["compute 2.1, volumev3 3.42"], 200, "volume 3.42"),
            (["compute 2.1", "volume 3.27"], 200, "volume 3.27"), (["volume 3.27", "compute 2.1"], 200, "volume 3.27"),
            (["volume 3.34, volume 3.50"], 200, "volume 3.34"), (["volume\t3.34"], 200, "volume 3.34"),
            (["compute 2.1", "volume 3.99"], 406, "volume 3.99"), (["volume 2.0"], 406, nil), (["compute 2.1"], 400, nil),
            (["Volume 3.34"], 400, nil),
        ] as [([String], Int, String?)] {
            let answer = try service.request("GET", path, version: nil, headers: lines.map { ("OpenStack-API-Version", $0) })
            #expect(
                answer.status == status && answer.header("OpenStack-API-Version") == version, "\(lines): \(answer.status) \(answer.headers)"
            )
        }
    }

    @Test("a volume of two sources is refused, whichever they are")
    func twoSources() throws {
        let service = try ServiceUnderTest()
        let volumes = try [service.create(), service.create()]
        for id in volumes { try service.wait(id, "available") }
        let snapshot = try #require(
            try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volumes[0])]]).json["snapshot"]?["id"]?.string)
        for (source, version) in [(volumes[0], "3.0"), (volumes[1], "3.71")] {
            let answer = try service.api(
                "POST", "/volumes", version: version,
                ["volume": ["size": 1, "snapshot_id": .string(snapshot), "source_volid": .string(source)]])
            #expect(
                answer.status == 400
                    && answer.message == "Invalid input received: May specify only one of backup, imageRef, snapshot, source volume")
        }
        #expect(try Self.ids(service, "")?.count == 2)
    }

    @Test("the default type is the project's own, for whoever asks and for volumes")
    func defaultType() throws {
        let service = try ServiceUnderTest()
        let type = try #require(
            try service.api("POST", "/types", ["volume_type": ["name": "own"]]).json["volume_type"]?["id"]?.string)
        func name(_ version: String) throws -> String? {
            try service.api("GET", "/types/default", version: version).json["volume_type"]?["name"]?.string
        }
        #expect(try name("3.71") == "__DEFAULT__")
        #expect(
            try service.api("PUT", "/default-types/\(ServiceUnderTest.project)", ["default_type": ["volume_type": "own"]]).status == 200)
        #expect(try name("3.0") == "own" && name("3.71") == "own")
        // As Cinder's schema has it: what stands beside default_type is passed over, what stands in it is not.
        let path = "/default-types/\(ServiceUnderTest.project)"
        #expect(try service.api("PUT", path, ["default_type": ["volume_type": "own"], "other": 1]).status == 200)
        #expect(try service.api("PUT", path, ["default_type": ["volume_type": "own", "other": 1]]).status == 400)
        let volume = try service.create()
        #expect(try service.wait(volume, "available")?["volume_type_id"]?.string == type)
    }

    @Test("a volume that is reserved or being attached can be force-deleted, and deleted after its state was reset")
    func reservedVolumes() throws {
        let service = try ServiceUnderTest()
        func reserved(connected: Bool = false) throws -> String {
            let volume = try service.create()
            try service.wait(volume, "available")
            let more: JSON =
                connected ? ["connector": ["host": "h", "initiator": "iqn.2026-11.example:h"]] : ["instance_uuid": .string(UUID.random())]
            var attachment = more.object ?? [:]
            attachment["volume_uuid"] = .string(volume)
            #expect(try service.api("POST", "/attachments", ["attachment": .object(attachment)]).status == 200)
            return volume
        }
        func action(_ id: String, _ body: JSON) throws -> Int { try service.api("POST", "/volumes/\(id)/action", body).status }
        for connected in [false, true] {
            let volume = try reserved(connected: connected)
            #expect(try action(volume, ["os-force_delete": [:]]) == 202)
            try service.wait(volume, nil)
        }
        let flagged = try reserved()
        #expect(try service.api("DELETE", "/volumes/\(flagged)?force=true").status == 202)
        try service.wait(flagged, nil)
        for status in ["available", "error"] {
            let volume = try reserved()
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 400)
            #expect(try action(volume, ["os-reset_status": ["status": .string(status)]]) == 202)
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
        let attached = try reserved()
        let attachment = try #require(
            try service.api("GET", "/attachments?volume_id=\(attached)").json["attachments"]?.array?.first?["id"]?.string)
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        #expect(try action(attached, ["os-force_delete": [:]]) == 400)
    }

    @Test("a volume that lies nowhere is gone when its deletion is answered, and its type can be deleted at once")
    func nowhere() throws {
        let service = try ServiceUnderTest()
        let type = try #require(
            try service.api("POST", "/types", ["volume_type": ["name": "t", "extra_specs": ["volume_backend_name": "none"]]])
                .json["volume_type"]?["id"]?.string)
        let volume = try service.create(["volume_type": "t"])
        try service.wait(volume, "error")
        #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
        #expect(try service.api("GET", "/volumes/\(volume)").status == 404)
        #expect(try service.api("DELETE", "/types/\(type)").status == 202)
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0)
    }

    @Test("filters of volumes: literals, names as they stand, patterns, maps that are shown, times with offsets")
    func filters() throws {
        let service = try ServiceUnderTest()
        let none = try service.create(["name": "None", "size": 2])
        let plain = try service.create(["metadata": ["a": "b"]])
        let percent = try service.create(["name": "100%"])
        for id in [none, plain, percent] { try service.wait(id, "available") }
        #expect(
            try service.api("POST", "/volumes/\(percent)/action", ["os-update_readonly_flag": ["readonly": true]]).status == 202)
        for (key, value, found) in [
            ("name", "None", [none]), ("name", "100%", [percent]), ("name~", "0%", [percent]), ("name~", "on", [none]),
            ("id", "['\(none)', '\(plain)']", [none, plain]), ("id", "'\(none)'", [none]),
            ("status", "['available']", [none, plain, percent]),
            ("group_id", "None", [none, plain, percent]), ("size", "[2]", [none]), ("size", "2.0", [none]), ("size", "x", []),
            ("metadata", "{'a': 'b'}", [plain]), ("metadata", "{'readonly': 'True'}", [percent]), ("metadata", "{'a': None}", []),
            ("metadata", "x", []), ("bogus", "x", []), ("deleted", "False", [none, plain, percent]),
            ("created_at", "gt:2020-01-01T00:00:00+02:00", [none, plain, percent]), ("created_at", "gt:2020,lt:2021", []),
        ] as [(String, String, [String])] {
            let ids = try Self.ids(service, "\(key)=\(Self.encoded(value))")
            #expect(ids.map(Set.init) == Set(found), "\(key)=\(value): \(String(describing: ids))")
        }
        for (query, message) in [
            ("all_tenants=abc", "Value 'abc' for 'all_tenants' is not a boolean."),
            ("all_tenants=2", "Value '2' for 'all_tenants' is not a boolean."),
            ("bootable=x", "Invalid input received: 'bootable = x'"), ("sort=", "Invalid input received: Invalid sort key"),
            ("sort=name,", "Invalid input received: Invalid sort key"), ("created_at=", "Invalid  operator"),
            ("created_at=gt:2020-02-30", "Invalid 2020-02-30 value"), ("created_at=2020-01-01T00:00:00", "Invalid 2020-01-01T00 operator"),
            ("consumes_quota=x", "Value 'x' for 'use_quota' is not a boolean."),
            ("with_count=x", "Value 'x' for 'with_count' is not a boolean."),
            ("offset=x", "offset must be an integer"),
        ] { #expect(try service.api("GET", "/volumes?\(query)").message == message, "\(query)") }
    }

    @Test("members: filters that are not configured are refused, and types are not found by what a member may not read")
    func members() throws {
        let directory = temporaryDirectory("answers")
        // bcrypt of "oracle", cost 4.
        let hash = "$2y$04$jRxJc4.GcQCpxbM009jEjuWSFBcXCh2Oj4XPMEmQ4f22z1o8O/Gvi"
        try ServiceUnderTest.write(
            directory + "/users", "adm:\(hash):\(ServiceUnderTest.project):admin\nmem:\(hash):\(ServiceUnderTest.project):member\n")
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(directory)/users")
        func ask(_ user: String, _ method: String, _ path: String, _ body: JSON? = nil) throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(ServiceUnderTest.project)\(path)",
                headers: [("Authorization", "Basic " + (user == "adm" ? "YWRtOm9yYWNsZQ==" : "bWVtOm9yYWNsZQ=="))], body: body?.text)
        }
        let made = try ask(
            "adm", "POST", "/types",
            ["volume_type": ["name": "t", "extra_specs": ["volume_backend_name": "x", "multiattach": "<is> True"]]])
        #expect(made.status == 200)
        func names(_ user: String, _ query: String) throws -> [String]? {
            let answer = try ask(user, "GET", "/types?" + query)
            return answer.status == 200 ? answer.json["volume_types"]?.array?.compactMap { $0["name"]?.string } : nil
        }
        let secret = "extra_specs=" + Self.encoded("{'volume_backend_name': 'x'}")
        #expect(try names("mem", secret) == [] && names("adm", secret) == ["t"])
        #expect(try names("mem", "extra_specs=" + Self.encoded("{'multiattach': '<is> True'}")) == ["t"])
        #expect(try names("adm", "name=t") == ["t"] && names("adm", "name=u") == [] && names("adm", "bogus=t") == [])
        for query in ["/types?name=t", "/volumes?name~=t", "/volumes?bogus=x", "/snapshots?size=1", "/attachments?id=x"] {
            let answer = try ask("mem", "GET", query)
            #expect(answer.status == 400 && answer.message?.hasPrefix("Invalid filters ") == true, "\(query): \(answer.status)")
        }
        #expect(try ask("mem", "GET", "/volumes?all_tenants=abc").status == 200)
    }

    @Test("an administrator's list of types holds the private ones that its project was given")
    func privateTypes() throws {
        let service = try ServiceUnderTest()
        let ids = try ["given", "other"].map { name in
            try #require(
                try service.api("POST", "/types", ["volume_type": ["name": .string(name), "os-volume-type-access:is_public": false]])
                    .json["volume_type"]?["id"]?.string)
        }
        #expect(
            try service.api("POST", "/types/\(ids[0])/action", ["addProjectAccess": ["project": .string(ServiceUnderTest.project)]]).status
                == 202)
        func names(_ query: String) throws -> Set<String> {
            Set(try service.api("GET", "/types?" + query).json["volume_types"]?.array?.compactMap { $0["name"]?.string } ?? [])
        }
        #expect(try names("") == ["__DEFAULT__", "given"] && names("is_public=true") == ["__DEFAULT__", "given"])
        #expect(try names("is_public=false") == ["given", "other"] && names("is_public=None") == ["__DEFAULT__", "given", "other"])
    }

    @Test("an empty id is no list: 404")
    func emptyIDs() throws {
        let service = try ServiceUnderTest()
        let volume = try service.create()
        for path in [
            "volumes", "snapshots", "types", "attachments", "messages", "os-quota-sets", "os-hosts", "extensions", "volumes/\(volume)",
        ] {
            for method in ["GET", "DELETE"] {
                #expect(try service.api(method, "/\(path)/").status == 404, "\(method) \(path)/")
            }
        }
        #expect(try service.wait(volume, "available") != nil)
    }

    private static let notServed: [(what: String, requests: [String])] = [
        (
            "Groups are",
            [
                "GET /groups", "POST /groups", "GET /groups/detail", "GET /groups/1", "PUT /groups/1", "POST /groups/action",
                "POST /groups/1/action",
            ]
        ),
        (
            "Snapshots of groups are",
            [
                "GET /group_snapshots", "POST /group_snapshots", "GET /group_snapshots/detail", "GET /group_snapshots/1",
                "DELETE /group_snapshots/1", "POST /group_snapshots/1/action",
            ]
        ),
        (
            "Types of groups are",
            [
                "GET /group_types", "POST /group_types", "GET /group_types/1", "PUT /group_types/1", "DELETE /group_types/1",
                "GET /group_types/1/group_specs", "POST /group_types/1/group_specs", "GET /group_types/1/group_specs/2",
                "PUT /group_types/1/group_specs/2", "DELETE /group_types/1/group_specs/2",
            ]
        ),
        (
            "Consistency groups are",
            [
                "GET /consistencygroups", "POST /consistencygroups", "POST /consistencygroups/create_from_src",
                "GET /consistencygroups/detail", "GET /consistencygroups/1", "PUT /consistencygroups/1", "DELETE /consistencygroups/1",
                "POST /consistencygroups/1/delete", "PUT /consistencygroups/1/update",
            ]
        ),
        (
            "Snapshots of consistency groups are",
            ["GET /cgsnapshots", "POST /cgsnapshots", "GET /cgsnapshots/detail", "GET /cgsnapshots/1", "DELETE /cgsnapshots/1"]
        ),
        (
            "Clusters are",
            ["GET /clusters", "GET /clusters/detail", "PUT /clusters/disable", "PUT /clusters/enable", "GET /clusters/1"]
        ),
        ("Clean-up of workers is", ["POST /workers/cleanup"]), ("Failover to replicas is", ["PUT /os-services/failover_host"]),
    ]

    @Test(
        "what Cinder serves and this release does not says so: every path 404, every action of a volume 400; who is not known is told that first"
    )
    func notServed() throws {
        let service = try ServiceUnderTest()
        let sentence = "not served by this release of Clinker."
        for (what, requests) in Self.notServed {
            for request in requests {
                let words = request.split(separator: " ").map(String.init)
                for project in ["", "/\(ServiceUnderTest.project)"] {
                    let answer = try service.request(
                        words[0], "/v3\(project)\(words[1])", headers: [("Content-Type", "application/json")],
                        body: words[0] == "GET" ? nil : "{}")
                    #expect(answer.status == 404 && answer.json["itemNotFound"] != nil, "\(request): \(answer.text)")
                    #expect(answer.message == "\(what) \(sentence)", "\(request)")
                    #expect(answer.header("OpenStack-API-Version") == "volume 3.71")
                }
            }
        }
        // What is none of Cinder's either is the router's to answer.
        #expect(try service.api("GET", "/backupz").text.contains("The resource could not be found.<br />"))
        let closed = try ServiceUnderTest(
            auth: "http_basic", options: "http_basic_auth_user_file = \(try Self.users())", sections: "[file]\nvolume_driver = file\n")
        #expect(try closed.request("GET", "/v3/backups").status == 401)
    }

    private static func users() throws -> String {
        let path = temporaryDirectory("users") + "/users"
        try ServiceUnderTest.write(path, "")
        chmod(path, 0o600)
        return path
    }
}
