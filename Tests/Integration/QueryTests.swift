import Database
import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What lists and streams cost when clients choose it: the rows are many, the questions hostile. Nobody else waits for them.
@Suite("Queries under attack", .serialized)
struct QueryTests {
    private static let project = ServiceUnderTest.project
    private static let rows = 60_000

    /// A service whose tables were filled while it was stopped.
    private static func filled(options: String = "", _ fill: @escaping @Sendable (any Transaction) throws -> Void) async throws
        -> ServiceUnderTest
    {
        let service = try ServiceUnderTest(options: "osapi_volume_workers = 2\n" + options)
        service.stop()
        let database = try SQLiteDatabase(path: service.state + "/clinker.db")
        try await database.write(fill)
        database.close()
        try service.start()
        return service
    }

    private static func fillVolumes(_ tx: any Transaction) throws {
        try tx.run(
            text: """
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < \(rows))
                INSERT INTO volumes (id, project_id, user_id, name, description, size, status, attach_status, volume_type_id, bootable,
                    multiattach, consumes_quota, metadata, admin_metadata, image_metadata, created_at)
                SELECT printf('00000000-0000-4000-8000-%012d', i), ?, 'u', 'name ' || (i * 7919 % 1009), 'word ' || (i * 7907 % 1013), i % 5 + 1,
                    'available', 'detached', (SELECT id FROM volume_types), 0, 0, 1, '{}', '{}', '{}',
                    printf('2026-01-01T00:%02d:%02d.000000', i / 60 % 60, i % 60) FROM n
                """, [.text(project)])
    }

    private static func get(_ service: ServiceUnderTest, _ path: String) throws -> ServiceUnderTest.Answer {
        let encoded = path.utf8.map {
            $0 > 0x20 && $0 < 0x7F ? String(UnicodeScalar($0)) : "%" + String(Int($0) + 256, radix: 16).dropFirst()
        }
        return try service.api("GET", encoded.joined())
    }

    @Test("sorts: a repeated key counts once, more keys than columns are refused by name, mixed directions go on from a marker")
    func sorts() async throws {
        let service = try ServiceUnderTest(options: "quota_volumes = -1\nquota_gigabytes = -1")
        for index in 0..<7 {
            try service.wait(try service.create(["size": .integer(Int64(index % 3 + 1)), "name": .string("n\(index % 2)")]), "available")
        }
        for list in ["volumes", "volumes/detail", "snapshots", "attachments", "messages", "types"] {
            let key = list == "messages" ? "event_id" : list == "attachments" ? "volume_id" : "id"
            for count in [90, 400] {
                let asked = (0..<count).map { $0 % 2 == 0 ? "\(key):asc" : "created_at:desc" }.joined(separator: ",")
                let answer = try Self.get(service, "/\(list)?sort=\(asked)")
                #expect(answer.status == 400 && answer.message?.contains("sort has \(count) keys") == true, "\(list): \(answer.text)")
            }
            let repeated = try Self.get(service, "/\(list)?sort=\(key):asc,\(key):desc,created_at:desc")
            let once = try Self.get(service, "/\(list)?sort=\(key):asc,created_at:desc")
            #expect(repeated.status == 200 && repeated.text == once.text)
        }
        let columns = [
            "size", "name", "status", "display_description", "host", "bootable", "multiattach", "created_at", "updated_at", "launched_at",
            "scheduled_at", "project_id", "user_id", "availability_zone", "attach_status", "migration_status", "replication_status",
            "cluster_name", "volume_type_id", "snapshot_id", "source_volid", "group_id", "encryption_key_id", "provider_id", "service_uuid",
            "id",
        ]
        for order in [
            "size:desc,name:asc", "name:asc,size:desc,id:asc",
            columns.enumerated().map { "\($1):\($0 % 2 == 0 ? "asc" : "desc")" }.joined(separator: ","),
        ] {
            func ids(_ query: String) throws -> [String] {
                let answer = try Self.get(service, "/volumes?sort=\(order)\(query)")
                #expect(answer.status == 200, "\(order): \(answer.text)")
                return answer.json["volumes"]?.array?.compactMap { $0["id"]?.string } ?? []
            }
            let whole = try ids("")
            #expect(whole.count == 7)
            var paged: [String] = []
            for _ in 0..<7 { paged += try ids("&limit=1" + (paged.last.map { "&marker=\($0)" } ?? "")) }
            #expect(paged == whole, "\(order)")
        }
        let far = try Self.get(service, "/volumes?sort=name&offset=100001")
        #expect(far.status == 400 && far.message?.contains("offset") == true)
    }

    @Test("filters: pairs, comparisons and hints have limits that are told; marks that combine hide nothing")
    func filters() async throws {
        let service = try ServiceUnderTest()
        let id = try service.create(["name": "100%", "metadata": ["a": "b"]])
        let pairs = "{" + (0..<65).map { "'k\($0)': 'v'" }.joined(separator: ", ") + "}"
        for list in ["volumes?metadata=", "snapshots?metadata=", "types?extra_specs="] {
            let answer = try Self.get(service, "/\(list)\(pairs)")
            #expect(answer.status == 400 && answer.message?.contains("65 pairs, more than 64") == true, "\(list): \(answer.text)")
        }
        let times = (0..<50).map { "gt:2020-01-\($0 % 20 + 10)T00:00:00" }.joined(separator: ",")
        #expect(try Self.get(service, "/volumes?created_at=\(times)").message?.contains("50 comparisons") == true)
        // The last of a filter that comes again counts, however often it comes.
        let again = String(repeating: "name=x&", count: 250) + "name=100%25"
        #expect(try service.api("GET", "/volumes?\(again)").json["volumes"]?.array?.count == 1)
        // A quote or a percent sign with an accent is what it is, byte by byte.
        let mark = "\u{301}"
        #expect(try Self.get(service, "/volumes?metadata={'a\"\(mark)': 'b'}").json["volumes"]?.array?.isEmpty == true)
        for (text, count) in [("%25\(mark)", 0), ("_\(mark)", 0), ("%25", 1), ("0", 1), ("\\\(mark)", 0)] {
            let answer = try Self.get(service, "/volumes?name~=\(text)")
            #expect(answer.status == 200 && answer.json["volumes"]?.array?.count == count, "\(text): \(answer.text)")
        }
        let hints: JSON = ["same_host": .array((0..<300).map { _ in .string(id) })]
        let answer = try service.api("POST", "/volumes", ["volume": ["size": 1], "OS-SCH-HNT:scheduler_hints": hints])
        #expect(answer.status == 400 && answer.message?.contains("scheduler_hints has") == true, "\(answer.text)")
    }

    @Test("items that are added one request after the other have a limit that is told, and stay what they were")
    func items() throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let snapshot = try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(id)]]).json["snapshot"]?["id"]?.string ?? ""
        let type = try service.api("POST", "/types", ["volume_type": ["name": "t"]]).json["volume_type"]?["id"]?.string ?? ""
        func items(_ name: String, _ count: Int, length: Int) -> JSON {
            .object(JSONObject((0..<count).map { (name: "\(name)\($0)", value: .string(String(repeating: "v", count: length))) }))
        }
        for (path, key) in [
            ("/volumes/\(id)/metadata", "metadata"), ("/snapshots/\(snapshot)/metadata", "metadata"),
            ("/types/\(type)/extra_specs", "extra_specs"),
        ] {
            func add(_ items: JSON) throws -> ServiceUnderTest.Answer {
                try service.api("POST", path, .object(JSONObject([(name: key, value: items)])))
            }
            #expect(try add(items("a", 200, length: 1)).status == 200)
            let many = try add(items("b", 100, length: 1))
            #expect(many.status == 400 && many.message?.contains("\(key) would have 300 items, more than 256") == true, "\(many.text)")
            let long = try add(items("a", 200, length: 255))
            #expect(long.status == 200, "\(long.text)")
            let longer = try add(items("b", 50, length: 255))
            #expect(longer.status == 400 && longer.message?.contains("bytes, more than 65536") == true, "\(longer.text)")
            #expect(try service.api("GET", path).json[key]?.object?.count == 200)
        }
        let connector: JSON = ["host": "h", "more": .string(String(repeating: "x", count: 20_000))]
        for (path, body) in [
            ("/volumes/\(id)/action", ["os-initialize_connection": ["connector": connector]]),
            ("/attachments", ["attachment": ["volume_uuid": .string(id), "connector": connector]]),
        ] as [(String, JSON)] {
            let refused = try service.api("POST", path, body)
            #expect(refused.status == 400 && refused.message?.contains("more than 16384") == true, "\(refused.text)")
        }
        #expect(try service.volume(id)?["status"] == "available")
        let whole = try service.api("POST", "/volumes", ["volume": ["size": 1, "metadata": items("a", 257, length: 1)]])
        #expect(whole.status == 400 && whole.message?.contains("257 items") == true, "\(whole.text)")
    }

    @Test("while a reader's long lists wait for each other, the health check and short lists are answered, and too many are refused")
    func longLists() async throws {
        let service = try await Self.filled { try Self.fillVolumes($0) }
        var asked: [Int32] = []
        defer { for descriptor in asked { close(descriptor) } }
        for index in 0..<80 {
            let path = "/v3/\(Self.project)/volumes/detail?sort=display_description:asc,name:desc&limit=5&with_count=true&offset=\(index)"
            asked.append(try Loopback.connect(UInt16(service.port)))
            Loopback.send(
                asked[index],
                Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nOpenStack-API-Version: volume 3.71\r\nConnection: close\r\n\r\n".utf8))
        }
        func answered() -> Int {
            asked.count { descriptor in
                var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                return poll(&ready, 1, 0) > 0
            }
        }
        var statuses: [Int: Int] = [:]
        #expect(try service.request("GET", "/healthcheck").status == 200)
        #expect(try service.api("GET", "/volumes?limit=10").json["volumes"]?.array?.count == 10)
        let shown = try service.api("GET", "/volumes/00000000-0000-4000-8000-000000000007")
        #expect(shown.json["volume"]?["name"]?.string?.hasPrefix("name ") == true)
        #expect(answered() < asked.count, "the lists were answered first")
        for descriptor in asked {
            let answer = try ServiceUnderTest.parse(Loopback.receive(descriptor, silence: 30_000).bytes)
            statuses[answer.status, default: 0] += 1
            if answer.status == 200 {
                #expect(answer.json["count"] == .integer(Int64(Self.rows)) && answer.json["volumes"]?.array?.count == 5)
            } else {
                #expect(answer.header("Retry-After") != nil && answer.message?.contains("Too many long lists") == true, "\(answer.text)")
            }
        }
        #expect(statuses[200] ?? 0 > 0 && statuses[503] ?? 0 > 0 && statuses.count == 2, "\(statuses)")
    }

    @Test("a page of many rows is made on threads that nobody else waits for; one of few rows is not sent there")
    func largePages() async throws {
        let service = try await Self.filled { tx in
            try Self.fillVolumes(tx)
            let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)"
            let volume = "printf('00000000-0000-4000-8000-%012d', i)"
            let type = "(SELECT id FROM volume_types LIMIT 1)"
            for (table, columns, values) in [
                (
                    "snapshots", "id, volume_id, project_id, user_id, size, status, volume_type_id, metadata, consumes_quota, created_at",
                    "'s' || i, \(volume), p, 'u', 1, 'available', \(type), '{}', 1, t"
                ),
                ("attachments", "id, volume_id, project_id, attach_status, created_at", "'a' || i, \(volume), p, 'reserved', t"),
                (
                    "messages",
                    "id, project_id, event_id, message_level, request_id, user_message, created_at, expires_at",
                    "'m' || i, p, 'e', 'ERROR', 'req', 'text', t, '2999-01-01T00:00:00.000000'"
                ),
                (
                    "operations",
                    "id, flow, version, state, reverting, attempts, resource_type, resource_id, project_id, user_id, request_id, arguments, step_state, created_at, updated_at, finished_at",
                    "'o' || i, 'volume.create', 1, 'done', 0, 0, 'volume', \(volume), p, 'u', 'req', '{}', '{}', t, t, t"
                ),
                ("volume_types", "id, name, is_public, extra_specs, created_at", "'t' || i, 'type ' || i, 1, '{}', t"),
            ] {
                try tx.run(
                    text: "\(numbers) INSERT INTO \(table) (\(columns)) SELECT \(values) FROM (SELECT i, ? AS p, ? AS t FROM n)",
                    [.text(Self.project), .text(Timestamp.now())])
            }
        }
        func pages() throws -> Int {
            let name = "clinker_database_page_read_seconds_count "
            let line = try service.request("GET", "/metrics").text.split(separator: "\n").first { $0.hasPrefix(name) }
            return Int(try #require(line).dropFirst(name.count)) ?? -1
        }
        for (list, key) in [
            ("volumes", "volumes"), ("volumes/detail", "volumes"), ("snapshots", "snapshots"), ("snapshots/detail", "snapshots"),
            ("attachments", "attachments"), ("attachments/detail", "attachments"), ("messages", "messages"), ("operations", "operations"),
            ("types", "volume_types"),
        ] {
            let before = try pages()
            for query in ["?limit=1000", ""] {
                // Longer than what is read as JSON here.
                let answer = try service.request("GET", "/v3/\(Self.project)/\(list)\(query)")
                #expect(answer.status == 200 && answer.text.utf8.count > 600 * 40, "\(list): \(answer.text.prefix(300))")
            }
            #expect(try pages() == before + 2, "\(list)")
            // Types are looked through as a whole, whatever is shown of them.
            guard list != "types" else { continue }
            let few = try service.api("GET", "/\(list)?limit=50")
            #expect(few.json[key]?.array?.count == 50)
            #expect(try pages() == before + 2, "\(list)")
        }
        for path in ["/os-quota-sets/\(Self.project)", "/os-quota-class-sets/default", "/limits"] {
            let before = try pages()
            #expect(try service.api("GET", path).status == 200)
            #expect(try pages() == before + 1, "\(path)")
        }
    }

    @Test("followers that search a long history hold nobody up; one user follows a bounded number")
    func followers() async throws {
        let service = try await Self.filled(options: "event_streams_per_user = 20") { tx in
            try tx.run(
                text: """
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
                    INSERT INTO events (time, kind, resource_type, resource_id, project_id, request_id, data)
                    SELECT '2026-01-01T00:00:00.000000', 'volume.test', 'volume', 'v' || i, ?, 'req', '{}' FROM n
                    """, [.text(Self.project)])
        }
        let events = "/v3/\(Self.project)/events"
        let searching = try (0..<19).map { _ in try OperationTests.Follower(service, events + "?last_event_id=0&kind=volume.made") }
        let follower = try OperationTests.Follower(service, events)
        let refused = try service.request("GET", events)
        #expect(refused.status == 429 && refused.header("Retry-After") != nil, "\(refused.status) \(refused.text)")
        let id = try service.create()
        #expect(try follower.next("operation.accepted")["resource_id"]?.string == id)
        // What they asked for, they hear, however far behind it is.
        let one = "/v3/\(Self.project)/events?last_event_id=0&resource_id=v399999"
        withExtendedLifetime(searching) {}
        let ticket = try service.request("POST", "/v3/\(Self.project)/events/tickets", headers: [("X-Auth-Token", "other:\(Self.project)")])
        let found = try OperationTests.Follower(service, one + "&ticket=\(ticket.json["ticket"]?["id"]?.string ?? "")")
        #expect(try found.next()["resource_id"] == "v399999")
    }
}
