import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Transfers wait for their turn, over real processes.
@Suite("Transfers at once", .serialized)
struct TransferLimitTests {
    /// The operation that makes a backup, or the only restoration.
    private func operation(_ service: ServiceUnderTest, of backup: String? = nil) throws -> JSON {
        let filter = backup.map { "resource_id=\($0)&flow=backup.create" } ?? "flow=backup.restore"
        let found = try service.api("GET", "/operations?limit=1&" + filter).json["operations"]?.array?.first
        return try #require(found)
    }

    private func waitUntil(_ service: ServiceUnderTest, _ what: String, _ isSo: () throws -> Bool) throws {
        let limit = Timestamp.monotonic() + 240
        while try !isSo() {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("\(what) never came: \(service.story)") }
            usleep(10_000)
        }
    }

    @Test(
        "one backup runs at a time: others wait, show it, can be cancelled, and let a restoration go first"
    )
    func backups() throws {
        let volumes = try BackedUpVolumes(format: "cinder", options: "backup_max_operations = 1\nquota_backups = 100")
        let service = volumes.service
        let volume = try volumes.volume(seed: 3, at: [0])
        let whole = try volumes.backup(volume)
        // Its process stands still, so that whatever else runs would be seen.
        let running = try BackupTests.backup(service, of: volume)
        try waitUntil(service, "the transfer") { !service.processes("transfer").isEmpty }
        let holder = try #require(service.processes("transfer").first)
        #expect(kill(holder, SIGSTOP) == 0)
        guard try service.api("GET", "/backups/\(running)").json["backup"]?["status"] == "creating" else {
            Issue.record("the backup had ended before it was stopped")
            return
        }
        let others = try (0..<5).map { _ in try BackupTests.backup(service, of: volume) }
        for other in others {
            try waitUntil(service, "waiting") { try operation(service, of: other)["waits_for_transfer"] == true }
        }
        #expect(try service.api("POST", "/backups/\(whole)/restore", ["restore": [:]]).status == 202)
        try waitUntil(service, "the restoration") {
            try operation(service)["waits_for_transfer"] == true
        }
        #expect(try operation(service, of: running)["waits_for_transfer"] == false)
        #expect(service.processes("transfer") == [holder])
        // What users read waits for nobody.
        let served = try service.api("POST", "/backups/\(whole)/action", ["clinker:serve": ["seconds": 60]])
        #expect(served.status == 200, "\(served.text)")
        #expect(try service.api("POST", "/backups/\(whole)/action", ["clinker:unserve": .null]).status == 202)
        let id = try #require(try operation(service, of: others[0])["id"]?.string)
        #expect(try service.api("POST", "/operations/\(id)/cancel").status == 202)
        try BackupTests.wait(service, others[0], "error")
        #expect(try operation(service, of: others[0])["waits_for_transfer"] == false)
        #expect(service.processes("transfer") == [holder])
        #expect(kill(holder, SIGCONT) == 0)
        var most = 0
        for other in [running] + others.dropFirst() {
            try waitUntil(service, "the end of all") {
                most = max(most, service.processes("transfer").count)
                return try service.api("GET", "/backups/\(other)").json["backup"]?["status"] == "available"
            }
        }
        #expect(most <= 1)
        let restored = try #require(try operation(service)["finished_at"]?.string)
        for other in others.dropFirst() {
            let made = try #require(try operation(service, of: other)["finished_at"]?.string)
            #expect(restored < made)
        }
        for backup in [whole, running] + others {
            #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
        }
        for backup in [whole, running] + others { try BackupTests.wait(service, backup, nil) }
    }
}
