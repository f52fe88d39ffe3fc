import Database
import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// `clinker doctor`: what it finds, what it mends, and what it leaves to a person.
@Suite("Doctor", .serialized)
struct DoctorTests {
    static func examine(_ service: ServiceUnderTest, repair: Bool = false) async throws -> (status: Int32, findings: [JSON]) {
        let (status, output) = try await ServiceUnderTest.run(
            ServiceUnderTest.binary,
            ["doctor", "--json", "--state-dir", service.state, "--config", service.configuration] + (repair ? ["--repair"] : []))
        guard let line = output.split(separator: "\n").first(where: { $0.hasPrefix("{\"doctor\"") }) else {
            throw ServiceUnderTest.Failure("no report: \(output)")
        }
        return (status, try JSON(parsing: String(line))["doctor"]?["findings"]?.array ?? [])
    }

    static func expectNothing(_ service: ServiceUnderTest, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let findings = try await examine(service).findings
        #expect(findings.isEmpty, "\(findings.map(\.text))\n\(service.story)", sourceLocation: sourceLocation)
    }

    private static func kinds(_ findings: [JSON]) -> [String: Set<String>] {
        findings.reduce(into: [:]) { $0[$1["kind"]?.string ?? "", default: []].insert($1["resource"]?.string ?? "") }
    }

    private func volumes(_ service: ServiceUnderTest, _ count: Int) throws -> [String] {
        let ids = try (0..<count).map { _ in try service.create() }
        for id in ids { try service.wait(id, "available") }
        return ids
    }

    @Test("every kind of disagreement is found, with and without the service, and what is safe is mended once")
    func everything() async throws {
        let service = try ServiceUnderTest(options: "quota_volumes = -1")
        let ids = try volumes(service, 7)
        let attachment = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(ids[6])]])
        let attachmentID = attachment.json["attachment"]?["id"]?.string ?? ""
        #expect(try await Self.examine(service).findings.isEmpty)
        #expect(service.stop() == 0)

        let database = try SQLiteDatabase(path: service.state + "/clinker.db")
        try await database.write { tx in
            try tx.run(text: "UPDATE quota_usages SET in_use = in_use + 3 WHERE resource = 'gigabytes'", [])
            try tx.run(text: "UPDATE pools SET allocated_gb = 0", [])
            try tx.run(text: "UPDATE volumes SET status = 'deleting' WHERE id = ?", [.text(ids[0])])
            try tx.run(text: "UPDATE volumes SET status = 'in-use', attach_status = 'attached' WHERE id = ?", [.text(ids[1])])
            try tx.run(text: "UPDATE attachments SET created_at = '2020-01-01T00:00:00.000000', expires_at = NULL", [])
            let operation =
                "INSERT INTO operations (id, flow, version, state, step_name, reverting, attempts, resource_type, resource_id, project_id, user_id, request_id, arguments, step_state, created_at, updated_at) VALUES (?, ?, 1, ?, NULL, 0, 0, 'volume', ?, 'p', 'u', 'r', '{\"new_size\": 2}', '{}', '2026-01-01T00:00:00.000000', '2026-01-01T00:00:00.000000')"
            try tx.run(text: operation, [.text("from-the-future"), .text("volume.teleport"), .text("running"), .text(ids[5])])
            try tx.run(text: operation, [.text("nobody-rang"), .text("volume.delete"), .text("waiting"), .text("gone")])
        }
        database.close()
        let files = service.state + "/volumes/file/"
        let orphan = "volume-" + UUID.random()
        unlink(files + "volume-" + ids[2])
        truncate(files + "volume-" + ids[3], 4096)
        truncate(files + "volume-" + ids[4], 2 << 30)
        for name in [orphan, "somebody-elses"] { try ServiceUnderTest.write(files + name, "data") }

        let expected: [String: Set<String>] = [
            "quota": [ServiceUnderTest.project], "pool": ["node@file#files"], "stranded": [ids[0]], "attach-state": [ids[1]],
            "missing-storage": [ids[2]], "size": [ids[3], ids[4]], "orphan-storage": [orphan],
            "operation": ["from-the-future", "nobody-rang"],
            "reservation": [attachmentID],
        ]
        let alone = try await Self.examine(service)
        #expect(alone.status == 1 && Self.kinds(alone.findings) == expected, "\(alone.findings)")
        #expect(alone.findings.allSatisfy { $0["outcome"] == .null })

        try service.start()
        let online = try await Self.examine(service)
        #expect(Self.kinds(online.findings) == expected)
        let repaired = try await Self.examine(service, repair: true)
        let left: [String: Set<String>] = [
            "missing-storage": [ids[2]], "size": [ids[4]], "orphan-storage": [orphan], "operation": ["from-the-future"],
            "reservation": [attachmentID],
        ]
        #expect(repaired.status == 1)
        #expect(Self.kinds(repaired.findings.filter { $0["outcome"] == .null }) == left)
        try service.wait(ids[3], "available")
        try service.wait(ids[0], "error_deleting")
        try service.wait(ids[1], "available")
        var info = stat()
        #expect(stat(files + "volume-" + ids[3], &info) == 0 && info.st_size == 1 << 30)
        #expect(try service.usage("gigabytes") == 7)
        let after = try await Self.examine(service)
        #expect(Self.kinds(after.findings) == left, "\(after.findings)")
        #expect(access(files + orphan, F_OK) == 0 && access(files + "somebody-elses", F_OK) == 0, "data was removed")
        #expect(service.log.contains("repaired: "))
    }

    @Test("a report for people says what is wrong, what to do, and ends with a count")
    func text() async throws {
        let service = try ServiceUnderTest()
        let id = try volumes(service, 1)[0]
        unlink(service.state + "/volumes/file/volume-" + id)
        let (status, output) = try await ServiceUnderTest.run(
            ServiceUnderTest.binary, ["doctor", "--state-dir", service.state, "--config", service.configuration])
        #expect(status == 1)
        #expect(output.contains("missing-storage: Volume \(id) is available, but node@file has no volume-\(id)."))
        #expect(output.contains("1 found, 0 repaired, 1 left"))
    }

    @Test("beside a busy service nothing is found that is only on its way")
    func busy() async throws {
        let service = try ServiceUnderTest(
            options: "quota_volumes = -1\nquota_gigabytes = -1",
            sections: "[file]\nvolume_driver = file\nmax_over_subscription_ratio = 1000000\n")
        let end = Timestamp.monotonic() + 4
        let finished = Semaphore()
        for index in 0..<4 {
            startThread("client-\(index)") {
                while Timestamp.monotonic() < end {
                    guard let id = try? service.create() else { continue }
                    _ = try? service.wait(id, "available")
                    _ = try? service.api("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 2]])
                    _ = try? service.wait(id, "available")
                    _ = try? service.api("DELETE", "/volumes/\(id)")
                }
                finished.post()
            }
        }
        var examinations = 0
        while Timestamp.monotonic() < end {
            let found = try await Self.examine(service, repair: examinations % 2 == 0)
            #expect(found.findings.isEmpty && found.status == 0, "\(found.findings)")
            examinations += 1
        }
        for _ in 0..<4 { finished.wait() }
        #expect(examinations > 2)
    }

    @Test("a backend that is down is said so, and its volumes are not called missing")
    func down() async throws {
        let fault = try FaultyBackend()
        let service = try fault.service()
        try service.wait(try service.create(), "available")
        try fault.set("list_volumes 1 1\n")
        let found = try await Self.examine(service)
        #expect(Self.kinds(found.findings) == ["backend": ["node@fault"]])
    }

    @Test("a reservation that names no instance is taken back after its time; an instance's stands")
    func reaper() throws {
        let service = try ServiceUnderTest(options: "attachment_reservation_timeout = 1\nreport_interval = 1")
        let ids = try volumes(service, 2)
        let forgotten = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(ids[0])]])
        let held = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(ids[1]), "instance_uuid": .string(UUID.random())]])
        #expect(forgotten.status == 200 && held.status == 200)
        #expect(try service.volume(ids[0])?["status"] == "reserved")
        try service.wait(ids[0], "available")
        let left = try service.api("GET", "/attachments").json["attachments"]?.array?.compactMap { $0["id"]?.string }
        #expect(left == [held.json["attachment"]?["id"]?.string ?? ""])
        #expect(try service.volume(ids[1])?["status"] == "reserved")
        // It is said when it is done.
        for _ in 0..<100 where !service.log.contains("reservations were taken back") { usleep(50_000) }
        #expect(service.log.contains("reservations were taken back"))
    }
}
