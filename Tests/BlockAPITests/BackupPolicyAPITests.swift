import BlockStorage
import Database
import Glibc
import HTTPServer
import JSON
import Testing

@testable import BlockAPI

@Suite("Backup policies by the API")
struct BackupPolicyAPITests {
    private let api: InMemoryAPI
    private let other = "fedcba9876543210fedcba9876543210"

    init() async throws { api = try await InMemoryAPI() }

    private func policy(_ members: JSONObject = [:], action: String = "backup") async throws -> String {
        var body = members
        if body["name"] == nil { body["name"] = "gold" }
        body["action"] = .string(action)
        let made = try await api.send("POST", "/backup-policies", ["backup_policy": .object(body)])
        #expect(made.status == 201, "\(made.text)")
        return try #require(made.json["backup_policy"]?["id"]?.string)
    }

    private func volume(_ metadata: JSONObject = [:], type: JSON = .null) async throws -> String {
        let made = try await api.send("POST", "/volumes", ["volume": ["size": 1, "metadata": .object(metadata), "volume_type": type]])
        return try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
    }

    private func message(_ answer: InMemoryAPI.Answer) -> String { answer.json["badRequest"]?["message"]?.string ?? answer.text }

    @Test("the protection that a policy asks for has the service's limit, which what was permitted once may stay above")
    func longestProtection() async throws {
        let refused = try await api.send(
            "POST", "/backup-policies", ["backup_policy": ["name": "gold", "action": "backup", "protect_days": 3651]])
        #expect(refused.status == 400)
        #expect(message(refused) == "Invalid input received: protect_days: it is at most 3650 (backup_policy_max_protect_days).")
        let id = try await policy(["protect_days": 3650])
        func change(_ members: JSONObject) async throws -> Int {
            try await api.send("PUT", "/backup-policies/\(id)", ["backup_policy": .object(members)]).status
        }
        #expect(try await change(["protect_days": 3651]) == 400)
        _ = try await api.database.write { try $0.run(text: "UPDATE backup_policies SET protect_days = 9999", []) }
        #expect(try await change(["keep_last": 3]) == 200)
        #expect(try await change(["protect_days": 9998]) == 400)
        #expect(try await change(["protect_days": 2]) == 200)
    }

    @Test("a policy is made with all members, shown, changed, listed and deleted")
    func life() async throws {
        let members: JSONObject = [
            "name": "gold", "description": "each night", "schedule": "30 2 * * mon-fri", "timezone": "UTC", "jitter_seconds": 600,
            "missed": "skip", "incremental": "auto", "full_every": 7, "keep_last": 3, "keep_hourly": 4, "keep_daily": 7, "keep_weekly": 4,
            "keep_monthly": 12, "keep_yearly": 2, "keep_within": "P3D", "minimum_keep": 2, "max_parallel": 5, "window_start": "01:00",
            "window_end": "06:30", "container": "c", "availability_zone": "nova", "metadata": ["a": "b"], "is_public": true,
            "enabled": "True",
            "verify_after": true, "verify_every": "P7D", "max_bytes_per_second": 1_000_000, "protect_days": 30,
        ]
        let id = try await policy(members)
        let shown = try #require(try await api.send("GET", "/backup-policies/\(id)").json["backup_policy"]?.object)
        for member in members.members where member.name != "enabled" {
            #expect(shown[member.name] == member.value, "\(member.name): \(shown[member.name]?.text ?? "missing")")
        }
        #expect(shown["enabled"] == true && shown["last_run_at"] == .null && shown["last_status"] == .null)
        #expect(shown["next_run_at"]?.string != nil && shown["project_id"] == .string(InMemoryAPI.project))
        let changed = try await api.send(
            "PUT", "/backup-policies/\(id)",
            [
                "backup_policy": [
                    "name": "silver", "keep_within": .null, "schedule": .null, "jitter_seconds": 0, "window_start": .null,
                    "window_end": .null, "minimum_keep": .null,
                ]
            ])
        #expect(changed.status == 200, "\(changed.text)")
        let after = changed.json["backup_policy"]
        #expect(
            after?["name"] == "silver" && after?["keep_within"] == .null && after?["next_run_at"] == .null && after?["minimum_keep"] == 1)
        #expect(after?["keep_daily"] == 7)
        let brief = try await api.send("GET", "/backup-policies?name=silver")
        #expect(brief.json["backup_policies"]?.array?.first?.object?.names == ["id", "name", "links"])
        #expect(try await api.send("GET", "/backup-policies/detail?action=snapshot").json["backup_policies"] == [])
        #expect(try await api.send("GET", "/backup-policies/detail?is_public=true&enabled=1").json["backup_policies"]?.array?.count == 1)
        #expect(try await api.send("DELETE", "/backup-policies/\(id)").status == 204)
        #expect(try await api.send("GET", "/backup-policies/\(id)").status == 404)
    }

    @Test("policies are listed as an extension, and no list of Cinder's tells of them")
    func listed() async throws {
        #expect(try await api.send("GET", "/extensions/clinker-backup-policies").status == 200)
        #expect(try await !api.send("GET", "/resource_filters").text.contains("polic"))
        #expect(try await !api.send("GET", "/limits").text.contains("polic"))
    }

    @Test("pages go on behind the marker, in the order that is asked for")
    func pages() async throws {
        for name in ["c", "a", "b"] { _ = try await policy(["name": .string(name)]) }
        let first = try await api.send("GET", "/backup-policies?limit=2&sort=name:asc")
        let names = first.json["backup_policies"]?.array?.compactMap { $0["name"]?.string }
        #expect(names == ["a", "b"] && first.json["backup_policies_links"]?.array?.count == 1)
        let marker = first.json["backup_policies"]?.array?.last?["id"]?.string ?? ""
        let rest = try await api.send("GET", "/backup-policies?limit=2&sort=name:asc&marker=\(marker)")
        #expect(rest.json["backup_policies"]?.array?.compactMap { $0["name"]?.string } == ["c"])
        #expect(rest.json["backup_policies_links"] == nil)
        #expect(try await api.send("GET", "/backup-policies?marker=none").status == 404)
        #expect(try await api.send("GET", "/backup-policies?sort=color").status == 400)
        #expect(try await api.send("GET", "/backup-policies?color=red").status == 400)
    }

    @Test(
        "a hostile body is refused with the member and the rule",
        arguments: [
            (
                #"{"schedule": "61 * * * *"}"#,
                "Invalid input received: schedule: '61 * * * *' is no cron expression: the minute '61' is no number from 0 to 59."
            ),
            (
                #"{"schedule": "0 0 30 2 *"}"#,
                "Invalid input received: schedule: '0 0 30 2 *' is no cron expression: it never comes: no month of it has such a day."
            ),
            (#"{"schedule": 5}"#, "Invalid input for field/attribute schedule. Value: 5. 5 is not of type 'string', 'null'"),
            (
                #"{"timezone": "../../etc/passwd"}"#,
                "Invalid input received: timezone: '../../etc/passwd' is no time zone of this machine's database of time zones, such as Europe/Berlin or UTC."
            ),
            (#"{"keep_last": 0}"#, "Invalid input for field/attribute keep_last. Value: 0. 0 is less than the minimum of 1"),
            (#"{"keep_last": 1.5}"#, "Invalid input for field/attribute keep_last. Value: 1.5. 1.5 is not of type 'integer', 'null'"),
            (#"{"keep_last": true}"#, "Invalid input for field/attribute keep_last. Value: True. True is not of type 'integer', 'null'"),
            (
                #"{"keep_daily": 10001}"#,
                "Invalid input for field/attribute keep_daily. Value: 10001. 10001 is greater than the maximum of 10000"
            ),
            (
                #"{"keep_within": "3 days"}"#,
                "Invalid input received: keep_within: '3 days' is no span of ISO 8601 of up to a hundred years, such as P30D or P1Y6M."
            ),
            (#"{"window_start": "22:00"}"#, "Invalid input received: window_end: a window has both a start and an end."),
            (
                #"{"window_start": "25:00", "window_end": "01:00"}"#,
                "Invalid input received: window_start: '25:00' is no time of day as HH:MM."
            ),
            (
                #"{"schedule": "* * * * *", "window_start": "01:00", "window_end": "01:00"}"#,
                "Invalid input received: window_end: a window that ends where it begins admits nothing."
            ),
            (#"{"jitter_seconds": 5}"#, "Invalid input received: jitter_seconds: it has no effect without a schedule."),
            (#"{"minimum_keep": 5}"#, "Invalid input received: minimum_keep: it has no effect without another keep_ member."),
            (
                #"{"incremental": "never", "full_every": 5}"#,
                "Invalid input received: full_every: it has an effect where incremental is 'auto' only."
            ),
            (
                #"{"incremental": "sometimes"}"#,
                "Invalid input for field/attribute incremental. Value: sometimes. 'sometimes' is not one of ['auto', 'always', 'never', None]"
            ),
            (
                #"{"action": "snapshot", "container": "c"}"#,
                "Invalid input received: container: it has no effect where action is 'snapshot'."
            ),
            (
                #"{"action": "snapshot", "incremental": "auto"}"#,
                "Invalid input received: incremental: it has no effect where action is 'snapshot'."
            ),
            (
                #"{"action": "destroy"}"#,
                "Invalid input for field/attribute action. Value: destroy. 'destroy' is not one of ['backup', 'snapshot']"
            ),
            (
                #"{"verify_every": "weekly"}"#,
                "Invalid input received: verify_every: 'weekly' is no span of ISO 8601 of up to a hundred years, such as P30D or P1Y6M."
            ),
            (#"{"verify_every": "PT59M"}"#, "Invalid input received: verify_every: it is an hour or longer."),
            (
                #"{"action": "snapshot", "verify_after": true}"#,
                "Invalid input received: verify_after: it has no effect where action is 'snapshot'."
            ),
            (
                #"{"max_bytes_per_second": 5}"#,
                "Invalid input for field/attribute max_bytes_per_second. Value: 5. 5 is less than the minimum of 65536"
            ),
            (
                #"{"action": "snapshot", "protect_days": 5}"#,
                "Invalid input received: protect_days: it has no effect where action is 'snapshot'."
            ),
            (
                #"{"next_run_at": "2026-01-01"}"#,
                "Invalid input for field/attribute backup_policy. Value: {'name': 'n', 'action': 'backup', 'next_run_at': '2026-01-01'}. Additional properties are not allowed ('next_run_at' was unexpected)"
            ),
            (
                #"{"name": "a,b"}"#,
                "Invalid input received: name: it may have no comma, which separates names in the property backup_policy of a volume."
            ),
            (#"{"name": "  "}"#, "An invalid 'name' value was provided. The 'name' can not be empty."),
            (#"{"metadata": {"a": 5}}"#, "Invalid input for field/attribute a. Value: 5. 5 is not of type 'string'"),
            (
                #"{"max_parallel": 101}"#,
                "Invalid input for field/attribute max_parallel. Value: 101. 101 is greater than the maximum of 100"
            ),
            (
                #"{"window_start": "\u0000", "window_end": "x"}"#,
                "Invalid input for field/attribute window_start. Value: \u{0}. '\\x00' contains a NUL character, which no text may"
            ),
        ])
    func hostile(members: String, expected: String) async throws {
        var body: JSONObject = ["name": "n", "action": "backup"]
        for member in try JSON(parsing: members).object?.members ?? [] { body[member.name] = member.value }
        let answer = try await api.send("POST", "/backup-policies", ["backup_policy": .object(body)])
        #expect(answer.status == 400 && message(answer) == expected, "\(answer.text)")
        #expect(try await api.send("GET", "/backup-policies").json["backup_policies"] == [])
    }

    @Test("a name means one policy of a project, and the action of one stays")
    func conflicts() async throws {
        let id = try await policy()
        let again = try await api.send("POST", "/backup-policies", ["backup_policy": ["name": "gold", "action": "snapshot"]])
        #expect(again.status == 409 && again.text.contains("name: there is a backup policy 'gold' already."))
        let changed = try await api.send("PUT", "/backup-policies/\(id)", ["backup_policy": ["action": "snapshot"]])
        #expect(changed.status == 400 && message(changed).hasPrefix("Invalid input received: action: it cannot be changed"))
        #expect(try await api.send("PUT", "/backup-policies/\(id)", ["backup_policy": ["action": "backup"]]).status == 200)
        let empty = try await api.send("POST", "/backup-policies", ["backup_policy": ["name": "x"]])
        #expect(message(empty).contains("'action' is a required property"), "\(empty.text)")
    }

    @Test("another project sees public policies alone, may use them, and neither changes nor runs them")
    func otherProjects() async throws {
        let secret = try await policy(["name": "secret"])
        let shared = try await policy(["name": "shared", "is_public": true])
        let stranger = Caller(userID: "x", projectID: other, isAdmin: false, requestID: "req-x")
        let database = api.database
        #expect(throws: StorageError(.notFound, "Backup policy \(secret) could not be found.")) {
            try database.readBlocking { _ = try BackupPolicies.get(secret, for: stranger, in: $0) }
        }
        let listed = try database.readBlocking { try BackupPolicyQuery(projectID: "x", limit: 10).page(in: $0).map(\.id) }
        #expect(listed == [shared])
        for id in [secret, shared] {
            let kind: StorageError.Kind = id == secret ? .notFound : .forbidden
            let refusals: [@Sendable () async throws -> Void] = [
                { _ = try await database.write { try BackupPolicies.delete(id, caller: stranger, in: $0) } },
                { try await database.write { try BackupPolicies.setEnabled(false, of: id, caller: stranger, in: $0) } },
                { _ = try await database.write { try BackupPolicyRuns.begin(id, caller: stranger, in: $0) } },
                { _ = try await database.write { try BackupPolicies.update(id, caller: stranger, in: $0) { $0.keepLast = 1 } } },
                { try await database.read { try BackupPolicyRuns.requireVisible(id, to: stranger, in: $0) } },
            ]
            for refusal in refusals {
                do {
                    try await refusal()
                    Issue.record("allowed")
                } catch let error as StorageError { #expect(error.kind == kind) }
            }
        }
        let assigned = try await database.write {
            try BackupPolicyAssignments.create(shared, .project, stranger.projectID, caller: stranger, in: $0)
        }
        #expect(assigned.projectID == other)
        await #expect(throws: StorageError.self) {
            try await database.write {
                _ = try BackupPolicyAssignments.create(shared, .project, InMemoryAPI.project, caller: stranger, in: $0)
            }
        }
        // Its user keeps it public.
        #expect(try await api.send("PUT", "/backup-policies/\(shared)", ["backup_policy": ["is_public": false]]).status == 409)
    }

    @Test("a member may not publish a policy")
    func publishing() async throws {
        let resource = BackupPolicyResource(store: api.store, mostProtectDays: 3650, format: { _ in nil })
        let operation = try #require(resource.extensions[0].operations.first { $0.name == "backup-policies:create" })
        let body: JSON = ["backup_policy": ["name": "n", "action": "backup", "is_public": true]]
        do {
            _ = try await operation.handler(try api.request(isAdmin: false, body))
            Issue.record("allowed")
        } catch let error as HTTPError { #expect(error.status == 403) }
    }

    @Test("what is public has copies of others' volumes: a member of its own project neither changes nor runs it")
    func publicPolicyOfOwnProject() async throws {
        let shared = try await policy(["name": "shared", "is_public": true])
        let own = try await policy(["name": "own"])
        let operations = BackupPolicyResource(store: api.store, mostProtectDays: 3650, format: { _ in nil }).extensions[0].operations
        let bodies: [(String, JSON)] = [
            ("update", ["backup_policy": ["keep_last": 1]]), ("run", ["run": [:]]), ("pause", ["pause": [:]]), ("resume", ["resume": [:]]),
            ("delete", .null),
        ]
        for (name, body) in bodies {
            let operation = try #require(operations.first { $0.name == "backup-policies:\(name)" })
            do {
                _ = try await operation.handler(try api.request([shared], isAdmin: false, body))
                Issue.record("\(name): allowed")
            } catch let error as StorageError { #expect(error.kind == .forbidden, "\(name)") }
        }
        for (name, body) in bodies.filter({ $0.0 != "run" }) {
            let operation = try #require(operations.first { $0.name == "backup-policies:\(name)" })
            _ = try await operation.handler(try api.request([own], isAdmin: false, body))
        }
    }

    @Test("of a public policy's run a member of its own project sees the own volumes alone, an administrator all")
    func runsOfManyProjects() async throws {
        let shared = try await policy(["name": "shared", "is_public": true])
        let run = try await api.database.write { [other] tx in
            let caller = Caller(userID: "u", projectID: InMemoryAPI.project, isAdmin: true, requestID: "req-1")
            let run = try BackupPolicyRuns.begin(shared, caller: caller, in: tx).id
            for (volume, project) in [("own", InMemoryAPI.project), ("foreign", other)] {
                try tx.run(
                    text: "INSERT INTO backup_policy_items (run_id, volume_id, project_id, status, updated_at) "
                        + "VALUES (?, ?, ?, 'failed', '2026-01-01T00:00:00.000000')",
                    [.text(run), .text(volume), .text(project)])
            }
            // What another project assigns is that project's to know.
            let stranger = Caller(userID: "x", projectID: other, isAdmin: false, requestID: "req-x")
            _ = try BackupPolicyAssignments.create(shared, .project, other, caller: stranger, in: tx)
            return run
        }
        let operations = BackupPolicyResource(store: api.store, mostProtectDays: 3650, format: { _ in nil }).extensions[0].operations
        for (name, parameters) in [("run-show", [shared, run]), ("runs", [shared])] {
            let operation = try #require(operations.first { $0.name == "backup-policies:\(name)" })
            for isAdmin in [false, true] {
                let response = try await operation.handler(try api.request(parameters, isAdmin: isAdmin))
                guard case .buffer(let buffer) = response.body else {
                    Issue.record("\(name) has no body")
                    continue
                }
                let text = String(decoding: UnsafeRawBufferPointer(start: buffer.base, count: buffer.count), as: UTF8.self)
                free(buffer.base)
                #expect(text.contains("foreign") == (isAdmin && name == "run-show"), "\(text)")
                #expect(text.contains(#""failed":\#(isAdmin ? 2 : 1)"#) || text.contains(#""failed": \#(isAdmin ? 2 : 1)"#), "\(text)")
            }
        }
        let owners = try api.database.readBlocking {
            try $0.rows(SQL("SELECT project_id FROM events WHERE kind = 'backup_policy.assign'")) { $0.text(0) }
        }
        #expect(owners == [other])
    }

    @Test("a preview of many runs looks at so many copies, and says that there is more")
    func boundedPreview() async throws {
        let id = try await policy(["name": "p", "schedule": "0 * * * *", "incremental": "always", "keep_last": 10_000])
        for _ in 0..<3 {
            let volume = try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string ?? ""
            let body: JSON = ["assignment": ["target_type": "volume", "target_id": .string(volume)]]
            #expect(try await api.send("POST", "/backup-policies/\(id)/assignments", body).status == 201)
        }
        let preview = try await api.send("POST", "/backup-policies/\(id)/action", ["preview": ["days": 366]]).json["preview"]
        #expect(preview?["runs"]?.array?.count == 400 && preview?["truncated"] == true && preview?["deletions"] == [])
    }

    /// The volumes that a preview counts: those that have the policy.
    private func covered(_ id: String) async throws -> JSON? {
        try await api.send("POST", "/backup-policies/\(id)/action", ["preview": [:]]).json["preview"]?["volumes"]
    }

    @Test(
        "what is said of a volume goes before what is said of its type, and that before its project; property and extra spec as assignments"
    )
    func precedence() async throws {
        let type = try await api.send("POST", "/types", ["volume_type": ["name": "fast", "extra_specs": ["backup:policy": "bytype"]]])
        let typeID = try #require(type.json["volume_type"]?["id"]?.string)
        let ids = ["byvolume", "byproperty", "bytype", "assignedtype", "byproject"]
        var policies: [String: String] = [:]
        for name in ids { policies[name] = try await policy(["name": .string(name)]) }
        let snapshots = try await policy(["name": "snaps"], action: "snapshot")
        func assign(_ policy: String, _ target: String, _ id: String) async throws -> String {
            let made = try await api.send(
                "POST", "/backup-policies/\(policies[policy] ?? "")/assignments",
                ["assignment": ["target_type": .string(target), "target_id": .string(id)]])
            #expect(made.status == 201, "\(made.text)")
            return made.json["assignment"]?["id"]?.string ?? ""
        }
        func counts() async throws -> [JSON?] {
            var result: [JSON?] = []
            for name in ids { result.append(try await covered(policies[name] ?? "")) }
            return result
        }
        let plain = try await volume()
        let typed = try await volume(type: "fast")
        let named = try await volume(["backup_policy": "unknown, byproperty,snaps"], type: "fast")
        #expect(try await counts() == [0, 1, 1, 0, 0])
        #expect(try await covered(snapshots) == 1)
        let project = try await assign("byproject", "project", InMemoryAPI.project)
        #expect(try await counts() == [0, 1, 1, 0, 1])
        let byType = try await assign("assignedtype", "type", typeID)
        #expect(try await counts() == [0, 1, 0, 1, 1])
        let byVolume = try await assign("byvolume", "volume", named)
        #expect(try await counts() == [1, 0, 0, 1, 1])
        _ = (plain, typed)
        // A second one for the same is refused, for another action it is not.
        let again = try await api.send(
            "POST", "/backup-policies/\(policies["byproject"] ?? "")/assignments",
            ["assignment": ["target_type": "volume", "target_id": .string(named)]])
        #expect(again.status == 409 && again.text.contains("has a policy for backups already"))
        #expect(
            try await api.send(
                "POST", "/backup-policies/\(snapshots)/assignments",
                ["assignment": ["target_type": "volume", "target_id": .string(named)]]
            ).status == 201)
        for (policy, id) in [("byproject", project), ("assignedtype", byType), ("byvolume", byVolume)] {
            let path = "/backup-policies/\(policies[policy] ?? "")/assignments"
            #expect(try await api.send("GET", path).json["assignments"]?.array?.count == 1)
            #expect(try await api.send("DELETE", path + "/" + id).status == 204)
            #expect(try await api.send("DELETE", path + "/" + id).status == 404)
        }
        #expect(try await counts() == [0, 1, 1, 0, 0])
        let nothing = try await api.send(
            "POST", "/backup-policies/\(snapshots)/assignments", ["assignment": ["target_type": "volume", "target_id": "none"]])
        #expect(nothing.status == 404)
    }

    @Test("a preview tells the runs of some days and the copies that would be deleted after each")
    func preview() async throws {
        let id = try await policy(["schedule": "0 3 * * *", "keep_last": 3, "incremental": "never"])
        let volume = try await volume(["backup_policy": "gold"])
        let answer = try await api.send("POST", "/backup-policies/\(id)/action", ["preview": ["days": 10]])
        let preview = answer.json["preview"]
        #expect(answer.status == 200 && preview?["runs"]?.array?.count == 10 && preview?["truncated"] == false, "\(answer.text)")
        let deletions = try #require(preview?["deletions"]?.array)
        #expect(deletions.count == 7 && deletions.allSatisfy { $0["volume_id"] == .string(volume) && $0["copy_id"] == .null })
        #expect(deletions[0]["at"] == preview?["runs"]?.array?[3] && deletions[0]["made_at"] == preview?["runs"]?.array?[0])
        let minutes = try await policy(["name": "often", "schedule": "* * * * *"])
        let much = try await api.send("POST", "/backup-policies/\(minutes)/action", ["preview": ["days": 366]]).json["preview"]
        #expect(much?["runs"]?.array?.count == 400 && much?["truncated"] == true)
        for days in [0, 367] as [JSON] {
            #expect(try await api.send("POST", "/backup-policies/\(id)/action", ["preview": ["days": days]]).status == 400)
        }
    }

    @Test("a run is begun once, shown with its volumes, and listed")
    func runs() async throws {
        let id = try await policy()
        let begun = try await api.send("POST", "/backup-policies/\(id)/action", ["run": .null])
        #expect(begun.status == 202, "\(begun.text)")
        let run = try #require(begun.json["run"]?["id"]?.string)
        #expect(begun.json["run"]?["trigger"] == "user" && begun.json["run"]?["status"] == "preparing")
        let again = try await api.send("POST", "/backup-policies/\(id)/action", ["run": .null])
        #expect(again.status == 409 && again.text.contains("Run \(run) of backup policy \(id) is still going on."))
        #expect(try await api.send("GET", "/backup-policies/\(id)/runs").json["runs"]?.array?.count == 1)
        #expect(try await api.send("GET", "/backup-policies/\(id)/runs?status=failed").json["runs"] == [])
        #expect(try await api.send("GET", "/backup-policies/\(id)/runs/\(run)").json["run"]?["items"] == [])
        #expect(try await api.send("GET", "/backup-policies/\(id)/runs/none").status == 404)
        #expect(try await api.send("GET", "/backup-policies/none/runs").status == 404)
        #expect(try await api.send("POST", "/backup-policies/\(id)/action", ["pause": .null]).status == 202)
        #expect(try await api.send("GET", "/backup-policies/\(id)").json["backup_policy"]?["enabled"] == false)
        #expect(try await api.send("POST", "/backup-policies/\(id)/action", ["resume": .null]).status == 202)
        #expect(try await api.send("DELETE", "/backup-policies/\(id)").status == 204)
    }

    @Test("what names a volume or a type goes with it")
    func assignmentsEnd() async throws {
        let id = try await policy()
        let volume = try await volume()
        _ = try await api.send(
            "POST", "/backup-policies/\(id)/assignments", ["assignment": ["target_type": "volume", "target_id": .string(volume)]])
        try await api.database.write { tx in
            if let volume = try Volumes.lock(volume, in: tx) { try Volumes.erase(volume, in: tx) }
        }
        #expect(try await api.send("GET", "/backup-policies/\(id)/assignments").json["assignments"] == [])
    }
}
