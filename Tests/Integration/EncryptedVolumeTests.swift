import Glibc
import JSON
import KeyManager
import Primitives
import TestSupport
import Testing

/// Encrypted volumes as whoever attaches them finds them: their keys open what lies in the storage, and nothing else does.
@Suite("Encrypted volumes", .serialized)
struct EncryptedVolumeTests {
    static func encryptedType(_ service: ServiceUnderTest, provider: String = "luks", keySize: Int = 256) throws -> String {
        let type = try #require(
            try service.api("POST", "/types", ["volume_type": ["name": "secret"]]).json["volume_type"]?["id"]?.string)
        let record: JSON = [
            "encryption": [
                "provider": .string(provider), "control_location": "front-end", "cipher": "aes-xts-plain64",
                "key_size": .integer(Int64(keySize)),
            ]
        ]
        #expect(try service.api("POST", "/types/\(type)/encryption", record).status == 200)
        return type
    }

    private static func secret(_ service: ServiceUnderTest, _ fields: JSONObject = [:]) throws -> String {
        var fields = fields
        if fields["source_volid"] == nil, fields["snapshot_id"] == nil { fields["volume_type"] = "secret" }
        let id = try service.create(fields)
        try service.wait(id, "available", seconds: 60)
        return id
    }

    private static func keyID(_ service: ServiceUnderTest, _ volume: String) throws -> String {
        try #require(try service.volume(volume)?["encryption_key_id"]?.string)
    }

    /// The file of a volume's passphrase, as Nova's host would have it of the key manager.
    private static func passphrase(_ service: ServiceUnderTest, _ volume: String) async throws -> String {
        let key = try await FileKeyStore(service.state + "/keys").key(keyID(service, volume))
        let path = service.directory + "/passphrase-" + volume
        try ServiceUnderTest.write(path, key.passphrase.reveal())
        return path
    }

    private static func run(_ program: String, _ arguments: [String]) async throws -> String {
        let result = try await ServiceUnderTest.run("/usr/bin/timeout", ["100", program] + arguments)
        guard result.status == 0 else { throw ServiceUnderTest.Failure("\(program) \(arguments): \(result.output)") }
        return result.output
    }

    /// Reads or writes a volume through its encryption, as a hypervisor does. `image`: what lies below, in qemu's words.
    private static func io(_ service: ServiceUnderTest, _ volume: String, _ image: String, _ commands: String...) async throws -> String {
        let object = "secret,id=key,file=\(try await passphrase(service, volume))"
        return try await run(
            "qemu-io", ["--object", object, "--image-opts", "driver=luks,key-secret=key,\(image)"] + commands.flatMap { ["-c", $0] })
    }

    private static func keys(_ service: ServiceUnderTest) -> Int {
        ServiceUnderTest.entries(service.state + "/keys").count { $0 != "outer.key" }
    }

    @Test("a volume has a key from its beginning to its end, and so has all that is made of its content")
    func life() async throws {
        let store = temporaryDirectory("store")
        let service = try ServiceUnderTest(
            options: "backup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = \(store)\n")
        try ChangedBackupTests.waitForStore(service)
        _ = try Self.encryptedType(service)
        func file(_ volume: String) -> String { "\(service.state)/volumes/file/volume-\(volume)" }
        func image(_ volume: String) -> String { "file.driver=file,file.filename=\(file(volume))" }

        let volume = try Self.secret(service)
        #expect(try service.volume(volume)?["encrypted"] == true)
        let told = try service.api("GET", "/volumes/\(volume)/encryption").json
        #expect(told["provider"] == "luks" && told["key_size"] == 256)
        #expect(told["encryption_key_id"] == .string(try Self.keyID(service, volume)))
        // A host with a device prepares it itself.
        let key = "secret,id=key,file=\(try await Self.passphrase(service, volume))"
        _ = try await Self.run(
            "qemu-img",
            ["create", "-q", "-f", "luks", "--object", key, "-o", "key-secret=key,iter-time=10", file(volume), "\((1 << 30) - (16 << 20))"])
        _ = try await Self.io(service, volume, image(volume), "write -P 0x41 0 4M")

        let clone = try Self.secret(service, ["source_volid": .string(volume)])
        let snapshot = try #require(
            try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volume)]]).json["snapshot"]?["id"]?.string)
        let limit = Timestamp.monotonic() + 20
        while try service.api("GET", "/snapshots/\(snapshot)").json["snapshot"]?["status"] != "available", Timestamp.monotonic() < limit {
            usleep(10_000)
        }
        let other = try Self.secret(service, ["snapshot_id": .string(snapshot)])
        let backup = try BackupTests.backup(service, of: volume, [:])
        try BackupTests.wait(service, backup, "available")
        let restored = try Self.secret(service, ["backup_id": .string(backup)])
        let backupKey = try #require(
            try service.api("GET", "/backups/\(backup)").json["backup"]?["encryption_key_id"]?.string)
        let keys = try [volume, clone, other, restored].map { try Self.keyID(service, $0) } + [backupKey]
        #expect(Set(keys).count == 5 && Self.keys(service) == 5)

        let connector: JSON = ["host": "peer", "initiator": "iqn.test"]
        let connection = try service.api("POST", "/volumes/\(clone)/action", ["os-initialize_connection": ["connector": connector]])
        #expect(connection.json["connection_info"]?["data"]?["encrypted"] == true, "\(connection.text)")
        #expect(
            try service.api("POST", "/volumes/\(clone)/action", ["os-terminate_connection": ["connector": connector]]).status == 202)
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        #expect(
            try service.api("POST", "/volume-transfers", version: "3.69", ["transfer": ["volume_id": .string(volume)]]).status == 400)
        #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-unmanage": [:]]).status == 400)

        // Each by its own key, when the first is gone.
        let gone = Timestamp.monotonic() + 20
        while try service.api("GET", "/snapshots/\(snapshot)").status != 404, Timestamp.monotonic() < gone { usleep(10_000) }
        #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
        try service.wait(volume, nil)
        for copy in [clone, other, restored] {
            _ = try await Self.io(service, copy, image(copy), "read -P 0x41 0 4M")
        }
        for copy in [clone, other, restored] { #expect(try service.api("DELETE", "/volumes/\(copy)").status == 202) }
        for copy in [clone, other, restored] { try service.wait(copy, nil) }
        #expect(Self.keys(service) == 1)
        #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
        try BackupTests.wait(service, backup, nil)
        #expect(Self.keys(service) == 0)
        #expect(!service.log.contains(key) && service.stop() == 0)
    }

    @Test("an encrypted volume's image is a volume again, by keys of their own, and a plain image is encrypted on its way")
    func images() async throws {
        let glance = try GlanceUnderTest.open.get()
        let service = try ServiceUnderTest(options: "glance_api_servers = \(glance.address)\nimage_conversion_cpu_limit = 600\n")
        _ = try Self.encryptedType(service)
        func image(_ volume: String) -> String { "file.driver=file,file.filename=\(service.state)/volumes/file/volume-\(volume)" }
        let plain = try glance.image(data: [UInt8](repeating: 0x43, count: 1 << 20))
        let volume = try Self.secret(service, ["imageRef": .string(plain)])
        let made = try #require(try service.volume(volume))
        #expect(made["bootable"] == "true" && made["encrypted"] == true)
        _ = try await Self.run(
            "cryptsetup",
            [
                "open", "--test-passphrase", "--key-file", try await Self.passphrase(service, volume),
                "\(service.state)/volumes/file/volume-\(volume)",
            ])
        _ = try await Self.io(service, volume, image(volume), "read -P 0x43 0 1M")

        func upload(_ members: JSONObject = [:]) throws -> ServiceUnderTest.Answer {
            var body: JSONObject = ["image_name": "secret"]
            for (name, value) in members.members { body[name] = value }
            return try service.api("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": .object(body)])
        }
        #expect(try upload(["disk_format": "qcow2"]).message?.contains("must use 'raw' disk_format") == true)
        let sent = try upload()
        let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
        try service.wait(volume, "available", seconds: 120)
        let shown = try #require(try glance.show(id))
        #expect(shown["status"] == "active" && shown["cinder_encryption_key_deletion_policy"] == "on_image_deletion", "\(shown.text)")
        let imageKey = try #require(shown["cinder_encryption_key_id"]?.string)
        #expect(try imageKey != Self.keyID(service, volume) && Self.keys(service) == 2)

        let back = try service.create(["volume_type": "secret", "imageRef": .string(id)])
        try service.wait(back, "available", seconds: 120)
        #expect(try Self.keyID(service, back) != imageKey && Self.keys(service) == 3)
        #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
        try service.wait(volume, nil)
        _ = try await Self.io(service, back, image(back), "read -P 0x43 0 1M")

        // Whoever can say of his image that it has somebody's key gets no volume of it.
        let lie = try glance.image(["cinder_encryption_key_id": .string(imageKey)], data: [1])
        let refused = try service.api("POST", "/volumes", ["volume": ["size": 1, "volume_type": "secret", "imageRef": .string(lie)]])
        #expect(refused.status == 400 && refused.message?.contains("was not made for it by this service") == true, "\(refused.text)")

        // Given to another project, nothing of it changes but who owns it.
        let offer = try service.api("POST", "/volume-transfers", ["transfer": ["volume_id": .string(back)]]).json["transfer"]
        let (transfer, word) = (try #require(offer?["id"]?.string), try #require(offer?["auth_key"]))
        let accepted = try service.api("POST", "/volume-transfers/\(transfer)/accept", ["accept": ["auth_key": word]])
        #expect(accepted.status == 202, "\(accepted.text)")
        try service.wait(back, "available")
        _ = try await Self.io(service, back, image(back), "read -P 0x43 0 1M")
        #expect(try service.api("DELETE", "/volumes/\(back)").status == 202)
        try service.wait(back, nil)
        #expect(Self.keys(service) == 1 && !service.log.contains("passphrase"))
    }

    @Test("an image is written over an encrypted volume: a plain one by the volume's key, an encrypted one with its own")
    func reimage() async throws {
        let glance = try GlanceUnderTest.open.get()
        let service = try ServiceUnderTest(options: "glance_api_servers = \(glance.address)\n")
        _ = try Self.encryptedType(service)
        func image(_ volume: String) -> String { "file.driver=file,file.filename=\(service.state)/volumes/file/volume-\(volume)" }
        func reimage(_ volume: String, _ image: String) throws -> ServiceUnderTest.Answer {
            try service.api("POST", "/volumes/\(volume)/action", ["os-reimage": ["image_id": .string(image)]])
        }
        let (old, new) = try (
            glance.image(data: [UInt8](repeating: 0x43, count: 2 << 20)), glance.image(data: [UInt8](repeating: 0x45, count: 1 << 20))
        )
        let volume = try Self.secret(service, ["imageRef": .string(old)])
        let key = try Self.keyID(service, volume)
        // What lies in a snapshot is opened by the volume's key, too.
        let snapshot = try #require(
            try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volume)]]).json["snapshot"]?["id"]?.string)
        try Self.eventually { try service.api("GET", "/snapshots/\(snapshot)").json["snapshot"]?["status"] == "available" }
        let accepted = try reimage(volume, new)
        #expect(accepted.status == 202, "\(accepted.text)")
        try service.wait(volume, "available", seconds: 120)
        #expect(try Self.keyID(service, volume) == key && Self.keys(service) == 1)
        _ = try await Self.io(service, volume, image(volume), "read -P 0x45 0 1M")
        #expect(try service.volume(volume)?["volume_image_metadata"]?["image_id"] == .string(new))
        let kept = try Self.secret(service, ["snapshot_id": .string(snapshot)])
        _ = try await Self.io(service, kept, image(kept), "read -P 0x43 0 2M")

        let sent = try service.api("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "secret"]])
        let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
        try service.wait(volume, "available", seconds: 120)
        let refused = try reimage(volume, id)
        #expect(refused.status == 400 && refused.message?.contains("has snapshots") == true, "\(refused.text)")
        let other = try Self.secret(service)
        let first = try Self.keyID(service, other)
        #expect(try reimage(other, id).status == 202)
        try service.wait(other, "available", seconds: 120)
        #expect(try Self.keyID(service, other) != first)
        // Of the volumes, and of the image: the first key of `other` is deleted behind it.
        try Self.eventually { Self.keys(service) == 4 }
        _ = try await Self.io(service, other, image(other), "read -P 0x45 0 1M")
        #expect(!service.log.contains("passphrase") && service.stop() == 0)
    }

    private static func eventually(line: Int = #line, _ condition: () throws -> Bool) throws {
        let limit = Timestamp.monotonic() + 180
        while try !condition() {
            guard Timestamp.monotonic() < limit else {
                throw ServiceUnderTest.Failure("what line \(line) waits for did not come to pass within three minutes")
            }
            usleep(20_000)
        }
    }

    @Test("the key of an image that is deleted goes, and stays where the service's account does not see whether it is")
    func imageKeys() async throws {
        let glance = try GlanceUnderTest.shared.get()
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service(options: "image_key_retention = 1\n", account: "glance")
        func ask(_ method: String, _ path: String, _ body: JSON? = nil, user: String = "alice") throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)",
                headers: [("X-Auth-Token", try keystone.token(user, project: "alpha")), ("OpenStack-API-Version", "volume 3.71")],
                body: body?.text)
        }
        let made = try ask("POST", "/types", ["volume_type": ["name": "secret"]], user: "root")
        let type = try #require(made.json["volume_type"]?["id"]?.string, "\(made.text)")
        let record: JSON = [
            "encryption": ["provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256]
        ]
        #expect(try ask("POST", "/types/\(type)/encryption", record, user: "root").status == 200)
        let created = try ask("POST", "/volumes", ["volume": ["size": 1, "volume_type": "secret"]])
        let volume = try #require(created.json["volume"]?["id"]?.string, "\(created.text)")
        func isAvailable() throws -> Bool { try ask("GET", "/volumes/\(volume)").json["volume"]?["status"] == "available" }
        func upload() throws -> String {
            try Self.eventually(isAvailable)
            let sent = try ask("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "secret"]])
            let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
            try Self.eventually(isAvailable)
            #expect(try glance.show(id)?["status"] == "active")
            return id
        }
        // Of another project, whatever else there is.
        _ = try glance.image(["visibility": "private"], data: [1])
        let (gone, kept) = (try upload(), try upload())
        #expect(Self.keys(service) == 3)
        #expect(try glance.ask("DELETE", "/v2/images/\(gone)").status == 204)
        try Self.eventually { Self.keys(service) == 2 }
        let key = try #require(try glance.show(kept)?["cinder_encryption_key_id"]?.string)
        _ = try await FileKeyStore(service.state + "/keys").key(key)
        #expect(try await DoctorTests.examine(service).findings.isEmpty)
        #expect(service.stop() == 0)

        // An account that sees nobody else's images is told of all that they are not there.
        try ServiceUnderTest.write(
            service.configuration,
            ServiceUnderTest.read(service.configuration).replacing("username = glance", with: "username = clinker")
                .replacing("password = glance-secret", with: "password = clinker-secret"))
        try service.start()
        var findings: [JSON] = []
        let limit = Timestamp.monotonic() + 60
        while findings.isEmpty, Timestamp.monotonic() < limit { findings = try await DoctorTests.examine(service).findings }
        #expect(findings.count == 1 && findings[0]["kind"] == "key", "\(findings)")
        #expect(findings.first?["text"]?.string?.contains("gone or hidden") == true, "\(findings)")
        _ = try await FileKeyStore(service.state + "/keys").key(key)
        #expect(Self.keys(service) == 2 && service.stop() == 0)
    }

    @Test("a volume in Ceph begins with a LUKS header that its key opens, clones and all", arguments: [256, 512])
    func ceph(keySize: Int) async throws {
        let service = try ServiceUnderTest(backends: "rbd", sections: "[rbd]\n\(StorageUnderTest.rbdSection())\n")
        _ = try Self.encryptedType(service, keySize: keySize)
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        func image(_ volume: String) -> String {
            "file.driver=rbd,file.pool=volumes,file.image=volume-\(volume),file.user=cinder,file.conf=\(conf)"
        }
        let volume = try Self.secret(service)
        let header = service.directory + "/header"
        _ = try await Self.run(
            "/bin/bash",
            ["-c", "CEPH_CONF=\(conf) rbd --id cinder -p volumes export --no-progress volume-\(volume) - | head -c 8M > \(header)"])
        let dump = try await Self.run("cryptsetup", ["luksDump", header])
        #expect(dump.contains("Cipher mode:   \txts-plain64") && dump.contains("Version:       \t1"), "\(dump)")
        _ = try await Self.run(
            "cryptsetup", ["open", "--test-passphrase", "--key-file", try await Self.passphrase(service, volume), header])
        _ = try await Self.io(service, volume, image(volume), "write -P 0x42 0 1M")
        let clone = try Self.secret(service, ["source_volid": .string(volume), "size": 2])
        #expect(try Self.keyID(service, clone) != Self.keyID(service, volume))
        _ = try await Self.io(service, clone, image(clone), "read -P 0x42 0 1M")
        for id in [clone, volume] {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil, seconds: 60)
        }
        #expect(Self.keys(service) == 0)
    }

    /// What lies in a volume on NFS, in qemu's words: a raw file, whatever else the backend makes.
    private static func nfsFile(_ volume: String) throws -> String {
        try StorageUnderTest.nfs.get().directory + "/export/volume-" + volume
    }
    private static func nfsImage(_ volume: String) throws -> String { "file.driver=file,file.filename=\(try nfsFile(volume))" }

    private static func remove(_ service: ServiceUnderTest, _ volumes: [String]) throws {
        for one in volumes {
            #expect(try service.api("DELETE", "/volumes/\(one)").status == 202)
            try service.wait(one, nil, seconds: 60)
        }
    }

    @Test("a volume on NFS is a raw file with a LUKS header, snapshots, clones and all", arguments: [false, true])
    func nfs(makesQcow2: Bool) async throws {
        let service = try ServiceUnderTest(
            backends: "nfs", sections: "[nfs]\n\(StorageUnderTest.nfsSection("nfs_qcow2_volumes = \(makesQcow2)"))\n")
        _ = try Self.encryptedType(service)
        let volume = try Self.secret(service)
        let dump = try await Self.run("cryptsetup", ["luksDump", Self.nfsFile(volume)])
        #expect(dump.contains("Cipher mode:   \txts-plain64") && dump.contains("Version:       \t1"), "\(dump)")
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "write -P 0x42 0 1M", "write -P 0x43 500M 64k")

        let snapshot = try #require(
            try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volume)]]).json["snapshot"]?["id"]?.string)
        try Self.eventually { try service.api("GET", "/snapshots/\(snapshot)").json["snapshot"]?["status"] == "available" }
        // The file stays the one that hosts are told, as what it is.
        let connector: JSON = ["host": "peer", "ip": "127.0.0.1", "initiator": "iqn.test"]
        let connection = try service.api("POST", "/volumes/\(volume)/action", ["os-initialize_connection": ["connector": connector]])
        let data = connection.json["connection_info"]?["data"]
        #expect(data?["format"] == "raw" && data?["name"] == .string("volume-\(volume)"), "\(connection.text)")
        #expect(data?["encrypted"] == true)
        #expect(
            try service.api("POST", "/volumes/\(volume)/action", ["os-terminate_connection": ["connector": connector]]).status == 202)
        try Self.eventually { try service.volume(volume)?["status"] == "available" }
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "write -P 0x44 0 1M")
        #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-extend": ["new_size": 2]]).status == 202)
        try service.wait(volume, "available", seconds: 60)

        let (clone, other) = try (
            Self.secret(service, ["source_volid": .string(volume), "size": 3]), Self.secret(service, ["snapshot_id": .string(snapshot)])
        )
        #expect(Set(try [volume, clone, other].map { try Self.keyID(service, $0) }).count == 3)
        for (one, byte) in [(volume, 0x44), (clone, 0x44), (other, 0x42)] {
            _ = try await Self.io(service, one, Self.nfsImage(one), "read -P \(byte) 0 1M", "read -P 0x43 500M 64k")
        }
        #expect(try await DoctorTests.examine(service).findings.isEmpty)

        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try Self.eventually { try service.api("GET", "/snapshots/\(snapshot)").status == 404 }
        try Self.remove(service, [volume, clone, other])
        #expect(Self.keys(service) == 0)
        let left = try StorageUnderTest.volumes(in: StorageUnderTest.nfs.get().directory + "/export")
        #expect(!left.contains { name in [volume, clone, other].contains { name.contains($0) } }, "\(left)")
        #expect(service.stop() == 0)
    }

    @Test("an encrypted volume on NFS is reverted to a snapshot, and what it was extended by is empty")
    func revertedOnNFS() async throws {
        let service = try ServiceUnderTest(backends: "nfs", sections: "[nfs]\n\(StorageUnderTest.nfsSection())\n")
        _ = try Self.encryptedType(service)
        let volume = try Self.secret(service)
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "write -P 0x42 0 1M")
        let snapshot = try #require(
            try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volume)]]).json["snapshot"]?["id"]?.string)
        try Self.eventually { try service.api("GET", "/snapshots/\(snapshot)").json["snapshot"]?["status"] == "available" }
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "write -P 0x44 0 1M")
        #expect(
            try service.api("POST", "/volumes/\(volume)/action", version: "3.40", ["revert": ["snapshot_id": .string(snapshot)]]).status
                == 202)
        try service.wait(volume, "available", seconds: 60)
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "read -P 0x42 0 1M")
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try Self.eventually { try service.api("GET", "/snapshots/\(snapshot)").status == 404 }
        try Self.remove(service, [volume])
    }

    @Test("images come into an encrypted volume on NFS, go out of it, and over it; its backup is a volume again")
    func imagesOnNFS() async throws {
        let glance = try GlanceUnderTest.open.get()
        let store = temporaryDirectory("store")
        let service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\nimage_conversion_cpu_limit = 600\n"
                + "backup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = \(store)\n",
            backends: "nfs", sections: "[nfs]\n\(StorageUnderTest.nfsSection("nfs_qcow2_volumes = true"))\n")
        try ChangedBackupTests.waitForStore(service)
        _ = try Self.encryptedType(service)
        let (plain, next) = try (
            glance.image(data: [UInt8](repeating: 0x45, count: 1 << 20)), glance.image(data: [UInt8](repeating: 0x46, count: 1 << 20))
        )
        let volume = try Self.secret(service, ["imageRef": .string(plain)])
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "read -P 0x45 0 1M")
        let sent = try service.api("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "secret"]])
        let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
        try service.wait(volume, "available", seconds: 120)
        let back = try Self.secret(service, ["imageRef": .string(id)])
        _ = try await Self.io(service, back, Self.nfsImage(back), "read -P 0x45 0 1M")

        let over = try service.api("POST", "/volumes/\(back)/action", ["os-reimage": ["image_id": .string(next)]])
        #expect(over.status == 202, "\(over.text)")
        try service.wait(back, "available", seconds: 120)
        _ = try await Self.io(service, back, Self.nfsImage(back), "read -P 0x46 0 1M")

        let backup = try BackupTests.backup(service, of: back, [:])
        try BackupTests.wait(service, backup, "available")
        let restored = try Self.secret(service, ["backup_id": .string(backup)])
        _ = try await Self.io(service, restored, Self.nfsImage(restored), "read -P 0x46 0 1M")
        #expect(try Self.keyID(service, restored) != Self.keyID(service, back))
        try Self.remove(service, [volume, back, restored])
        #expect(!service.log.contains("passphrase") && service.stop() == 0)
    }

    @Test("an encrypted volume moves between NFS and Ceph, and from NFS to a backend of devices, but not back")
    func movesOffNFS() async throws {
        let service = try ServiceUnderTest(
            backends: "nfs,rbd,file",
            sections: "[nfs]\n\(StorageUnderTest.nfsSection("volume_backend_name = nfs"))\n"
                + "[rbd]\n\(StorageUnderTest.rbdSection("volume_backend_name = rbd"))\n"
                + "[file]\nvolume_driver = file\nvolume_backend_name = file\n")
        _ = try Self.encryptedType(service)
        func pool(_ backend: String) throws -> String {
            let pools = try service.api("GET", "/scheduler-stats/get_pools").json["pools"]?.array?.compactMap { $0["name"]?.string } ?? []
            return try #require(pools.first { $0.contains("@\(backend)#") }, "\(pools)")
        }
        // Its type names no backend, which would bind it.
        func serve(_ action: String) throws {
            for backend in ["rbd", "file"] {
                let host = String(try pool(backend).split(separator: "#")[0])
                let answer = try service.api("PUT", "/os-services/\(action)", ["host": .string(host), "binary": "cinder-volume"])
                #expect(answer.status == 200, "\(answer.text)")
            }
        }
        try serve("disable")
        let volume = try Self.secret(service)
        try serve("enable")
        #expect(try service.volume(volume)?["os-vol-host-attr:host"]?.string?.contains("@nfs#") == true)
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "write -P 0x47 0 1M")
        func move(_ backend: String) throws -> String {
            let answer = try service.api("POST", "/volumes/\(volume)/action", ["os-migrate_volume": ["host": .string(try pool(backend))]])
            #expect(answer.status == 202, "\(answer.text)")
            try Self.eventually { !["migrating", "starting"].contains(try service.volume(volume)?["migration_status"]?.string ?? "") }
            return try #require(try service.volume(volume)?["os-vol-host-attr:host"]?.string)
        }
        #expect(try move("rbd").contains("@rbd#"))
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        _ = try await Self.io(
            service, volume, "file.driver=rbd,file.pool=volumes,file.image=volume-\(volume),file.user=cinder,file.conf=\(conf)",
            "read -P 0x47 0 1M")
        #expect(try move("nfs").contains("@nfs#"))
        _ = try await Self.io(service, volume, Self.nfsImage(volume), "read -P 0x47 0 1M")
        #expect(try move("file").contains("@file#"))
        _ = try await Self.io(
            service, volume, "file.driver=file,file.filename=\(service.state)/volumes/file/volume-\(volume)", "read -P 0x47 0 1M")
        // What a host has not attached may be without a header there.
        #expect(try move("nfs").contains("@file#"))
        try Self.remove(service, [volume])
    }

    @Test("an image comes into an encrypted volume in Ceph behind a header that its hosts know, and one without a header is refused")
    func imagesInCeph() async throws {
        let glance = try GlanceUnderTest.open.get()
        let service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\nimage_conversion_cpu_limit = 600\n", backends: "rbd",
            sections: "[rbd]\n\(StorageUnderTest.rbdSection())\n")
        _ = try Self.encryptedType(service)
        let conf = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        func image(_ volume: String) -> String {
            "file.driver=rbd,file.pool=volumes,file.image=volume-\(volume),file.user=cinder,file.conf=\(conf)"
        }
        let plain = try glance.image(data: [UInt8](repeating: 0x44, count: 1 << 20))
        let volume = try Self.secret(service, ["imageRef": .string(plain)])
        _ = try await Self.io(service, volume, image(volume), "read -P 0x44 0 1M")
        let sent = try service.api("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "secret"]])
        let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
        try service.wait(volume, "available", seconds: 120)
        let back = try service.create(["volume_type": "secret", "imageRef": .string(id)])
        try service.wait(back, "available", seconds: 120)
        _ = try await Self.io(service, back, image(back), "read -P 0x44 0 1M")

        // As it would be of a volume elsewhere that no host ever attached.
        let descriptor = open(glance.directory + "/images/" + id, O_RDWR | O_CLOEXEC)
        #expect(pwrite(descriptor, [UInt8](repeating: 0, count: 4096), 4096, 0) == 4096)
        close(descriptor)
        let keys = Self.keys(service)
        let bare = try service.create(["volume_type": "secret", "imageRef": .string(id)])
        try service.wait(bare, "error", seconds: 120)
        let operation = try service.api("GET", "/operations?resource_id=\(bare)&limit=1").text
        #expect(operation.contains("disk format declared luks"), "\(operation)")
        #expect(Self.keys(service) == keys)
        for one in [volume, back, bare] {
            #expect(try service.api("DELETE", "/volumes/\(one)").status == 202)
            try service.wait(one, nil, seconds: 60)
        }
    }

    @Test("a backend whose hosts decrypt LUKS alone makes no volume of another kind, and leaves nothing of it")
    func otherProvider() async throws {
        let service = try ServiceUnderTest(backends: "rbd", sections: "[rbd]\n\(StorageUnderTest.rbdSection())\n")
        _ = try Self.encryptedType(service, provider: "luks2")
        let id = try service.create(["volume_type": "secret"])
        try service.wait(id, "error", seconds: 60)
        let operation = try service.api("GET", "/operations?resource_id=\(id)&limit=1").text
        #expect(operation.contains("the type's provider is 'luks2'"), "\(operation)")
        #expect(Self.keys(service) == 0)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
    }
}
