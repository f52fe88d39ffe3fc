import Database
import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Policies over real processes, with the store of the embedded default.
@Suite("Backup policies", .serialized)
struct BackupPolicyTests {
    private func service() throws -> ServiceUnderTest {
        let service = try ServiceUnderTest(
            options: BackupTests.options + "\nbackup_format = cinder\nbackup_policy_interval = 1",
            sections: "[file]\nvolume_driver = file\n")
        try waitForStore(service)
        return service
    }

    private func waitForStore(_ service: ServiceUnderTest) throws {
        try until("a backup service", service) {
            (try? service.api("GET", "/os-services?binary=cinder-backup").text.contains("\"up\"")) == true
        }
    }

    private func until(_ what: String, _ service: ServiceUnderTest, seconds: Double = 60, _ condition: () throws -> Bool) throws {
        let limit = Timestamp.monotonic() + seconds
        while !(try condition()) {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("never \(what)\n\(service.story)") }
            usleep(20_000)
        }
    }

    private func policy(_ service: ServiceUnderTest, _ members: JSONObject) throws -> String {
        let made = try service.api("POST", "/backup-policies", ["backup_policy": .object(members)])
        guard made.status == 201, let id = made.json["backup_policy"]?["id"]?.string else {
            throw ServiceUnderTest.Failure("policy: \(made.status) \(made.text)")
        }
        return id
    }

    private func volumes(_ service: ServiceUnderTest, _ count: Int, _ policy: String = "gold") throws -> [String] {
        let ids = try (0..<count).map { _ in try service.create(["metadata": ["backup_policy": .string(policy)]]) }
        for id in ids { try service.wait(id, "available") }
        return ids
    }

    private func action(_ service: ServiceUnderTest, _ id: String, _ name: String) throws -> JSON {
        let answer = try service.api("POST", "/backup-policies/\(id)/action", .object(JSONObject([(name: name, value: .null)])))
        guard answer.status == 202 else { throw ServiceUnderTest.Failure("\(name): \(answer.status) \(answer.text)") }
        return answer.json
    }

    /// The run when it has ended.
    private func wait(_ service: ServiceUnderTest, _ policy: String, _ run: String) throws -> JSON {
        var seen: JSON?
        try until("the end of run \(run)", service) {
            guard let answer = try? service.api("GET", "/backup-policies/\(policy)/runs/\(run)"), answer.status == 200 else { return false }
            seen = answer.json["run"]
            return seen?["finished_at"]?.string != nil
        }
        return try #require(seen)
    }

    private func run(_ service: ServiceUnderTest, _ policy: String) throws -> JSON {
        let run = try #require(try action(service, policy, "run")["run"]?["id"]?.string)
        return try wait(service, policy, run)
    }

    private func backups(_ service: ServiceUnderTest) throws -> [JSON] {
        try service.api("GET", "/backups/detail").json["backups"]?.array ?? []
    }

    @Test("a run that is asked for backs up what has the policy, by property and by type, and deletes what is kept no longer")
    func asked() throws {
        let service = try service()
        defer { _ = service.stop() }
        let type = try service.api("POST", "/types", ["volume_type": ["name": "kept", "extra_specs": ["backup:policy": "gold"]]])
        #expect(type.status == 200)
        let byProperty = try volumes(service, 1)
        let byType = try service.create(["volume_type": "kept"])
        try service.wait(byType, "available")
        _ = try volumes(service, 1, "none")
        let id = try policy(
            service, ["name": "gold", "action": "backup", "keep_last": 1, "incremental": "never", "metadata": ["made": "by gold"]])
        for _ in 0..<3 {
            let run = try run(service, id)
            #expect(run["status"] == "success" && run["made"] == 2, "\(run.text)")
        }
        try until("one backup of each volume", service) { try backups(service).count == 2 }
        let left = try backups(service)
        #expect(Set(left.compactMap { $0["volume_id"]?.string }) == Set(byProperty + [byType]))
        #expect(
            left.allSatisfy {
                $0["clinker:policy_id"] == .string(id) && $0["metadata"]?["made"] == "by gold" && $0["status"] == "available"
            })
        let shown = try service.api("GET", "/backup-policies/\(id)").json["backup_policy"]
        #expect(shown?["last_status"] == "success" && shown?["next_run_at"] == .null)
    }

    @Test("increments end with their chain, and snapshots of a policy one by one")
    func chains() throws {
        let service = try service()
        defer { _ = service.stop() }
        _ = try volumes(service, 1, "gold,often")
        let id = try policy(service, ["name": "gold", "action": "backup", "keep_last": 2, "full_every": 2])
        for _ in 0..<5 { #expect(try run(service, id)["status"] == "success") }
        try until("two chains at most", service) { try (2...3).contains(backups(service).count) }
        #expect(try backups(service).contains { $0["is_incremental"] == true } || backups(service).count == 3)
        let snapshots = try policy(service, ["name": "often", "action": "snapshot", "keep_last": 2])
        for _ in 0..<4 { #expect(try run(service, snapshots)["status"] == "success") }
        try until("two snapshots", service) { try service.api("GET", "/snapshots").json["snapshots"]?.array?.count == 2 }
    }

    @Test("a run that is due after a restart is made by itself, a missed one is told, and a paused schedule does not count")
    func scheduled() async throws {
        let service = try service()
        defer { _ = service.stop() }
        let ids = try volumes(service, 2)
        let id = try policy(service, ["name": "gold", "action": "snapshot", "schedule": "0 3 1 1 *", "timezone": "UTC", "missed": "skip"])
        func shown(_ member: String) throws -> JSON? { try service.api("GET", "/backup-policies/\(id)").json["backup_policy"]?[member] }
        #expect(try shown("next_run_at")?.string?.hasSuffix("-01-01T03:00:00.000000") == true)
        // As if its time had come while the service was stopped: a minute ago, and an hour ago.
        for (age, status) in [(60.0, "success"), (3600, "missed")] {
            #expect(service.stop() == 0)
            let time = Timestamp.format(seconds: Int(Timestamp.seconds() - age), microseconds: 0)
            let database = try SQLiteDatabase(path: service.state + "/clinker.db")
            _ = try await database.write {
                try $0.run(text: "UPDATE backup_policies SET next_run_at = ?, next_occurrence_at = ?", [.text(time), .text(time)])
            }
            database.close()
            try service.start()
            var found: JSON?
            try until("the end of a run by the schedule", service) {
                found = try service.api("GET", "/backup-policies/\(id)/runs").json["runs"]?.array?.first
                return found?["scheduled_at"]?.string == time && found?["finished_at"]?.string != nil
            }
            #expect(found?["trigger"] == "schedule" && found?["status"] == .string(status), "\(found?.text ?? "")")
            #expect(
                try shown("last_status") == .string(status) && shown("next_run_at")?.string?.hasSuffix("-01-01T03:00:00.000000") == true)
        }
        #expect(try service.api("GET", "/snapshots").json["snapshots"]?.array?.count == ids.count)
        _ = try action(service, id, "pause")
        #expect(try shown("next_run_at") == .null)
        #expect(try service.api("POST", "/backup-policies/\(id)/action", ["run": .null]).status == 409)
        _ = try action(service, id, "resume")
        #expect(try shown("next_run_at")?.string != nil)
    }

    @Test(
        "a run goes on after the core was killed or the service stopped in its middle: no volume twice, none forgotten",
        arguments: ["core", "service"])
    func deaths(who: String) throws {
        let service = try service()
        defer { _ = service.stop() }
        let ids = try volumes(service, 8)
        let id = try policy(service, ["name": "gold", "action": "backup", "max_parallel": 2])
        let run = try #require(try action(service, id, "run")["run"]?["id"]?.string)
        for round in 1...3 {
            try until("backups of the run, \(round)", service) {
                guard let made = try? service.api("GET", "/backup-policies/\(id)/runs/\(run)").json["run"] else { return false }
                return made["finished_at"]?.string != nil || (try? backups(service).count) ?? 0 >= round * 2
            }
            if who == "core" {
                let core = try #require(service.processes("core").first)
                kill(core, SIGKILL)
                try until("another core", service) { service.processes("core").first.map { $0 != core } == true }
            } else {
                #expect(service.stop() == 0)
                try service.start()
                try waitForStore(service)
            }
        }
        let ended = try wait(service, id, run)
        #expect(ended["status"] == "success" && ended["made"] == 8, "\(ended.text)")
        let volumes = try backups(service).compactMap { $0["volume_id"]?.string }
        #expect(volumes.count == 8 && Set(volumes) == Set(ids))
    }
}
