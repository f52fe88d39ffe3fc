import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Backups in a pool of a real Ceph cluster: images as Cinder's driver makes them, and objects.
@Suite("Backups in Ceph", .serialized)
struct BackupRBDTests {
    private static func run(_ command: String) async throws -> String {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        let result = try await ServiceUnderTest.run(
            "/usr/bin/timeout",
            [
                "100", "/bin/bash", "-c",
                "export CEPH_CONF=\(conf) HASH=\(ServiceUnderTest.root)/Tests/Storage/rbd-hash; set -o pipefail; \(command)",
            ])
        guard result.status == 0 else { throw ServiceUnderTest.Failure("\(command): \(result.output)") }
        return result.output
    }

    private static func lines(_ command: String) async throws -> [String] {
        try await run(command).split(separator: "\n").map(String.init)
    }

    /// A service with volumes in Ceph, and its backups there too.
    private struct Scene {
        let service: ServiceUnderTest

        init(_ more: String = "") throws {
            service = try ServiceUnderTest(
                options: StorageUnderTest.cephStore(), backends: "rbd", sections: "[rbd]\n\(StorageUnderTest.rbdSection(more))\n")
            try ChangedBackupTests.waitForStore(service)
        }

        func volume(_ fields: JSONObject = ["size": 1]) throws -> String {
            let id = try service.create(fields)
            try service.wait(id, "available", seconds: 60)
            return id
        }

        func write(_ id: String, mebibytes: Int, at offset: Int = 0) async throws {
            _ = try await BackupRBDTests.run(
                "head -c \(mebibytes)M /dev/urandom > /dev/shm/bytes.$$; "
                    + "qemu-io -f raw -c 'write -s /dev/shm/bytes.'$$' \(offset)M \(mebibytes)M' rbd:volumes/volume-\(id):id=cinder:conf=$CEPH_CONF; "
                    + "rm /dev/shm/bytes.$$")
        }

        func hash(_ id: String) async throws -> String {
            try await BackupRBDTests.run("$HASH volumes/volume-\(id)")
        }

        func backup(_ id: String, _ fields: JSONObject = [:]) throws -> String {
            let backup = try BackupTests.backup(service, of: id, fields)
            try BackupTests.wait(service, backup, "available")
            return backup
        }

        func expectRestored(_ backup: String, _ hash: String, _ comment: Comment, size: Int = 1) async throws {
            let restored = try volume(["backup_id": .string(backup), "size": JSON(size)])
            #expect(try await self.hash(restored) == hash, comment)
            try remove(restored)
        }

        /// Other services that share the cluster would find what stays.
        func remove(_ volumes: String...) throws {
            for volume in volumes { #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202) }
            for volume in volumes { try service.wait(volume, nil, seconds: 60) }
        }

        func delete(_ backup: String) throws {
            let answer = try service.api("DELETE", "/backups/\(backup)")
            #expect(answer.status == 202, "\(answer.text)")
            try BackupTests.wait(service, backup, nil)
        }

        func waitForSnapshots(_ expected: [String], of id: String) async throws {
            let limit = Timestamp.monotonic() + 20
            while try await snapshots("volumes/volume-\(id)") != expected, Timestamp.monotonic() < limit { usleep(50_000) }
            #expect(try await snapshots("volumes/volume-\(id)") == expected)
        }

        func snapshots(_ image: String) async throws -> [String] {
            try JSON(parsing: try await BackupRBDTests.run("rbd snap ls --format json \(image)")).array?.compactMap { $0["name"]?.string }
                ?? []
        }
    }

    static func expectNothingLeft() async throws {
        #expect(try await lines("rbd -p backups ls") == [])
        #expect(try await lines("rados -p backups ls | grep -F .meta || true") == [])
    }

    @Test("volumes of Ceph: a chain over a grown volume, restored to new and used ones; snapshots have one name on both sides")
    func chain() async throws {
        let scene = try Scene()
        let (service, id) = (scene.service, try scene.volume())
        try await scene.write(id, mebibytes: 8, at: 3)
        let full = try scene.backup(id)
        var states = [(full, try await scene.hash(id), 1)]
        let made = try service.api("GET", "/backups/\(full)").json["backup"]
        #expect(made?["container"] == "backups" && made?["object_count"] == 1)
        let image = "backups/volume-\(id).backup.\(full)"
        let first = try #require(try await scene.snapshots(image).first)
        #expect(first.hasPrefix("backup.\(full).snap.1"))
        try await scene.waitForSnapshots([first], of: id)
        try await scene.write(id, mebibytes: 2, at: 500)
        let increment = try scene.backup(id, ["incremental": true])
        #expect(try ChangedBackupTests.bytesRead(service, for: increment) <= 9 << 20)
        states.append((increment, try await scene.hash(id), 1))
        #expect(try service.api("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 2]]).status == 202)
        try service.wait(id, "available", seconds: 60)
        try await scene.write(id, mebibytes: 2, at: 2046)
        let grown = try scene.backup(id, ["incremental": true])
        states.append((grown, try await scene.hash(id), 2))
        let names = try await scene.snapshots(image)
        #expect(names.count == 3 && names[2].hasPrefix("backup.\(grown).snap."))
        try await scene.waitForSnapshots([names[2]], of: id)
        for (backup, hash, size) in states { try await scene.expectRestored(backup, hash, "\(backup)", size: size) }
        // Over one that holds something else, and is larger than the backup.
        let other = try scene.volume(["size": 2])
        try await scene.write(other, mebibytes: 4, at: 0)
        try await scene.write(other, mebibytes: 4, at: 1500)
        let answer = try service.api("POST", "/backups/\(increment)/restore", ["restore": ["volume_id": .string(other)]])
        #expect(answer.status == 202, "\(answer.text)")
        try service.wait(other, "available", seconds: 60)
        // The first GiB is the backup, whose image has grown since, and the rest is zeroes.
        let sums = try await Self.lines(
            "for i in \(image)@\(names[1]) volumes/volume-\(other); do $HASH $i 1073741824; done"
        )
        #expect(sums.count == 2 && sums[0] == sums[1])
        let rest = try await Self.run("rbd export --no-progress volumes/volume-\(other) - | tail -c 1G | tr -d '\\0' | wc -c")
        #expect(rest == "0\n")
        try await DoctorTests.expectNothing(service)
        #expect(try service.api("DELETE", "/backups/\(full)").status == 400)
        for backup in [grown, increment, full] {
            try scene.delete(backup)
            #expect(try await scene.snapshots("volumes/volume-\(id)") == [], "its snapshot goes with the newest")
        }
        try await Self.expectNothingLeft()
        try scene.remove(id, other)
    }

    @Test("kill -9 in the middle of a full backup and of an increment: both are whole afterwards, and nothing is left")
    func death() async throws {
        let scene = try Scene("volume_copy_bps_limit = 8000000")
        let (service, id) = (scene.service, try scene.volume())
        var made: [String] = []
        for process in ["transfer", "core"] {
            try await scene.write(id, mebibytes: 16, at: made.count * 100)
            let backup = try BackupTests.backup(service, of: id, made.isEmpty ? [:] : ["incremental": true])
            let limit = Timestamp.monotonic() + 20
            while service.processes("transfer").isEmpty, Timestamp.monotonic() < limit { usleep(5_000) }
            // Some of it is written.
            usleep(1_000_000)
            for victim in service.processes(process) { kill(victim, SIGKILL) }
            try service.waitUntilServing()
            try BackupTests.wait(service, backup, "available", seconds: 120)
            try await scene.expectRestored(backup, scene.hash(id), "after the death of \(process)")
            made.append(backup)
        }
        try await DoctorTests.expectNothing(service)
        for backup in made.reversed() { try scene.delete(backup) }
        try await Self.expectNothingLeft()
        try scene.remove(id)
    }

    @Test("an increment whose parent's snapshot is gone is refused with its name; a backup in another pool is, too")
    func refusals() async throws {
        let scene = try Scene()
        let (service, id) = (scene.service, try scene.volume())
        let full = try scene.backup(id)
        let image = "backups/volume-\(id).backup.\(full)"
        let snapshot = try #require(try await scene.snapshots(image).first)
        _ = try await Self.run("rbd snap rename \(image)@\(snapshot) \(image)@hidden")
        let orphan = try BackupTests.backup(service, of: id, ["incremental": true])
        let failed = try BackupTests.wait(service, orphan, "error")
        #expect(failed?["fail_reason"]?.string?.contains("no snapshot of backup \(full)") == true, "\(failed?.text ?? "")")
        _ = try await Self.run("rbd snap rename \(image)@hidden \(image)@\(snapshot)")
        try scene.delete(orphan)
        let elsewhere = try BackupTests.backup(service, of: id, ["container": "volumes"])
        #expect(try BackupTests.wait(service, elsewhere, "error")?["fail_reason"]?.string?.contains("container must be backups") == true)
        try scene.delete(elsewhere)
        try await scene.expectRestored(full, scene.hash(id), "the full one")
        try scene.delete(full)
        try await Self.expectNothingLeft()
        try scene.remove(id)
    }

    @Test(
        "options that cannot work say which one is wrong, and why",
        arguments: [
            ("backup_ceph_conf = /none", "backup_ceph_conf: /none cannot be read"),
            ("backup_ceph_pool = nowhere", "backup_ceph_pool: the pool nowhere cannot be opened"),
            ("backup_ceph_user = nobody", "client.nobody cannot connect"),
        ])
    func options(option: String, words: String) async throws {
        let result = try await ServiceUnderTest.run(
            ServiceUnderTest.binary,
            ["driver", "check"] + StorageUnderTest.arguments(try StorageUnderTest.cephStore(option))
                + ["--kind", "store", "--case", "instance: it opens"])
        #expect(result.status == 1 && result.output.contains("CLINKER_BAD_CONFIGURATION: " + words), "\(result.output)")
    }
}

extension BackupRBDTests {
    /// What Cinder's own driver does on the same cluster.
    private func ask(_ call: JSONObject) throws -> JSON {
        var call = call
        call["conf"] = .string(try StorageUnderTest.ceph.get().directory + "/ceph.conf")
        let answer = try JSON(parsing: try Judge.images.get().ask(JSON.object(call).text))
        try #require(answer["error"] == nil, "\(answer.text)")
        return answer
    }

    /// A backup as Cinder's row has it.
    private func told(_ service: ServiceUnderTest, _ id: String, of volume: String, parent: String? = nil) throws -> JSON {
        let url = try service.api("GET", "/backups/\(id)/export_record").json["backup-record"]?["backup_url"]?.string
        let text = String(decoding: try #require(url.flatMap { Base64.decode($0) }), as: UTF8.self)
        let record = try JSON(parsing: text)
        #expect(record["service"] == "cinder.backup.drivers.ceph.CephBackupDriver" && record["container"] == "backups")
        return [
            "id": .string(id), "volume_id": .string(volume), "parent_id": JSON(parent), "size": record["size"] ?? 1,
            "service_metadata": record["service_metadata"] ?? .null,
        ]
    }

    private func cinderRestores(_ backup: JSON, _ hash: String, _ comment: Comment) async throws {
        for isNew in [true, false] {
            let image = "volume-\(UUID.random())"
            if !isNew {
                _ = try await Self.run(
                    "rbd -p volumes create --size 1G \(image); rbd -p volumes bench --io-type write --io-total 8M \(image)")
            }
            let said = try ask(["do": "restore", "image": .string(image), "size": 1, "is_new": .bool(isNew), "backup": backup])
            #expect(said["volume_meta"]?.array?.first?.string?.contains("\"kept\"") == true, "\(said.text)")
            #expect(try await Self.run("$HASH volumes/\(image)") == hash, "\(comment), new: \(isNew)")
            // Cinder leaves the snapshot of the backup in what it restores by differences.
            _ = try await Self.run("rbd -p volumes snap purge --no-progress \(image); rbd -p volumes rm --no-progress \(image)")
        }
    }

    @Test("a chain to which we and a real Cinder add in turn is restored by both, and each deletes what the other made")
    func judge() async throws {
        let scene = try Scene()
        let (service, id) = (scene.service, try scene.volume(["size": 1, "metadata": ["kept": "with it"]]))
        try await scene.write(id, mebibytes: 8)
        let ours = try scene.backup(id)
        var hash = try await scene.hash(id)
        try await cinderRestores(told(service, ours, of: id), hash, "our full one")

        // Cinder's increment on ours finds our snapshot in the volume.
        try await scene.write(id, mebibytes: 3, at: 100)
        hash = try await scene.hash(id)
        let theirs = UUID.random()
        let parent = try told(service, ours, of: id)
        let said = try ask([
            "do": "backup", "volume_meta": #"{"version": 2, "volume-metadata": {"kept": "by Cinder"}}"#, "parent": parent,
            "backup": ["id": .string(theirs), "volume_id": .string(id), "parent_id": .string(ours)],
        ])
        let answer = try service.api(
            "POST", "/backups/import_record",
            [
                "backup-record": [
                    "backup_service": "cinder.backup.drivers.ceph.CephBackupDriver", "backup_url": try #require(said["record"]),
                ]
            ])
        #expect(answer.status == 201, "\(answer.text)")
        try BackupTests.wait(service, theirs, "available")
        try await scene.expectRestored(theirs, hash, "Cinder's increment on ours")

        // Ours on Cinder's reads what changed since the snapshot that Cinder has left in the volume.
        try await scene.write(id, mebibytes: 2, at: 500)
        hash = try await scene.hash(id)
        let last = try scene.backup(id, ["incremental": true])
        #expect(try service.api("GET", "/backups/\(last)").json["backup"]?["is_incremental"] == true)
        #expect(try ChangedBackupTests.bytesRead(service, for: last) <= 9 << 20)
        try await scene.expectRestored(last, hash, "ours on that")
        try await cinderRestores(told(service, last, of: id, parent: theirs), hash, "our increment on Cinder's")
        try await DoctorTests.expectNothing(service)

        // Each deletes what the other has made.
        try scene.delete(last)
        try scene.delete(theirs)
        _ = try ask(["do": "delete", "backup": try told(service, ours, of: id)])
        try await Self.expectNothingLeft()
        try scene.delete(ours)
        try scene.remove(id)
    }
}
