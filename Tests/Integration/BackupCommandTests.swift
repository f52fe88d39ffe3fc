import Database
import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// `clinker backup`: what an operator does with backups, and what damage becomes of.
@Suite("The operator's backups", .serialized)
struct BackupCommandTests {
    private func status(_ volumes: BackedUpVolumes, _ id: String) throws -> String? {
        try volumes.service.api("GET", "/backups/\(id)").json["backup"]?["clinker:verify_status"]?.string
    }

    private func waitForStatus(_ volumes: BackedUpVolumes, _ id: String, _ wanted: String) throws {
        let limit = Timestamp.monotonic() + 60
        while try status(volumes, id) != wanted {
            guard Timestamp.monotonic() < limit else {
                throw ServiceUnderTest.Failure("backup \(id) is not \(wanted)\n\(volumes.service.story)")
            }
            usleep(20_000)
        }
    }

    /// The packs of chunks, oldest first.
    private func packs(_ volumes: BackedUpVolumes) async throws -> [String] {
        try await volumes.objects("-path", "*/data/*", "-size", "+50k")
    }

    private func restores(_ volumes: BackedUpVolumes, _ backup: String, as original: String) async throws {
        let restored = try volumes.service.create(["backup_id": .string(backup)])
        try volumes.service.wait(restored, "available", seconds: 60)
        #expect(try FileContent.difference(volumes.path(restored), original) == nil)
    }

    @Test("list and show tell what there is, where it lies and what it rests on")
    func looking() async throws {
        let volumes = try BackedUpVolumes(format: "cinder")
        let id = try volumes.volume(seed: 1)
        let full = try volumes.backup(id)
        let increment = try volumes.backup(id, incremental: true)
        let list = try await volumes.clinker("list")
        #expect(list.status == 0)
        let rows = list.output.split(separator: "\n").map { $0.split(separator: "\t").map(String.init) }
        #expect(rows.map { $0[0] } == [increment, full] && rows.allSatisfy { $0[1] == "available" && $0[2] == "-" && $0[5] == id })
        #expect(try await volumes.clinker("list", "--volume", increment).output.isEmpty)
        let shown = try await volumes.clinker("show", increment)
        for line in ["id: \(increment)", "status: available", "store: default", "format: cinder", "rests on: \(full)"] {
            #expect(shown.output.contains(line), "\(shown.output)")
        }
        let unknown = try await volumes.clinker("show", id)
        #expect(unknown.status == 1 && unknown.output.contains("could not be found"), "\(unknown.output)")
        volumes.service.stop()
        let refused = try await volumes.clinker("list")
        #expect(refused.status == 1 && refused.output.contains("no service runs"), "\(refused.output)")
    }

    @Test("what is good is said to be; a backup that nobody has verified looks as Cinder's")
    func good() async throws {
        for format in ["cinder", "repository"] {
            let volumes = try BackedUpVolumes(format: format)
            let backup = try volumes.backup(try volumes.volume(seed: 2))
            #expect(try status(volumes, backup) == nil)
            let verified = try await volumes.clinker("verify", backup)
            #expect(verified.status == 0 && verified.output == "\(backup): good\n", "\(verified.output)")
            #expect(try status(volumes, backup) == "good")
        }
    }

    @Test("damage in a repository marks every backup that uses it, and the next backup of the volume mends them all")
    func repository() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let id = try volumes.volume(seed: 3)
        let before = try await volumes.copy(id)
        let full = try volumes.backup(id)
        let pack = try #require(try await packs(volumes).first)
        try volumes.fill(id, seed: 4, at: [700 << 20])
        let increment = try volumes.backup(id, incremental: true)
        let other = try volumes.backup(try volumes.volume(seed: 5))
        try volumes.flip(pack, at: 5_000)
        let verified = try await volumes.clinker("verify", full)
        #expect(verified.status == 1, "\(verified.output)")
        #expect(verified.output.split(separator: "\n").count == 1)
        #expect(verified.output.contains(pack.split(separator: "/").last ?? "-") && verified.output.contains("of the volume"))
        #expect(try status(volumes, full) == "damaged" && status(volumes, increment) == "damaged")
        #expect(try status(volumes, other) == nil)
        // What is in both is stored again.
        let next = try volumes.backup(id, incremental: true)
        for backup in [full, increment, next] {
            let again = try await volumes.clinker("verify", backup)
            #expect(again.status == 0, "\(again.output)")
            #expect(try status(volumes, backup) == "good")
        }
        try await restores(volumes, full, as: before)
        try await restores(volumes, next, as: volumes.path(id))
    }

    @Test("a damaged snapshot is the loss of its own backup, and a damaged index of none")
    func smallObjects() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let id = try volumes.volume(seed: 11)
        let lost = try volumes.backup(id)
        let snapshot = try #require(try await volumes.objects("-path", "*/snapshots/*").first)
        let index = try #require(try await volumes.objects("-path", "*/index/*").first)
        let kept = try volumes.backup(try volumes.volume(seed: 12))
        try volumes.flip(snapshot, at: 30)
        try volumes.flip(index, at: 30)
        let names = [snapshot, index].map { $0.split(separator: "/").suffix(2).joined(separator: "/") }
        let hindered = try await volumes.clinker("prune")
        #expect(
            hindered.status == 1 && hindered.output.contains("nothing removed") && hindered.output.contains(names[0]), "\(hindered.output)")
        let findings = "\(try await DoctorTests.examine(volumes.service).findings.map(\.text))"
        for name in names { #expect(findings.contains(name), "\(findings)") }
        // The others are made and read.
        #expect(try await volumes.clinker("verify", kept).status == 0)
        let next = try volumes.backup(id)
        #expect(try status(volumes, lost) == "damaged")
        let verified = try await volumes.clinker("verify", lost)
        #expect(verified.status == 1 && verified.output.contains(names[0]), "\(verified.output)")
        let refused = try volumes.service.api("POST", "/backups/\(lost)/action", ["clinker:serve": [:]])
        #expect(refused.status == 409, "\(refused.text)")
        #expect(try volumes.service.api("DELETE", "/backups/\(lost)").status == 202)
        try BackupTests.wait(volumes.service, lost, nil)
        #expect(try await volumes.objects("-path", "*/snapshots/*").count == 2)
        let pruned = try await volumes.clinker("prune")
        #expect(pruned.status == 0, "\(pruned.output)")
        #expect(try await !volumes.objects("-path", "*/index/*").contains(index))
        try await restores(volumes, next, as: volumes.path(id))
        try await DoctorTests.expectNothing(volumes.service)
    }

    @Test(
        "in Cinder's format the increment behind damage stores what is damaged or missing anew, and is good; what is older stays marked",
        arguments: ["flipped", "missing"])
    func chunked(_ damage: String) async throws {
        let volumes = try BackedUpVolumes(format: "cinder")
        let id = try volumes.volume(seed: 6)
        let full = try volumes.backup(id)
        let object = try #require(try await volumes.objects("-name", "*-00001").first)
        try volumes.fill(id, seed: 7, at: [700 << 20])
        let increment = try volumes.backup(id, incremental: true)
        if damage == "flipped" { try volumes.flip(object, at: 5_000) } else { #expect(unlink(object) == 0) }
        let verified = try await volumes.clinker("verify", increment)
        #expect(verified.status == 1 && verified.output.contains("-00001"), "\(verified.output)")
        #expect(try status(volumes, full) == "damaged" && status(volumes, increment) == "damaged")
        let next = try volumes.backup(id, incremental: true)
        let mended = try await volumes.clinker("verify", next)
        #expect(mended.status == 0, "\(mended.output)")
        try await restores(volumes, next, as: volumes.path(id))
        #expect(try await volumes.clinker("verify", full).status == 1)
        #expect(try status(volumes, next) == "good" && status(volumes, increment) == "damaged")
    }

    @Test("in Cinder's format no increment is made on a backup whose metadata is lost: a full one is")
    func lostMetadata() async throws {
        let volumes = try BackedUpVolumes(format: "cinder")
        let id = try volumes.volume(seed: 6)
        let full = try volumes.backup(id)
        #expect(unlink(try #require(try await volumes.objects("-name", "*_metadata").first)) == 0)
        func increment() throws -> ServiceUnderTest.Answer {
            try volumes.service.api("POST", "/backups", ["backup": ["volume_id": .string(id), "incremental": true]])
        }
        let unnoticed = try increment()
        let failed = try #require(unnoticed.json["backup"]?["id"]?.string)
        try BackupTests.wait(volumes.service, failed, "error")
        let reason = try volumes.service.api("GET", "/backups/\(failed)").json["backup"]?["fail_reason"]?.string ?? ""
        #expect(reason.contains("_metadata is missing"), "\(reason)")
        #expect(try await volumes.clinker("verify", full).status == 1)
        let refused = try increment()
        #expect(refused.status == 400 && refused.message?.hasSuffix("Make a full backup.") == true, "\(refused.text)")
        try await restores(volumes, try volumes.backup(id), as: volumes.path(id))
    }

    @Test("a restoration that finds damage marks the backup, and all that share it", arguments: ["cinder", "repository"])
    func restoration(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format)
        let id = try volumes.volume(seed: 8)
        let full = try volumes.backup(id)
        let increment = try volumes.backup(id, incremental: true)
        let objects = try await format == "cinder" ? volumes.objects("-name", "*-00001") : packs(volumes)
        let object = try #require(objects.first)
        try volumes.flip(object, at: 5_000)
        let target = try volumes.service.create()
        try volumes.service.wait(target, "available")
        #expect(try volumes.service.api("POST", "/backups/\(full)/restore", ["restore": ["volume_id": .string(target)]]).status == 202)
        try volumes.service.wait(target, "error_restoring", seconds: 60)
        for backup in [full, increment] { try waitForStatus(volumes, backup, "damaged") }
        let damages = try volumes.service.api("GET", "/backups/\(increment)/damages").json["damages"]?.array ?? []
        #expect(!damages.isEmpty)
        func reason() throws -> JSON? { try volumes.service.api("GET", "/backups/\(full)").json["backup"]?["fail_reason"] }
        #expect(try reason()?.string?.hasPrefix("the backup is damaged") == true)
        // The verification that the restoration left behind it ends before the damage does.
        let limit = Timestamp.monotonic() + 240
        while try volumes.service.api("GET", "/operations?unfinished=1&flow=backup.verify").json["operations"]?.array?.first != nil {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("no end: \(volumes.service.story)") }
            usleep(10_000)
        }
        try volumes.flip(object, at: 5_000)
        _ = try volumes.backup(id)
        let mended = try await volumes.clinker("verify", full)
        #expect(mended.status == 0, "\(mended.output)")
        #expect(try status(volumes, full) == "good" && reason() == .null)
    }

    @Test("keys of a project that can have no repository are not looked for")
    func longProject() throws {
        let volumes = try BackedUpVolumes(format: "repository")
        for project in [String(repeating: "A", count: 5000), String(repeating: "A", count: 255), "..", "a%2Fb", ""] {
            let refused = try volumes.service.api("GET", "/backup-repositories/keys?project_id=\(project)")
            #expect(refused.status == 400 && refused.message?.contains("project") == true, "\(refused.text.prefix(1000))")
        }
    }

    @Test("scrub reads the packs in their turn, marks the backups that use what is damaged, and tells log and metrics")
    func scrub() async throws {
        let volumes = try BackedUpVolumes(format: "repository", options: "backup_scrub_interval = 1\nbackup_scrub_parts = 1")
        let id = try volumes.volume(seed: 9)
        let backup = try volumes.backup(id)
        let pack = try #require(try await packs(volumes).first)
        // A repository that does not open is told, and so is one that is not there; they keep no other from being read.
        let lost = String(repeating: "1", count: 32)
        let other = String(repeating: "0", count: 32)
        let copied = try await volumes.shell(
            """
            r=$(find '\(volumes.service.state)' -type d -name \(ServiceUnderTest.project) -path '*repositories*')
            k=$(find '\(volumes.service.state)' -type d -name '*.keys')
            cp -r "$r" "$(dirname "$r")/\(other)" && (umask 077; printf '%064d' 0 > "$k/\(other)"; printf '%064d' 0 > "$k/\(lost)")
            """)
        #expect(copied.status == 0, "\(copied.output)")
        try volumes.flip(pack, at: 5_000)
        try waitForStatus(volumes, backup, "damaged")
        #expect(volumes.service.log.contains("a repository cannot be scrubbed"))
        let name = String(pack.split(separator: "/").last ?? "")
        let limit = Timestamp.monotonic() + 20
        let missing = "cannot be scrubbed: the store has no repository of project \(lost)"
        while !volumes.service.log.contains(missing), Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(volumes.service.log.contains(missing))
        while !volumes.service.log.contains("a store holds damage: pack \(name)"), Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(volumes.service.log.contains("a store holds damage: pack \(name)"))
        let metrics = try volumes.service.request("GET", "/metrics", version: nil).text
        #expect(metrics.contains("clinker_backups_damaged 1") && metrics.contains("clinker_backup_scrub_damages_total 1"), "\(metrics)")
        // Another backup mends it.
        _ = try volumes.backup(id, incremental: true)
        #expect(try await volumes.clinker("verify", backup).status == 0)
    }

    @Test("a second passphrase opens the repository, for restic too, until it is removed")
    func keys() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        _ = try volumes.backup(try volumes.volume(seed: 10))
        let project = ["--project", ServiceUnderTest.project]
        let phrase = "correct horse battery staple"
        try ServiceUnderTest.write(volumes.service.directory + "/phrase", phrase + "\n")
        let added = try await volumes.shell(
            "'\(ServiceUnderTest.binary)' backup key add --project \(ServiceUnderTest.project) --config '\(volumes.service.configuration)' "
                + "--state-dir '\(volumes.service.state)' < phrase")
        #expect(added.status == 0, "\(added.output)")
        let key = added.output.filter { !$0.isWhitespace }
        let list = try await volumes.clinker("key", "list", project[0], project[1])
        #expect(list.output.split(separator: "\n").count == 2 && list.output.contains(key), "\(list.output)")
        #expect(!volumes.service.log.contains(phrase))
        let config = try #require(try await volumes.objects("-name", "config").first)
        let repository = config.prefix(upTo: config.lastIndex(of: "/")!)
        let check = "RESTIC_PASSWORD_FILE=phrase restic -r '\(repository)' --no-cache snapshots -q"
        let opened = try await volumes.shell(check)
        #expect(opened.status == 0, "\(opened.output)")
        let own = list.output.split(separator: "\n").first { $0.hasPrefix("*") }?.dropFirst(2).split(separator: "\t").first.map(String.init)
        let kept = try await volumes.clinker("key", "remove", own ?? "", project[0], project[1])
        #expect(kept.status == 1 && kept.output.contains("cannot be removed"), "\(kept.output)")
        #expect(try await volumes.clinker("key", "remove", key, project[0], project[1]).status == 0)
        #expect(try await volumes.shell(check).status != 0)
        for (arguments, words) in [
            (["key", "remove", "abc"] + project, "64 hexadecimal digits"), (["key", "remove", key] + project, "has no key"),
            (["key", "list", "--project", "nobody"], "no repository"), (["key", "list", "--project", "../x"], "letters"),
            (["key", "list", "--store", "none"] + project, "could not be found"),
        ] {
            let refused = try await ServiceUnderTest.run(
                ServiceUnderTest.binary,
                ["backup"] + arguments + ["--config", volumes.service.configuration, "--state-dir", volumes.service.state])
            #expect(refused.status == 1 && refused.output.contains(words), "\(arguments): \(refused.output)")
        }
        let empty = try await volumes.shell(
            "'\(ServiceUnderTest.binary)' backup key add --project \(ServiceUnderTest.project) --config '\(volumes.service.configuration)' "
                + "--state-dir '\(volumes.service.state)' < /dev/null")
        #expect(empty.status == 1 && empty.output.contains("empty"), "\(empty.output)")
    }

    @Test("prune marks what no backup needs, and takes nothing that one does")
    func prune() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let id = try volumes.volume(seed: 11)
        let first = try volumes.backup(id)
        try volumes.fill(id, seed: 12, at: [0, 5 << 20, 300 << 20, (1 << 30) - 65_536])
        let second = try volumes.backup(id)
        #expect(try volumes.service.api("DELETE", "/backups/\(first)").status == 202)
        try BackupTests.wait(volumes.service, first, nil)
        let pruned = try await volumes.clinker("prune")
        #expect(pruned.status == 0 && pruned.output.contains("\(ServiceUnderTest.project): 0 packs removed"), "\(pruned.output)")
        #expect(!pruned.output.contains(" 0 marked"), "\(pruned.output)")
        let again = try await volumes.clinker("prune", "--json")
        #expect((try JSON(parsing: again.output)["repositories"]?.array?.first?["waiting"]?.integer ?? 0) > 0, "\(again.output)")
        #expect(try await volumes.clinker("verify", second).status == 0)
        try await restores(volumes, second, as: volumes.path(id))
    }

    @Test("a lost row, and a lost database, come back from the repository; what is there is left alone")
    func importing() async throws {
        let volumes = try BackedUpVolumes(format: "repository")
        let id = try volumes.volume(seed: 13)
        let full = try BackupTests.backup(volumes.service, of: id, ["name": "full", "description": "d", "metadata": ["a": "b"]])
        try BackupTests.wait(volumes.service, full, "available")
        let increment = try volumes.backup(id, incremental: true)
        let before = try volumes.service.api("GET", "/backups/\(full)").json["backup"]
        let original = try await volumes.copy(id)
        #expect(try await volumes.clinker("import-repository").output == "0 imported, 2 were there, 0 skipped\n")
        volumes.service.stop()
        let removed = try await volumes.shell("rm '\(volumes.service.state)'/clinker.db*")
        #expect(removed.status == 0, "\(removed.output)")
        try volumes.service.start()
        try volumes.waitForStore()
        #expect(try volumes.service.api("GET", "/backups").json["backups"]?.array?.isEmpty == true)
        let doctor = try await DoctorTests.examine(volumes.service).findings
        let named = Set(doctor.compactMap { $0["resource"]?.string })
        #expect(named.isSuperset(of: [full, increment]), "\(doctor)")
        let imported = try await volumes.clinker("import-repository")
        #expect(imported.status == 0 && imported.output.contains("2 imported, 0 were there, 0 skipped"), "\(imported.output)")
        let after = try volumes.service.api("GET", "/backups/\(full)").json["backup"]
        for name in [
            "name", "description", "metadata", "volume_id", "size", "created_at", "data_timestamp", "user_id", "container",
            "os-backup-project-attr:project_id", "has_dependent_backups",
        ] { #expect(after?[name] == before?[name], "\(name)") }
        #expect(try volumes.service.api("GET", "/backups/\(increment)").json["backup"]?["is_incremental"] == true)
        #expect(try volumes.service.usage("backups") == 2 && volumes.service.usage("backup_gigabytes") == 2)
        try await restores(volumes, increment, as: original)
        let quiet = try await DoctorTests.examine(volumes.service).findings.filter { $0["kind"]?.string?.hasSuffix("backup") == true }
        #expect(quiet.isEmpty, "\(quiet)")
    }

    @Test("doctor names a backup whose objects are gone, and objects whose backup is", arguments: ["cinder", "repository"])
    func doctor(format: String) async throws {
        let volumes = try BackedUpVolumes(format: format)
        let id = try volumes.volume(seed: 14)
        let lost = try volumes.backup(id)
        let objects = try await format == "cinder" ? volumes.objects("-name", "*_metadata") : volumes.objects("-path", "*/snapshots/*")
        let kept = try volumes.backup(id)
        try await DoctorTests.expectNothing(volumes.service)
        #expect(unlink(try #require(objects.first)) == 0)
        volumes.service.stop()
        let database = try SQLiteDatabase(path: volumes.service.state + "/clinker.db")
        _ = try await database.write { try $0.run(text: "DELETE FROM backups WHERE id = ?", [.text(kept)]) }
        database.close()
        try volumes.service.start()
        try volumes.waitForStore()
        let findings = try await DoctorTests.examine(volumes.service).findings
        let missing = findings.filter { $0["kind"] == "missing-backup" }
        #expect(missing.map { $0["resource"]?.string } == [lost], "\(findings)")
        let unknown = findings.filter { $0["kind"] == "unknown-backup" }
        #expect(unknown.count == 1 && unknown[0]["resource"]?.string?.contains(kept) == true, "\(findings)")
        #expect(findings.allSatisfy { $0["kind"] == "quota" || $0["repairable"] == false })
    }
}
