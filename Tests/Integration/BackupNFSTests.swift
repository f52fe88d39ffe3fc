import Backups
import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Backups on a share of a real NFS server, which nobody mounts.
@Suite("Backups on NFS", .serialized)
struct BackupNFSTests {
    private let backups = BackupTests()

    private func files(_ directory: String) async throws -> [String] {
        let found = try await ServiceUnderTest.run("/usr/bin/find", [directory, "-type", "f"])
        return found.output.split(separator: "\n").map(String.init).sorted()
    }

    /// What Cinder is told of a backup that lies in the directory.
    private func told(_ id: String, _ volume: String, in directory: String) async throws -> JSON {
        let container = ChunkedBackup.folder(of: id)
        let index = try #require(try await files("\(directory)/\(container)").first { $0.hasSuffix("_metadata") })
        let prefix = String(index.dropLast("_metadata".utf8.count).dropFirst("\(directory)/\(container)/".utf8.count))
        return [
            "id": .string(id), "volume_id": .string(volume), "parent_id": .null, "container": .string(container),
            "service_metadata": .string(prefix),
        ]
    }

    private func ask(_ call: JSONObject, in directory: String) throws -> JSON {
        var call = call
        (call["root"], call["driver"]) = (.string(directory), "nfs")
        let answer = try JSON(parsing: try Judge.shared.get().ask(JSON.object(call).text))
        try #require(answer["error"] == nil, "\(answer.text)")
        return answer
    }

    @Test("Cinder's NFS driver restores what lies on the share, and its increment on that is imported and restored")
    func judged() async throws {
        let server = try StorageUnderTest.nfs.get()
        let directory = server.nfsStoreDirectory("judged")
        let service = try backups.service(store: try server.nfsStore("judged"))
        let id = try backups.volume(service, seed: 3)
        let full = try BackupTests.backup(service, of: id)
        try BackupTests.wait(service, full, "available")
        let ours = try await told(full, id, in: directory)
        let image = temporaryDirectory("judge") + "/image"
        try ServiceUnderTest.write(image, "")
        truncate(image, 1 << 30)
        _ = try ask(["do": "restore", "image": .string(image), "is_new": true, "backups": [ours], "backup": ours], in: directory)
        #expect(try FileContent.difference(image, backups.path(service, id)) == nil, "restored by Cinder")

        // The record that we export is what Cinder exports of the same backup, and Cinder reads it.
        let exported = try service.api("GET", "/backups/\(full)/export_record")
        let url = try #require(exported.json["backup-record"]?["backup_url"]?.string)
        var fields = try #require(try Base64.decode(url).flatMap { try JSON(parsing: $0).object })
        fields["driver_info"] = nil
        let said = try ask(["do": "record", "backup": .object(fields), "url": .string(url)], in: directory)
        #expect(said["backup_url"]?.string == url)
        var decoded = try #require(said["decoded"]?.object)
        decoded["driver_info"] = nil
        #expect(decoded == fields)

        try backups.fill(service, id, seed: 4, at: [5 << 20, 900 << 20])
        let theirs = "aaaaaaaa-0000-4000-8000-000000000002"
        let made = try ask(
            [
                "do": "backup", "image": .string(backups.path(service, id)), "algorithm": "zlib", "backups": [ours],
                "backup": ["id": .string(theirs), "volume_id": .string(id), "parent_id": .string(full), "display_name": "Cinder's"],
            ], in: directory)
        let record: JSON = [
            "id": .string(theirs), "volume_id": .string(id), "size": 1, "object_count": made["object_count"] ?? .null,
            "display_name": .null, "display_description": .null, "container": made["container"] ?? .null,
            "service_metadata": made["service_metadata"] ?? .null, "parent_id": .string(full), "status": "available",
            "created_at": "2026-11-29T17:00:01Z",
        ]
        let imported = try service.api(
            "POST", "/backups/import_record",
            [
                "backup-record": [
                    "backup_service": "cinder.backup.drivers.nfs.NFSBackupDriver",
                    "backup_url": .string(Base64.encode(Array(record.text.utf8))),
                ]
            ])
        #expect(imported.status == 201, "\(imported.text)")
        try BackupTests.wait(service, theirs, "available")
        try await backups.expectRestorable(service, theirs, like: id)
    }

    @Test("a server that dies in the middle of a backup, and comes back, costs a repetition and no byte")
    func death() async throws {
        let server = try StorageUnderTest.nfs.get()
        let service = try backups.service(file: "volume_copy_bps_limit = 20000000", store: try server.nfsStore("death"))
        let id = try backups.volume(service, seed: 5)
        try backups.fill(service, id, seed: 6, at: Array(stride(from: 1 << 20, to: 96 << 20, by: 1 << 20)))
        let backup = try BackupTests.backup(service, of: id)
        let directory = server.nfsStoreDirectory("death")
        let limit = Timestamp.monotonic() + 20
        while try await files(directory).isEmpty, Timestamp.monotonic() < limit { usleep(5_000) }
        let script = ServiceUnderTest.root + "/Tests/Storage/nfs"
        let restarted = try await ServiceUnderTest.run(
            "/bin/bash",
            [
                "-c",
                "kill -9 $(cat \(server.directory)/pid) && sleep 1 && \(script) start \(server.directory) \(try server.nfsPort)",
            ])
        #expect(restarted.status == 0, "\(restarted.output)")
        try BackupTests.wait(service, backup, "available")
        try await backups.expectRestorable(service, backup, like: id)
        try await DoctorTests.expectNothing(service)
    }
}

/// What the store does with servers that do not do what they should: one case of the conformance suite, or a few, over each.
@Suite("Faults of the NFS store", .serialized)
struct BackupNFSFaultTests {
    private func check(_ section: String, _ cases: String...) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(
            ServiceUnderTest.binary,
            ["driver", "check"] + StorageUnderTest.arguments(section) + ["--kind", "store"] + cases.flatMap { ["--case", $0] })
    }

    private static let (open, put, large) = ("instance: it opens", "put: every value of a byte", "writer: 200 MiB")

    /// A proxy before a server that breaks the connection at a request; it ends when the descriptor is closed.
    private func proxy(_ server: StorageUnderTest, _ procedure: Int, _ when: String) throws -> (port: Int, lifeline: Int32) {
        let port = Int(try Loopback.freePort())
        let (mine, theirs) = try socketPair()
        defer { close(theirs) }
        _ = try spawn(
            "/usr/bin/python3",
            [ServiceUnderTest.root + "/Tests/Storage/nfs-proxy", "\(port)", "\(try server.nfsPort)", "\(procedure)", when],
            descriptors: [(source: theirs, target: 0), (source: theirs, target: 1)])
        var said: UInt8 = 0
        guard read(mine, &said, 1) == 1 else { throw ServiceUnderTest.Failure("the proxy did not start") }
        return (port, mine)
    }

    @Test("a connection that breaks between the last write and its flush: the object was not put")
    func unflushed() async throws {
        let server = try StorageUnderTest.nfs.get()
        // COMMIT, which libnfs sends again to a server that may have lost what it is to flush.
        let (port, lifeline) = try proxy(server, 21, "before")
        defer { close(lifeline) }
        let result = try await check(try server.nfsStore("unflushed", port: port), Self.put)
        #expect(result.status == 1, "\(result.output)")
        #expect(result.output.contains("CLINKER_RETRY") && result.output.contains("the connection broke before everything was flushed"))
    }

    @Test(
        "an answer that is lost, so that the request comes to the server twice: the object was put, once",
        arguments: [8, 9, 14])
    func lostAnswers(procedure: Int) async throws {
        // CREATE, MKDIR, RENAME.
        let server = try StorageUnderTest.nfs.get()
        let (port, lifeline) = try proxy(server, procedure, "after")
        defer { close(lifeline) }
        let result = try await check(try server.nfsStore("lost-\(procedure)", port: port), Self.put)
        #expect(result.status == 0 && result.output.contains(" 0 failed"), "\(result.output)")
    }

    @Test("a share that is full refuses with NO_SPACE, and what was written of the object is removed")
    func full() async throws {
        let server = try StorageUnderTest.smallNFS.get()
        let result = try await check(try server.nfsStore("full"), Self.large)
        // The suite takes NO_SPACE, and nothing else, for a limit of the storage.
        #expect(
            result.output.contains("skipped  \(Self.large) (a limit of the storage: cannot write 127.0.0.1:/export/stores/full/"),
            "\(result.output)")
        #expect(result.output.contains("No space left on device"), "\(result.output)")
        let left = try await ServiceUnderTest.run("/usr/bin/find", [server.directory + "/export", "-type", "f"])
        #expect(left.output.isEmpty, "\(left.output)")
    }

    @Test("a share for reading only is opened, and refuses what is put until an operator acts")
    func readOnly() async throws {
        let server = try StorageUnderTest.readOnlyNFS.get()
        let section = try server.nfsStore("kept")
        let opened = try await check(section, Self.open, "stats: problems")
        #expect(opened.status == 0, "\(opened.output)")
        let result = try await check(section, Self.put)
        #expect(result.status == 1 && result.output.contains("CLINKER_BAD_CONFIGURATION"), "\(result.output)")
    }

    @Test("a server that does not answer, or none, is told by its name, and nobody waits for it for ever")
    func silent() async throws {
        let server = try StorageUnderTest.nfs.get()
        let pid = pid_t(try ServiceUnderTest.read(server.directory + "/pid").prefix(while: \.isNumber)) ?? 0
        kill(pid, SIGSTOP)
        let result = try await check(try server.nfsStore("silent", options: "timeo=10"), Self.open)
        kill(pid, SIGCONT)
        #expect(result.status == 1 && result.output.contains("CLINKER_RETRY: 127.0.0.1:/export/stores/silent"), "\(result.output)")
        let free = try Loopback.freePort()
        let nobody = "backup_driver = nfs\nbackup_share = 127.0.0.1:/x\nbackup_mount_options = port=\(free),mountport=\(free)\n"
        let refused = try await check(nobody + "backup_mount_attempts = 1", Self.open)
        #expect(refused.status == 1 && refused.output.contains("CLINKER_RETRY: 127.0.0.1:/x cannot be mounted"), "\(refused.output)")
    }

    @Test(
        "options that cannot work say which one is wrong, and why",
        arguments: [
            ("", "backup_share is not set"), ("backup_share = nowhere", "the share 'nowhere' must be host:/path"),
            ("backup_share = h:/x\nbackup_mount_options = vers=4.1", "backup_mount_options: vers=4.1: this driver speaks NFS version 3"),
            ("backup_share = h:/x\nbackup_mount_options = port=none", "backup_mount_options: port=none: not a port"),
        ])
    func options(section: String, words: String) async throws {
        let result = try await check("backup_driver = nfs\n" + section, Self.open)
        #expect(result.status == 1 && result.output.contains("CLINKER_BAD_CONFIGURATION: " + words), "\(result.output)")
    }

    @Test("a directory that the server does not export is refused at once")
    func unexported() async throws {
        let server = try StorageUnderTest.nfs.get()
        let section = try server.nfsStore("conformance").replacing("/export/stores/conformance", with: "/none")
        let result = try await check(section, Self.open)
        #expect(
            result.status == 1 && result.output.contains("CLINKER_BAD_CONFIGURATION: 127.0.0.1:/none cannot be mounted"), "\(result.output)"
        )
    }
}
