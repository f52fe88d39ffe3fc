import JSON
import Primitives
import Testing

/// Volumes that are mirrored: as far as one cluster shows it, their images are journaled, enabled and primary.
@Suite("Mirroring of rbd", .serialized)
struct MirroringTests {
    private func ceph(_ command: String...) async throws -> String {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let result = try await ServiceUnderTest.run("/usr/bin/timeout", ["60", command[0], "-c", conf] + command.dropFirst())
        #expect(result.status == 0, "\(command): \(result.output)")
        return result.output
    }

    private func mirroring(_ id: String) async throws -> JSON? {
        try JSON(parsing: try await ceph("rbd", "-p", "volumes", "info", "--format", "json", "volume-\(id)"))["mirroring"]
    }

    @Test("types that ask for it have their volumes mirrored, however they are made; others do not")
    func types() async throws {
        _ = try await ceph("rbd", "mirror", "pool", "enable", "volumes", "image")
        let service = try ServiceUnderTest(
            backends: "rbd,other",
            sections:
                "[rbd]\n\(try StorageUnderTest.rbdSection("replication_device = backend_id:south,conf:/etc/ceph/south.conf,user:cinder"))\n"
                + "[other]\nvolume_driver = file\n")
        _ = try MoveTests.type(service, "mirrored", ["replication_enabled": "<is> True"])
        _ = try MoveTests.type(service, "plain", ["volume_backend_name": "rbd"])
        _ = try MoveTests.type(service, "elsewhere", ["volume_backend_name": "other"])
        let first = try service.create(["volume_type": "mirrored"])
        try service.wait(first, "available")
        let snapshot = try SnapshotTests.snapshot(service, of: first)
        try SnapshotTests.wait(service, snapshot, "available")
        let restored = try service.create(["snapshot_id": .string(snapshot)])
        let clone = try service.create(["source_volid": .string(first)])
        let plain = try service.create(["volume_type": "plain"])
        for id in [restored, clone, plain] { try service.wait(id, "available", seconds: 60) }
        for id in [first, restored, clone] {
            let volume = try service.volume(id)
            #expect(volume?["replication_status"] == "enabled" && volume?["os-vol-host-attr:host"] == "node@rbd#rbd")
            let found = try await mirroring(id)
            #expect(
                found?["state"] == "enabled" && found?["mode"] == "journal" && found?["primary"] == true, "\(String(describing: found))")
        }
        #expect(try service.volume(plain)?["replication_status"] == .null)
        #expect(try await mirroring(plain) == nil)

        // What is mirrored stays; what moves to such a type is mirrored there.
        #expect(try MoveTests.action(service, clone, "os-migrate_volume", ["host": "node@other#other"]).status == 400)
        #expect(
            try MoveTests.action(service, clone, "os-retype", ["new_type": "elsewhere", "migration_policy": "on-demand"]).status == 202)
        try service.wait(clone, "available")
        #expect(try service.volume(clone)?["volume_type"] == "mirrored")
        let comer = try service.create(["volume_type": "elsewhere"])
        try service.wait(comer, "available")
        #expect(try MoveTests.action(service, comer, "os-retype", ["new_type": "mirrored", "migration_policy": "on-demand"]).status == 202)
        try service.wait(comer, "available", seconds: 60)
        #expect(try service.volume(comer)?["replication_status"] == "enabled")
        #expect(try await mirroring(comer)?["state"] == "enabled")

        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
        for id in [first, restored, clone, plain, comer] {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil, seconds: 60)
        }
        let left = try await ceph("rbd", "-p", "volumes", "ls")
        #expect(![first, restored, clone, plain, comer].contains { left.contains($0) }, "\(left)\n\(service.story)")
        try await DoctorTests.expectNothing(service)
    }

    @Test("a replication that cannot work is a backend that is down and says why; a type that wants one finds no backend without it")
    func configuration() async throws {
        let section = try StorageUnderTest.rbdSection("replication_device = conf:/etc/ceph/south.conf")
        let result = try await ServiceUnderTest.run(
            ServiceUnderTest.binary,
            ["driver", "check"] + StorageUnderTest.arguments(section) + ["--case", "create: the same again succeeds", "--timeout", "60"])
        #expect(result.output.contains("CLINKER_BAD_CONFIGURATION: replication_device must name a backend_id"), "\(result.output)")
        let service = try ServiceUnderTest(backends: "rbd", sections: "[rbd]\n\(try StorageUnderTest.rbdSection())\n")
        _ = try MoveTests.type(service, "mirrored", ["replication_enabled": "<is> True"])
        let id = try service.create(["volume_type": "mirrored"])
        try service.wait(id, "error")
    }
}
