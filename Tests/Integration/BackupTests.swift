import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Backups in a store of files, over real processes: what comes back is what was there.
@Suite("Backups", .serialized)
struct BackupTests {
    static let options = "backup_driver = posix"

    func service(format: String = "cinder", file options: String = "", store: String = Self.options) throws -> ServiceUnderTest {
        let service = try ServiceUnderTest(
            options: store + "\nbackup_format = \(format)", sections: "[file]\nvolume_driver = file\n\(options)\n")
        let limit = Timestamp.monotonic() + 20
        while !(try service.api("GET", "/os-services?binary=cinder-backup").text.contains("\"up\"")) {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("no backup service: \(service.story)") }
            usleep(10_000)
        }
        return service
    }

    static func backup(_ service: ServiceUnderTest, of volume: String, _ fields: JSONObject = [:]) throws -> String {
        var body = fields
        body["volume_id"] = .string(volume)
        let answer = try service.api("POST", "/backups", ["backup": .object(body)])
        guard answer.status == 202, let id = answer.json["backup"]?["id"]?.string else {
            throw ServiceUnderTest.Failure("backup: \(answer.status) \(answer.text)")
        }
        return id
    }

    /// `seconds`: transfers have a low priority, and get a fortieth of a core on a machine that builds.
    @discardableResult
    static func wait(_ service: ServiceUnderTest, _ id: String, _ status: String?, seconds: Double = 240) throws -> JSON? {
        let limit = Timestamp.monotonic() + seconds
        var seen: JSON?
        while Timestamp.monotonic() < limit {
            if let answer = try? service.api("GET", "/backups/\(id)") {
                seen = answer.status == 200 ? answer.json["backup"] : nil
                if seen?["status"]?.string == status { return seen }
            }
            usleep(10_000)
        }
        throw ServiceUnderTest.Failure("backup \(id) is \(seen?.text ?? "gone"), not \(status ?? "gone")\n\(service.story)")
    }

    /// A volume with bytes of a seed here and there, and holes between.
    func volume(_ service: ServiceUnderTest, seed: UInt64) throws -> String {
        let id = try service.create(["name": "v", "metadata": ["kept": "with it"]])
        try service.wait(id, "available")
        try fill(service, id, seed: seed, at: [0, 5 << 20, 300 << 20, (1 << 30) - 65_536])
        return id
    }

    func path(_ service: ServiceUnderTest, _ id: String) -> String { service.state + "/volumes/file/volume-" + id }

    func fill(_ service: ServiceUnderTest, _ id: String, seed: UInt64, at offsets: [Int]) throws {
        let file = open(path(service, id), O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { throw SystemError.last("cannot open the volume") }
        defer { close(file) }
        var state = seed
        for offset in offsets {
            let bytes = (0..<65_536).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            guard pwrite(file, bytes, bytes.count, off_t(offset)) == bytes.count else { throw SystemError.last("cannot write the volume") }
        }
    }

    func expectSame(_ service: ServiceUnderTest, _ a: String, _ b: String, _ comment: Comment) async throws {
        #expect(try FileContent.difference(path(service, a), path(service, b)) == nil, comment)
    }

    /// Restores a backup to a new volume, which must be like the other.
    func expectRestorable(_ service: ServiceUnderTest, _ backup: String, like original: String) async throws {
        let restored = try service.create(["backup_id": .string(backup)])
        try service.wait(restored, "available", seconds: 60)
        try await expectSame(service, restored, original, "of \(backup)")
    }

    @Test(
        "a full backup, an increment of what changed, and each restored to a new volume, byte for byte",
        arguments: ["cinder", "repository"])
    func chain(format: String) async throws {
        let service = try service(format: format)
        let id = try volume(service, seed: 1)
        let before = try service.create(["source_volid": .string(id)])
        try service.wait(before, "available")
        let full = try Self.backup(service, of: id, ["name": "full"])
        let made = try Self.wait(service, full, "available")
        #expect(made?["availability_zone"] == "nova")
        #expect((made?["object_count"]?.integer ?? 0) > 0)
        try fill(service, id, seed: 2, at: [5 << 20, 700 << 20])
        let increment = try Self.backup(service, of: id, ["incremental": true])
        #expect(try Self.wait(service, increment, "available")?["is_incremental"] == true)
        // In a repository no backup rests on another.
        let isChained = format == "cinder"
        #expect(try service.api("GET", "/backups/\(full)").json["backup"]?["has_dependent_backups"] == .bool(isChained))
        for (backup, original) in [(full, before), (increment, id)] {
            let answer = try service.api("POST", "/backups/\(backup)/restore", ["restore": [:]])
            #expect(answer.status == 202, "\(answer.text)")
            let restored = try #require(answer.json["restore"]?["volume_id"]?.string)
            let volume = try service.wait(restored, "available", seconds: 60)
            // Names and metadata come back.
            #expect(volume?["name"] == "v" && volume?["metadata"]?["kept"] == "with it")
            #expect(volume?["metadata"]?["src_backup_id"] == .string(backup))
            try await expectSame(service, restored, original, "of \(backup)")
            try Self.wait(service, backup, "available")
        }
        if isChained { #expect(try service.api("DELETE", "/backups/\(full)").status == 400) }
        for backup in isChained ? [increment, full] : [full, increment] {
            if !isChained, backup == increment {
                // Without the one that it was compared with.
                #expect(try service.api("GET", "/backups/\(increment)").json["backup"]?["is_incremental"] == true)
                let answer = try service.api("POST", "/backups/\(increment)/restore", ["restore": [:]])
                let restored = try #require(answer.json["restore"]?["volume_id"]?.string)
                try service.wait(restored, "available", seconds: 60)
                try await expectSame(service, restored, id, "of \(increment) alone")
                try Self.wait(service, increment, "available")
            }
            #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
            try Self.wait(service, backup, nil)
        }
        if format == "cinder" {
            let left = try await ServiceUnderTest.run("/usr/bin/find", [service.state + "/backups", "-type", "f", "-name", "volume_*"])
            #expect(left.output.isEmpty, "left in the store: \(left.output)")
        }
        #expect(try service.usage("backups") == 0 && service.usage("backup_gigabytes") == 0)
        try await DoctorTests.expectNothing(service)
    }

    /// A server of objects as Cinder's driver is told of it.
    private func asCinders(_ kind: String) throws -> JSON {
        let url =
            kind == "s3"
            ? "http://127.0.0.1:\(try StorageUnderTest.moto.get().port)"
            : "http://127.0.0.1:\(try StorageUnderTest.swift.get().port)/auth/v1.0"
        return ["kind": .string(kind), "url": .string(url), "user": "test:tester", "key": "testing", "bucket": "chain"]
    }

    @Test(
        "in a bucket, too: full and increment, restored by Cinder's own driver, and deleted",
        arguments: ["s3", "swift"])
    func buckets(kind: String) async throws {
        let section =
            try kind == "s3" ? StorageUnderTest.s3Section(bucket: "chain") : StorageUnderTest.swiftSection(container: "chain")
        let service = try service(store: section)
        let id = try volume(service, seed: 11)
        let full = try Self.backup(service, of: id)
        #expect(try Self.wait(service, full, "available")?["container"] == "chain")
        try fill(service, id, seed: 12, at: [5 << 20, 700 << 20])
        let increment = try Self.backup(service, of: id, ["incremental": true])
        try Self.wait(service, increment, "available")
        let records = try [full, increment].map { backup in
            try #require(try service.api("GET", "/backups/\(backup)/export_record").json["backup-record"]?["backup_url"])
        }
        // Cinder's driver reads the full one, too, for the increment.
        let image = service.state + "/image"
        let file = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        #expect(ftruncate(file, 1 << 30) == 0)
        close(file)
        let said = try JSON(
            parsing: Judge.shared.get().ask(
                JSON.object([
                    "do": "restore_records", "store": try asCinders(kind), "urls": .array(records), "image": .string(image),
                ]).text))
        #expect(said["error"] == nil, "\(said.text)")
        #expect(try FileContent.difference(image, path(service, id)) == nil, "by Cinder")
        for backup in [increment, full] {
            #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
            try Self.wait(service, backup, nil)
        }
        let left = try JSON(
            parsing: Judge.shared.get().ask(
                JSON.object(["do": "entries", "store": try asCinders(kind), "prefix": .string("volume_\(id)")]).text))
        #expect(left["names"] == [], "\(left.text)")
        for secret in ["testing", "X-Auth", "AWS4"] { #expect(!service.log.contains(secret), "\(secret) is in the log") }
        try await DoctorTests.expectNothing(service)
    }

    @Test("a backup over an existing volume replaces its content; a volume is made of a backup")
    func over() async throws {
        let service = try service()
        let (id, other) = (try volume(service, seed: 3), try volume(service, seed: 4))
        let backup = try Self.backup(service, of: id)
        try Self.wait(service, backup, "available")
        let answer = try service.api("POST", "/backups/\(backup)/restore", ["restore": ["volume_id": .string(other)]])
        #expect(answer.status == 202, "\(answer.text)")
        try Self.wait(service, backup, "available")
        try service.wait(other, "available", seconds: 60)
        try await expectSame(service, id, other, "over another")
        let made = try service.create(["backup_id": .string(backup), "size": 2])
        #expect(try service.wait(made, "available", seconds: 60)?["size"] == 2)
        #expect(try FileContent.difference(path(service, id), path(service, made), length: 1 << 30) == nil)
        try await DoctorTests.expectNothing(service)
    }

    @Test("a backup of a snapshot; and, if that is forced, of an attached volume, which stays attached meanwhile")
    func sources() async throws {
        let service = try service()
        let id = try volume(service, seed: 5)
        let copy = try service.create(["source_volid": .string(id)])
        try service.wait(copy, "available")
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        try fill(service, id, seed: 6, at: [0])
        let backup = try Self.backup(service, of: id, ["snapshot_id": .string(snapshot)])
        #expect(try Self.wait(service, backup, "available")?["snapshot_id"] == .string(snapshot))
        try SnapshotTests.wait(service, snapshot, "available")
        let restored = try service.create(["backup_id": .string(backup)])
        try service.wait(restored, "available", seconds: 60)
        try await expectSame(service, restored, copy, "of the snapshot")
        let instance = "11111111-2222-4333-8444-555555555555"
        #expect(
            try MoveTests.action(service, id, "os-attach", ["instance_uuid": .string(instance), "mountpoint": "/dev/vdb"]).status == 202)
        #expect(try service.volume(id)?["status"] == "in-use")
        #expect(try service.api("POST", "/backups", ["backup": ["volume_id": .string(id)]]).status == 400)
        let forced = try Self.backup(service, of: id, ["force": true])
        #expect(try service.volume(id)?["status"] == "in-use")
        try Self.wait(service, forced, "available")
        #expect(try service.volume(id)?["status"] == "in-use")
        let second = try service.create(["backup_id": .string(forced)])
        try service.wait(second, "available", seconds: 60)
        try await expectSame(service, second, id, "of the attached volume")
        try await DoctorTests.expectNothing(service)
    }

    @Test("an object that was damaged is found before it is written, and the volume says that it is not whole")
    func damage() async throws {
        let service = try service()
        let id = try volume(service, seed: 7)
        let backup = try Self.backup(service, of: id)
        try Self.wait(service, backup, "available")
        let objects = try await ServiceUnderTest.run("/usr/bin/find", [service.state, "-name", "*-00001"])
        let object = try #require(objects.output.split(separator: "\n").first.map(String.init))
        let file = open(object, O_RDWR | O_CLOEXEC)
        var byte: UInt8 = 0
        #expect(pread(file, &byte, 1, 5_000) == 1)
        byte ^= 1
        #expect(pwrite(file, &byte, 1, 5_000) == 1)
        close(file)
        let target = try service.create()
        try service.wait(target, "available")
        #expect(
            try service.api("POST", "/backups/\(backup)/restore", ["restore": ["volume_id": .string(target)]]).status == 202)
        try service.wait(target, "error_restoring", seconds: 60)
        #expect(try Self.wait(service, backup, "available")?["fail_reason"]?.string?.contains("00001") == true)
        let messages = try service.api("GET", "/messages?resource_uuid=\(backup)")
        #expect(messages.text.contains("VOLUME_VOLUME_BACKUP_015_026"))
    }

    @Test("a death of the core while a backup is written: it is whole afterwards")
    func death() async throws {
        let service = try service(file: "volume_copy_bps_limit = 4000000")
        let id = try volume(service, seed: 8)
        try fill(service, id, seed: 9, at: Array(stride(from: 1 << 20, to: 40 << 20, by: 1 << 20)))
        let backup = try Self.backup(service, of: id)
        let limit = Timestamp.monotonic() + 20
        while service.processes("transfer").isEmpty, Timestamp.monotonic() < limit { usleep(5_000) }
        for core in service.processes("core") { kill(core, SIGKILL) }
        try service.waitUntilServing()
        try Self.wait(service, backup, "available")
        let restored = try service.create(["backup_id": .string(backup)])
        try service.wait(restored, "available", seconds: 60)
        try await expectSame(service, restored, id, "after a death")
        try await DoctorTests.expectNothing(service)
    }

    @Test("the real client makes, lists, shows, restores and deletes a backup")
    func client() async throws {
        let service = try service()
        let id = try volume(service, seed: 10)
        let python = ServiceUnderTest.root + "/.clients/bin/openstack"
        func openstack(_ arguments: String...) async throws -> String {
            let done = try await ServiceUnderTest.run(
                "/usr/bin/env",
                [
                    "OS_AUTH_TYPE=none", "OS_ENDPOINT=http://127.0.0.1:\(service.port)/v3/\(ServiceUnderTest.project)",
                    "OS_VOLUME_API_VERSION=3", python, "volume", "backup",
                ] + arguments)
            #expect(done.status == 0, "\(arguments): \(done.output)")
            return done.output
        }
        let made = try await openstack("create", "--name", "first", id, "-f", "value", "-c", "id")
        let backup = made.split(separator: "\n").last.map(String.init) ?? ""
        try Self.wait(service, backup, "available")
        #expect(try await openstack("list", "-f", "value").contains("first"))
        #expect(try await openstack("show", backup, "-f", "json").contains("\"available\""))
        let restored = try await openstack("restore", backup, "again", "-f", "json")
        let volume = try #require((try? JSON(parsing: restored))?["volume_id"]?.string)
        try service.wait(volume, "available", seconds: 60)
        try await expectSame(service, id, volume, "by the client")
        _ = try await openstack("delete", backup)
        try Self.wait(service, backup, nil)
    }
}
