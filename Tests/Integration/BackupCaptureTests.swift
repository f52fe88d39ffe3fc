import Glibc
import JSON
import Primitives
import Testing

extension CaptureTests {
    /// Deliberate differences, each a row of api-ref/differences.md.
    private static let differingBackups: [String: @Sendable (ServiceUnderTest.Answer) -> Bool] = [
        // The state that was set is the state at once: Cinder's backup service hears of it later, and was asked before it did.
        "460_backup_restore_wrong_state": { $0.status == 400 && $0.message?.contains("Backup status must be available") == true }
    ]

    /// What happens in a captured sequence before an exchange, and is none of its exchanges.
    private func prepare(_ name: String, _ service: ServiceUnderTest, _ id: (String) throws -> String) throws {
        let (first, increment) = ("08f9ebbe-e4e0-4fae-ac59-aedb8e66c738", "1a2714b4-0e71-4292-8896-3e469a043267")
        switch name {
        case "309_overquota_backups_413":
            let project = String(repeating: "f", count: 32)
            let answer = try service.api("PUT", "/os-quota-sets/\(project)", ["quota_set": ["backups": 0]])
            #expect(answer.status == 200, "\(answer.text)")
        case "445_backup_show": try BackupTests.wait(service, id(first), "available")
        case "452_backup_incremental_show": try BackupTests.wait(service, id(increment), "available")
        case "458_backup_restore_bad_vol":
            try service.wait(id("6bb0e7d8-9cc4-43e0-8281-1d88eb88bf50"), "available", seconds: 60)
            try BackupTests.wait(service, id(first), "available")
        case "461_backup_delete":
            #expect(try service.api("DELETE", "/backups/\(id(increment))").status == 202)
            try BackupTests.wait(service, id(increment), nil)
        case "462_backup_show_deleted": try BackupTests.wait(service, id(first), nil)
        default: break
        }
    }

    /// The new volume of a restoration, in Cinder's answer and in ours.
    private func volumes(_ theirs: JSON, _ ours: JSON) -> (String, String)? {
        guard let a = theirs["restore"]?["volume_id"]?.string, let b = ours["restore"]?["volume_id"]?.string else { return nil }
        return (a, b)
    }

    @Test("backups are made, shown, changed, restored, exported, reset and removed as in a captured sequence, and refused as there")
    func backups() throws {
        let service = try BackupTests().service()
        var known: [(theirs: String, ours: String)] = []
        // The volume that is backed up, one without a backup, and another project's.
        for captured in ["f1a961f4-5f06-43f9-821d-804616e12017", "2c1f059d-73a7-4ca1-b78f-39bca3161dc7"] {
            let volume = try service.create()
            try service.wait(volume, "available")
            known.append((captured, volume))
        }
        let project = String(repeating: "f", count: 32)
        let made = try service.request("POST", "/v3/\(project)/volumes", body: "{\"volume\": {\"size\": 1}}")
        let other = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        let limit = Timestamp.monotonic() + 20
        while try service.request("GET", "/v3/\(project)/volumes/\(other)").json["volume"]?["status"] != "available",
            Timestamp.monotonic() < limit
        { usleep(10_000) }
        known.append(("7f2bb5cb-bf43-48cf-bba8-b55a353db639", other))
        func id(_ captured: String) throws -> String { try #require(known.last { $0.theirs == captured }?.ours, "\(captured)") }

        var count = 0
        for line in try ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/backups.jsonl").split(separator: "\n") {
            let capture = try JSON(parsing: String(line))
            let name = capture["case"]?.string ?? "?"
            func filled(_ text: String?) -> String { known.reduce(text ?? "") { $0.replacing($1.theirs, with: $1.ours) } }
            try prepare(name, service, id)
            let body = filled(capture["body"]?.string)
            let answer = try service.request(
                capture["method"]?.string ?? "", filled(capture["path"]?.string), version: capture["version"]?.string,
                headers: [("Content-Type", "application/json")], body: body.isEmpty ? nil : body)
            count += 1
            if let differs = Self.differingBackups[name] {
                #expect(differs(answer), "\(name): \(answer.status) \(answer.text)")
                continue
            }
            let expected = capture["response"] ?? .null
            #expect(answer.status == Int(capture["status"]?.integer ?? 0), "\(name): \(answer.text)")
            if answer.status < 400 {
                // What came with the volume that was backed up.
                let found = differences(answer.json, expected, at: "", free: [".volume.metadata"])
                #expect(found.isEmpty, "\(name): \(found)")
                learn(expected, answer.json, "", into: &known)
                if let (theirs, ours) = volumes(expected, answer.json) { known.append((theirs, ours)) }
            } else {
                #expect(answer.json.object?.names.first == expected.object?.names.first, "\(name): \(answer.text)")
                #expect(answer.message == filled(expected.object?.members.first?.value["message"]?.string), "\(name)")
            }
        }
        #expect(count == 27)
        #expect(try service.usage("backups") == 0)
    }
}
