import JSON
import Testing

extension BackupTests {
    /// Restores a backup to a new volume, which must be like the other.
    func expectRestorable(_ service: ServiceUnderTest, _ backup: String, like original: String) async throws {
        let restored = try service.create(["backup_id": .string(backup)])
        try service.wait(restored, "available", seconds: 60)
        try await expectSame(service, restored, original, "of \(backup)")
    }

    /// What holds in any store: a full backup and an increment, restored byte for byte, and deleted.
    func chain(format: String, store: String) async throws {
        let service = try service(format: format, store: store)
        let id = try volume(service, seed: 1)
        let full = try Self.backup(service, of: id)
        try Self.wait(service, full, "available")
        try fill(service, id, seed: 2, at: [5 << 20, 700 << 20])
        let increment = try Self.backup(service, of: id, ["incremental": true])
        #expect(try Self.wait(service, increment, "available")?["is_incremental"] == true)
        try await expectRestorable(service, increment, like: id)
        for backup in [increment, full] {
            #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
            try Self.wait(service, backup, nil)
        }
        try await DoctorTests.expectNothing(service)
    }
}
