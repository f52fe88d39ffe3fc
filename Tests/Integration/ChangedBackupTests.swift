import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Increments that read only what the volume's driver says has changed, over real processes: with the drivers of MutantTests, which tell it,
/// or lie.
@Suite("Backups of what changed", .serialized)
struct ChangedBackupTests {
    private static let mebibyte = 1 << 20
    /// What an increment of 1 % in runs of 1 MiB may read of 1 GiB.
    private static let mostRead = (1 << 30) * 11 / 1000

    /// A service with two backends of that driver. `bug`: of the first.
    private struct Scene {
        let service: ServiceUnderTest
        let directory: String

        init(format: String = "repository", bug: String = "none", first options: String = "") throws {
            let directory = temporaryDirectory("changed")
            let driver = try MutantTests.build(in: directory)
            func section(_ name: String, _ more: String) throws -> String {
                guard mkdir("\(directory)/\(name)", 0o700) == 0 else { throw SystemError.last("mkdir") }
                return "[\(name)]\nvolume_driver = \(driver)\ndirectory = \(directory)/\(name)\n\(more)\n"
            }
            let service = try ServiceUnderTest(
                options: BackupTests.options + "\nbackup_format = \(format)", backends: "one, two",
                sections: section("one", "bug = \(bug)\n\(options)") + section("two", ""))
            for name in ["one", "two"] {
                let type = try service.api("POST", "/types", ["volume_type": ["name": .string(name)]])
                let id = try #require(type.json["volume_type"]?["id"]?.string)
                let specs = try service.api(
                    "POST", "/types/\(id)/extra_specs", ["extra_specs": ["volume_backend_name": .string(name)]])
                #expect(specs.status == 200, "\(specs.text)")
            }
            try ChangedBackupTests.waitForStore(service)
            (self.directory, self.service) = (directory, service)
        }

        /// The file of a volume. After a move it has the name of the object that was made for it: the driver does not rename.
        func path(_ volume: String, on backend: String = "one") -> String {
            let seen = try? service.volume(volume)
            let name = seen?["os-vol-mig-status-attr:name_id"]?.string ?? volume
            return "\(directory)/\(backend)/volume-\(name)"
        }

        /// The names of the snapshots in a backend.
        func snapshots(on backend: String = "one") -> [String] {
            ServiceUnderTest.entries("\(directory)/\(backend)").filter { $0.hasPrefix("snapshot-") }
        }

        /// Writes random bytes over so many whole mebibytes from each place on.
        func fill(_ volume: String, seed: UInt64, mebibytes count: Int, at places: [Int], on backend: String = "one") throws {
            let file = open(path(volume, on: backend), O_WRONLY | O_CLOEXEC)
            guard file >= 0 else { throw SystemError.last("cannot open the volume") }
            defer { close(file) }
            var state = Seeded(seed)
            var words = [UInt64](repeating: 0, count: ChangedBackupTests.mebibyte / 8)
            for place in places {
                for step in 0..<count {
                    for index in words.indices { words[index] = state.next() }
                    guard
                        pwrite(file, words, ChangedBackupTests.mebibyte, off_t((place + step) * ChangedBackupTests.mebibyte))
                            == ChangedBackupTests.mebibyte
                    else {
                        throw SystemError.last("cannot write the volume")
                    }
                }
            }
        }

        /// A volume of 1 GiB, of which so many mebibytes hold something.
        func volume(seed: UInt64, mebibytes count: Int) throws -> String {
            let id = try service.create(["volume_type": "one", "size": 1])
            try service.wait(id, "available")
            try fill(id, seed: seed, mebibytes: count, at: [0])
            return id
        }

        /// Makes a backup; the bytes that were read for it.
        func backup(_ volume: String, isIncremental: Bool, _ fields: JSONObject = [:]) throws -> (id: String, read: Int) {
            var fields = fields
            fields["incremental"] = .bool(isIncremental)
            let id = try BackupTests.backup(service, of: volume, fields)
            try BackupTests.wait(service, id, "available")
            return (id, try ChangedBackupTests.bytesRead(service, for: id))
        }

        /// Waits until so many snapshots lie in the backend: what goes is removed by operations of its own.
        func expectSnapshots(_ count: Int, on backend: String = "one", _ location: SourceLocation = #_sourceLocation) {
            let limit = Timestamp.monotonic() + 20
            while snapshots(on: backend).count != count, Timestamp.monotonic() < limit { usleep(10_000) }
            #expect(snapshots(on: backend).count == count, "\(snapshots(on: backend))\n\(service.story)", sourceLocation: location)
        }

        func expectRestored(_ backup: String, _ original: String, _ comment: Comment) async throws {
            let size = try service.api("GET", "/backups/\(backup)").json["backup"]?["size"] ?? 1
            let restored = try service.create(["backup_id": .string(backup), "volume_type": "two", "size": size])
            try service.wait(restored, "available", seconds: 60)
            #expect(try FileContent.difference(path(restored, on: "two"), original) == nil, comment)
            #expect(try service.api("DELETE", "/volumes/\(restored)").status == 202)
        }

        func delete(volume: String) throws {
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
    }

    static func waitForStore(_ service: ServiceUnderTest) throws {
        let limit = Timestamp.monotonic() + 20
        while !(try service.api("GET", "/os-services?binary=cinder-backup").text.contains("\"up\"")) {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("no backup service: \(service.story)") }
            usleep(10_000)
        }
    }

    /// What the log tells of how much was read for a backup.
    static func bytesRead(_ service: ServiceUnderTest, for backup: String) throws -> Int {
        guard let line = service.log.split(separator: "\n").last(where: { $0.contains("backed up") && $0.contains("backup=\(backup)") }),
            let word = line.split(separator: " ").first(where: { $0.hasPrefix("bytes_read=") }),
            let count = Int(word.dropFirst("bytes_read=".count))
        else { throw ServiceUnderTest.Failure("nothing is told of backup \(backup): \(service.story)") }
        return count
    }

    @Test(
        "an increment of 1 % reads 1.1 % of the volume at most, and a chain of three comes back byte for byte",
        arguments: ["repository", "cinder"])
    func chain(format: String) async throws {
        let scene = try Scene(format: format)
        let id = try scene.volume(seed: 1, mebibytes: 64)
        let full = try scene.backup(id, isIncremental: false)
        #expect(full.read >= 64 << 20)
        scene.expectSnapshots(1)
        var copies: [(backup: String, copy: String)] = []
        for round in 0..<2 {
            // Ten runs of 1 MiB, some in what held something and some in holes.
            try scene.fill(id, seed: UInt64(round + 2), mebibytes: 1, at: (0..<10).map { $0 * 11 + round * 200 })
            let copy = "\(scene.directory)/copy-\(round)"
            #expect(try await ServiceUnderTest.run("/bin/cp", ["--sparse=always", scene.path(id), copy]).status == 0)
            let made = try scene.backup(id, isIncremental: true)
            #expect(made.read >= 10 << 20 && made.read <= Self.mostRead, "\(made.read) bytes were read")
            copies.append((made.id, copy))
            // That of the newest backup alone.
            scene.expectSnapshots(1)
        }
        for (backup, copy) in copies { try await scene.expectRestored(backup, copy, "\(backup)") }
        // Neither a user's, nor anybody's.
        #expect(try scene.service.api("GET", "/snapshots?all_tenants=1").json["snapshots"]?.array?.isEmpty == true)
        #expect(try scene.service.usage("snapshots") == 0)
        let manageable = try scene.service.api("GET", "/manageable_snapshots?host=node@one").json["manageable-snapshots"]?.array ?? []
        #expect(manageable.allSatisfy { $0["safe_to_manage"] == false }, "\(manageable)")
        try await DoctorTests.expectNothing(scene.service)
        try scene.delete(volume: id)
        scene.expectSnapshots(0)
        for backup in copies.map(\.backup).reversed() + [full.id] {
            #expect(try scene.service.api("DELETE", "/backups/\(backup)").status == 202)
            try BackupTests.wait(scene.service, backup, nil)
        }
    }

    @Test("nothing that is done with a volume or its backup is held up, and the next increment is whole")
    func outOfTheWay() async throws {
        let scene = try Scene()
        let service = scene.service
        let id = try scene.volume(seed: 5, mebibytes: 4)
        func expectWhole(_ comment: Comment, on backend: String = "one") async throws {
            let made = try scene.backup(id, isIncremental: true)
            try await scene.expectRestored(made.id, scene.path(id, on: backend), comment)
            scene.expectSnapshots(1, on: backend)
        }
        _ = try scene.backup(id, isIncremental: false)
        let newest = try scene.backup(id, isIncremental: true)
        #expect(try service.api("DELETE", "/backups/\(newest.id)").status == 202)
        try BackupTests.wait(service, newest.id, nil)
        scene.expectSnapshots(0)
        try await expectWhole("after its backup was deleted")

        #expect(try MoveTests.action(service, id, "os-extend", ["new_size": 2]).status == 202)
        try service.wait(id, "available")
        try scene.fill(id, seed: 6, mebibytes: 1, at: [1500])
        try await expectWhole("after it was extended")

        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        try scene.fill(id, seed: 7, mebibytes: 1, at: [2, 900])
        _ = try scene.backup(id, isIncremental: true)
        scene.expectSnapshots(2)
        let reverted = try MoveTests.action(service, id, "revert", ["snapshot_id": .string(snapshot)])
        #expect(reverted.status == 202, "\(reverted.text)")
        try service.wait(id, "available")
        scene.expectSnapshots(1)
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
        try await expectWhole("after it was reverted")

        #expect(
            try MoveTests.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        try service.wait(id, "available", seconds: 60)
        #expect(try service.volume(id)?["volume_type"] == "two")
        scene.expectSnapshots(0)
        try await expectWhole("after it was retyped", on: "two")
        try await DoctorTests.expectNothing(service)
        try scene.delete(volume: id)
        scene.expectSnapshots(0, on: "two")
    }

    @Test("doctor names one that is gone and one that nobody needs, and mends both")
    func doctor() async throws {
        let scene = try Scene()
        let service = scene.service
        let id = try scene.volume(seed: 8, mebibytes: 2)
        let full = try scene.backup(id, isIncremental: false)
        let kept = try #require(scene.snapshots().first)
        try await DoctorTests.expectNothing(service)
        unlink("\(scene.directory)/one/\(kept)")
        let gone = try await DoctorTests.examine(service, repair: true).findings
        #expect(gone.map { $0["kind"]?.string } == ["missing-storage"], "\(gone)")
        try await DoctorTests.expectNothing(service)
        // What is not there is not asked for changes.
        let next = try scene.backup(id, isIncremental: true)
        try await scene.expectRestored(next.id, scene.path(id), "after the snapshot was gone")
        scene.expectSnapshots(1)
        let reset = try service.api("POST", "/backups/\(next.id)/action", ["os-reset_status": ["status": "error"]])
        #expect(reset.status == 202, "\(reset.text)")
        let unneeded = try await DoctorTests.examine(service, repair: true).findings
        #expect(unneeded.map { $0["kind"]?.string } == ["orphan-storage"], "\(unneeded)")
        scene.expectSnapshots(0)
        #expect(full.read > 0)
    }

    @Test(
        "a driver that omits changes is found out and named, the backup is right all the same, and it is not asked again",
        arguments: ["repository", "cinder"])
    func lies(format: String) async throws {
        let scene = try Scene(format: format, bug: "changed_none")
        // All that the volume holds changes: whichever block is looked at tells it.
        let id = try scene.volume(seed: 9, mebibytes: 32)
        _ = try scene.backup(id, isIncremental: false)
        scene.expectSnapshots(1)
        try scene.fill(id, seed: 10, mebibytes: 32, at: [0])
        let made = try scene.backup(id, isIncremental: true)
        #expect(made.read >= 32 << 20)
        let line = scene.service.log.split(separator: "\n").first { $0.contains("said that nothing had changed") }
        #expect(line?.contains("the driver mutants") == true && line?.contains(id) == true, "\(scene.service.story)")
        try await scene.expectRestored(made.id, scene.path(id), "of a driver that lies")
        scene.expectSnapshots(0)
    }

    @Test("an operator who switches it off gets increments that read the whole volume, and no snapshot that stays")
    func switchedOff() async throws {
        let scene = try Scene(first: "keep_backup_snapshots = false")
        let id = try scene.volume(seed: 11, mebibytes: 8)
        _ = try scene.backup(id, isIncremental: false)
        scene.expectSnapshots(0)
        let made = try scene.backup(id, isIncremental: true)
        #expect(made.read >= 8 << 20)
        scene.expectSnapshots(0)
    }

    @Test(
        "kill -9 in the middle of an increment: it is whole afterwards, and one snapshot is kept",
        arguments: ["transfer", "core", "driver-host"])
    func death(process: String) async throws {
        let scene = try Scene(first: "volume_copy_bps_limit = 8000000")
        let service = scene.service
        let id = try scene.volume(seed: 12, mebibytes: 2)
        _ = try scene.backup(id, isIncremental: false)
        scene.expectSnapshots(1)
        try scene.fill(id, seed: 13, mebibytes: 8, at: [1, 500])
        let backup = try BackupTests.backup(service, of: id, ["incremental": true])
        let limit = Timestamp.monotonic() + 20
        while service.processes("transfer").isEmpty, Timestamp.monotonic() < limit { usleep(5_000) }
        for victim in service.processes(process) { kill(victim, SIGKILL) }
        try service.waitUntilServing()
        try BackupTests.wait(service, backup, "available")
        scene.expectSnapshots(1)
        try await scene.expectRestored(backup, scene.path(id), "after the death of \(process)")
        // The kept one serves the next.
        try scene.fill(id, seed: 14, mebibytes: 1, at: [700])
        let next = try scene.backup(id, isIncremental: true)
        #expect(next.read <= 3 << 20)
        try await scene.expectRestored(next.id, scene.path(id), "of the next")
        try await DoctorTests.expectNothing(service)
    }

    @Test("over Ceph an increment reads what was written and a sample, and its volume can be deleted with the snapshot that is kept")
    func ceph() async throws {
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        func rbd(_ command: String) async throws -> String {
            let result = try await ServiceUnderTest.run(
                "/usr/bin/timeout", ["60", "/bin/sh", "-c", "rbd -c \(conf) -p volumes \(command)"])
            #expect(result.status == 0, "\(command): \(result.output)")
            return result.output
        }
        func content(_ id: String) async throws -> String {
            let result = try await ServiceUnderTest.run(
                "/usr/bin/env", ["CEPH_CONF=\(conf)", ServiceUnderTest.root + "/Tests/Storage/rbd-hash", "volumes/volume-\(id)"])
            #expect(result.status == 0, "\(result.output)")
            return result.output
        }
        func kept(_ id: String) async throws -> Int {
            try JSON(parsing: try await rbd("snap ls --format json volume-\(id)")).array?.count ?? -1
        }
        func expectKept(_ count: Int, _ id: String) async throws {
            let limit = Timestamp.monotonic() + 20
            while try await kept(id) != count, Timestamp.monotonic() < limit { usleep(50_000) }
            #expect(try await kept(id) == count)
        }
        let service = try ServiceUnderTest(
            options: BackupTests.options + "\nbackup_format = repository", backends: "rbd",
            sections: "[rbd]\n\(try StorageUnderTest.rbdSection())\n")
        try Self.waitForStore(service)
        let id = try service.create(["size": 1])
        try service.wait(id, "available", seconds: 60)
        _ = try await rbd("bench --io-type write --io-size 1M --io-total 64M --io-pattern seq volume-\(id)")
        let full = try BackupTests.backup(service, of: id)
        try BackupTests.wait(service, full, "available")
        #expect(try Self.bytesRead(service, for: full) >= 64 << 20)
        try await expectKept(1, id)
        for _ in 0..<2 {
            // Eight threads, each from an eighth of the volume on.
            _ = try await rbd("bench --io-type write --io-threads 8 --io-size 1M --io-total 8M --io-pattern seq volume-\(id)")
            let now = try await content(id)
            let increment = try BackupTests.backup(service, of: id, ["incremental": true])
            try BackupTests.wait(service, increment, "available")
            let read = try Self.bytesRead(service, for: increment)
            #expect(read >= 8 << 20 && read <= 9 << 20, "\(read) bytes were read\n\(service.story)")
            try await expectKept(1, id)
            let restored = try service.create(["backup_id": .string(increment)])
            try service.wait(restored, "available", seconds: 60)
            #expect(try await content(restored) == now)
            #expect(try service.api("DELETE", "/volumes/\(restored)").status == 202)
        }
        try await DoctorTests.expectNothing(service)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil, seconds: 60)
    }
}
