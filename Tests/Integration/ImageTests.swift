import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes of images and images of volumes, with a real Glance.
@Suite("Images", .serialized)
struct ImageTests {
    let glance: GlanceUnderTest

    init() throws { glance = try GlanceUnderTest.open.get() }

    private func service(_ options: String = "", file: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\nglance_num_retries = 0\n" + options,
            sections: "[file]\nvolume_driver = file\n" + file)
    }

    /// Bytes in which holes and data take turns, with an end that is no whole block.
    private static let content: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 3 << 20)
        var seed: UInt64 = 0x9E37_79B9_7F4A_7C15
        for index in bytes.indices where index % (1 << 19) < 70_000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            bytes[index] = UInt8(truncatingIfNeeded: seed >> 56)
        }
        return bytes + [1, 2, 3]
    }()

    /// The volume's first bytes, as many as the content has and one block more.
    private func bytes(of volume: String, _ service: ServiceUnderTest) throws -> [UInt8] {
        let descriptor = open(service.state + "/volumes/file/volume-" + volume, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ServiceUnderTest.Failure("the volume \(volume) has no file") }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0xFF, count: Self.content.count + 512)
        #expect(pread(descriptor, &bytes, bytes.count, 0) == bytes.count)
        return bytes
    }

    private func requireContent(_ volume: String, _ service: ServiceUnderTest) throws {
        let bytes = try bytes(of: volume, service)
        #expect(bytes[..<Self.content.count].elementsEqual(Self.content) && bytes[Self.content.count...].allSatisfy { $0 == 0 })
    }

    private func operation(of volume: String, _ service: ServiceUnderTest) throws -> JSON {
        try #require(try service.api("GET", "/operations?resource_id=\(volume)&limit=1").json["operations"]?.array?.first)
    }

    private func messages(_ service: ServiceUnderTest) throws -> [String] {
        try service.api("GET", "/messages").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
    }

    @Test("a volume holds its image and has its properties, an image made of it too, whatever its format, and so on")
    func thereAndBack() throws {
        let service = try service()
        let image = try glance.image(
            ["name": "there", "min_disk": 1, "min_ram": 64, "hw_disk_bus": "scsi", "os_distro": "debian"], data: Self.content)
        let volume = try service.create(["imageRef": .string(image)])
        let made = try #require(try service.wait(volume, "available"))
        #expect(made["bootable"] == "true")
        let metadata = made["volume_image_metadata"]
        for (name, value) in [
            "image_id": image, "image_name": "there", "container_format": "bare", "disk_format": "raw", "min_disk": "1", "min_ram": "64",
            "size": "\(Self.content.count)", "hw_disk_bus": "scsi", "os_distro": "debian",
        ] {
            #expect(metadata?[name] == .string(value), "\(name)")
        }
        #expect(metadata?["checksum"] == (try glance.show(image)?["checksum"]) && metadata?.object?.count == 10)
        try requireContent(volume, service)
        for format in ["qcow2", "vmdk", "vdi", "vhdx"] {
            let sent = try service.api(
                "POST", "/volumes/\(volume)/action",
                [
                    "os-volume_upload_image": [
                        "image_name": .string(format), "disk_format": .string(format), "visibility": "shared", "protected": false,
                    ]
                ])
            let answer = sent.json["os-volume_upload_image"]
            #expect(sent.status == 202 && answer?["status"] == "uploading" && answer?["id"] == .string(volume), "\(sent.text)")
            #expect(answer?["disk_format"] == .string(format) && answer?["visibility"] == "shared" && answer?["size"] == 1)
            #expect(answer?["volume_type"]?["name"] == "__DEFAULT__")
            try service.wait(volume, "available")
            let id = try #require(answer?["image_id"]?.string)
            let shown = try #require(try glance.show(id))
            #expect(shown["status"] == "active" && shown["name"] == .string(format), "\(shown.text) \(service.story)")
            #expect(shown["hw_disk_bus"] == "scsi" && shown["os_distro"] == "debian" && shown["min_disk"] == 0)
            let back = try service.create(["imageRef": .string(id)])
            try service.wait(back, "available")
            try requireContent(back, service)
        }
        #expect(ServiceUnderTest.entries(service.state + "/conversion").isEmpty)
    }

    @Test("an image keeps its bytes through volumes of each driver and images of every format, raw again its checksum")
    func everyFormat() async throws {
        let nfs = try StorageUnderTest.nfs.get()
        let kinds = FaultSample.isWholeForDrivers ? ["file", "rbd", "nfs"] : [FaultSample.one(of: ["file", "rbd", "nfs"])]
        let service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)\n", backends: "file,rbd,nfs",
            sections: "[file]\nvolume_driver = file\n[rbd]\n\(try StorageUnderTest.rbdSection())\n"
                + "[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        for kind in kinds {
            let made = try service.api(
                "POST", "/types", ["volume_type": ["name": .string(kind), "extra_specs": ["volume_backend_name": .string(kind)]]])
            #expect(made.status == 200)
        }
        let result = try await ServiceUnderTest.run(
            "/usr/bin/python3",
            [
                ServiceUnderTest.sources + "/clients/images.py", "http://127.0.0.1:\(service.port)", glance.address,
                glance.directory + "/images",
            ]
                + kinds)
        #expect(result.status == 0, "\(result.output)\n\(service.story)")
        #expect(StorageUnderTest.volumes(in: nfs.directory + "/export").isEmpty)
        try await DoctorTests.expectNothing(service)
    }

    @Test("an image is found by its id, by a URL that ends in it, and by its name; two of one name are a conflict")
    func references() throws {
        let service = try service()
        let name = "name of one, \(UUID.random())"
        let image = try glance.image(["name": .string(name)], data: [1, 2, 3])
        for reference in [image, "http://glance/v2/images/\(image)", name] {
            let answer = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(reference)]])
            #expect(answer.status == 202, "\(reference): \(answer.text)")
            try service.wait(answer.json["volume"]?["id"]?.string ?? "", "available")
        }
        _ = try glance.image(["name": .string(name)], data: nil)
        let both = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(name)]])
        #expect(both.status == 409 && both.message == "Multiple matches found for '\(name)', use an ID to be more specific.")
    }

    @Test("an image of which no volume can be made is refused in Cinder's words, and nothing is made")
    func refusals() throws {
        let service = try service()
        func refused(_ image: String, _ message: String, status: Int = 400) throws {
            let answer = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
            #expect(answer.status == status && answer.message == message, "\(answer.text)")
        }
        let unseen = "Invalid image identifier or unable to access requested image."
        for nothing in ["11111111-2222-4333-8444-555555555555", "no such name", "../../etc/passwd", "%2e%2e", "é"] {
            try refused(nothing, unseen)
        }
        let queued = try glance.image(data: nil)
        try refused(queued, "Invalid input received: Image \(queued) is not active.")
        let large = try glance.image(["min_disk": 2], data: [1])
        try refused(large, "Invalid input received: Volume size 1GB cannot be smaller than the image minDisk size 2GB.")
        let typed = try glance.image(["cinder_img_volume_type": "nothing"], data: [1])
        try refused(typed, "Volume type with name nothing could not be found.", status: 404)
        #expect(try service.api("GET", "/volumes").json["volumes"] == [])
        #expect(try service.usage("volumes") == 0)
        let volume = try service.create()
        try service.wait(volume, "available")
        let missing = try service.api(
            "POST", "/volumes/\(volume)/action", ["os-reimage": ["image_id": "11111111-2222-4333-8444-555555555555"]])
        #expect(missing.status == 404 && missing.message == "Image 11111111-2222-4333-8444-555555555555 could not be found.")
        let small = try service.api("POST", "/volumes/\(volume)/action", ["os-reimage": ["image_id": .string(large)]])
        #expect(small.status == 400 && small.message?.contains("minDisk size 2GB") == true)
        let compressed = try service.api(
            "POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "i", "container_format": "compressed"]])
        #expect(compressed.status == 400)
        #expect(try service.volume(volume)?["status"] == "available")
    }

    @Test("an image whose bytes are not those that it says leaves a volume in error, a message, and nothing in the storage")
    func lies() throws {
        let service = try service()
        let image = try glance.image(data: Self.content)
        let descriptor = open(glance.directory + "/images/" + image, O_RDWR | O_CLOEXEC)
        #expect(pwrite(descriptor, [0xAA], 1, 1000) == 1)
        close(descriptor)
        let volume = try service.create(["imageRef": .string(image)])
        let failed = try service.wait(volume, "error")
        #expect(failed?["bootable"] == "false" && failed?["volume_image_metadata"] == nil)
        #expect(try messages(service) == ["VOLUME_VOLUME_005_104"])
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
        #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
        try service.wait(volume, nil)
        #expect(try service.usage("gigabytes") == 0)
    }

    @Test("a Glance that does not answer: 503, and nothing is made; while a volume waits for its image the volume is in error")
    func away() throws {
        let port = try Loopback.freePort()
        let service = try ServiceUnderTest(options: "glance_api_servers = http://127.0.0.1:\(port)\nglance_num_retries = 1")
        let image = "11111111-2222-4333-8444-555555555555"
        let answer = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
        #expect(answer.status == 503 && answer.header("Retry-After") == "30", "\(answer.text)")
        let volume = try service.create()
        try service.wait(volume, "available")
        for action: JSON in [["os-volume_upload_image": ["image_name": "i"]], ["os-reimage": ["image_id": .string(image)]]] {
            #expect(try service.api("POST", "/volumes/\(volume)/action", action).status == 503)
        }
        #expect(try service.volume(volume)?["status"] == "available")
        #expect(try service.api("GET", "/volumes").json["volumes"]?.array?.count == 1)
    }

    @Test("a core that is killed while an image comes goes on with it, and one that is cancelled leaves nothing")
    func death() throws {
        let service = try service(file: "volume_copy_bps_limit = 2000000\n")
        let image = try glance.image(data: Self.content)
        let volume = try service.create(["imageRef": .string(image)])
        try service.wait(volume, "downloading")
        for core in service.processes("core") { kill(core, SIGKILL) }
        try service.wait(volume, "available")
        try requireContent(volume, service)
        let other = try service.create(["imageRef": .string(image)])
        try service.wait(other, "downloading")
        let id = try operation(of: other, service)["id"]?.string ?? ""
        #expect(try service.api("POST", "/operations/\(id)/cancel").status == 202)
        try service.wait(other, "error")
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file") == ["volume-" + volume])
    }

    @Test("an image is written over a volume, whose old content and image metadata are gone")
    func reimage() throws {
        let service = try service()
        let (old, new) = (try glance.image(["a": "b"], data: [UInt8](repeating: 7, count: 4 << 20)), try glance.image(data: Self.content))
        let volume = try service.create(["imageRef": .string(old)])
        try service.wait(volume, "available")
        #expect(
            try service.api("POST", "/volumes/\(volume)/action", version: "3.67", ["os-reimage": ["image_id": .string(new)]]).status == 404)
        #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-reimage": ["image_id": .string(new)]]).status == 202)
        let done = try service.wait(volume, "available")
        #expect(done?["volume_image_metadata"]?["image_id"] == .string(new) && done?["volume_image_metadata"]?["a"] == nil)
        try requireContent(volume, service)
    }

    private static let instance = "11111111-2222-4333-8444-555555555555"

    private func attached(_ service: ServiceUnderTest, holding image: String) throws -> String {
        let volume = try service.create(["imageRef": .string(image)])
        try service.wait(volume, "available")
        #expect(
            try service.api(
                "POST", "/volumes/\(volume)/action",
                ["os-attach": ["instance_uuid": .string(Self.instance), "mountpoint": "/dev/vdb", "mode": "rw"]]
            ).status == 202)
        return volume
    }

    @Test("an image of a volume in use is made with force where the option allows it, and holds what the volume held when it was asked for")
    func attachedVolume() throws {
        let service = try service("enable_force_upload = true\n")
        let volume = try attached(service, holding: try glance.image(data: Self.content))
        func upload(_ members: JSONObject) throws -> ServiceUnderTest.Answer {
            // Without its holes: Glance writes a raw image to the disk as a whole.
            var body: JSONObject = ["image_name": "of use", "disk_format": "qcow2"]
            for (name, value) in members.members { body[name] = value }
            return try service.api("POST", "/volumes/\(volume)/action", ["os-volume_upload_image": .object(body)])
        }
        for members: JSONObject in [[:], ["force": false]] {
            let refused = try upload(members)
            #expect(
                refused.status == 400 && refused.message == "Invalid volume: Volume \(volume) status must be available", "\(refused.text)")
        }
        let sent = try upload(["force": true])
        #expect(sent.status == 202 && sent.json["os-volume_upload_image"]?["status"] == "uploading", "\(sent.text)")
        // While it is there, its user writes on.
        func snapshots() -> [String] { ServiceUnderTest.entries(service.state + "/volumes/file").filter { $0.contains("snapshot") } }
        func isMade() -> Bool { snapshots().contains { !$0.hasSuffix(".partial") } }
        var limit = Timestamp.monotonic() + 60
        while !isMade(), try service.volume(volume)?["status"] == "uploading", Timestamp.monotonic() < limit { usleep(1_000) }
        #expect(Timestamp.monotonic() < limit, "no snapshot is made")
        // A death in the middle changes nothing about it.
        for core in service.processes("core") { kill(core, SIGKILL) }
        let descriptor = open(service.state + "/volumes/file/volume-" + volume, O_WRONLY | O_CLOEXEC)
        #expect(pwrite(descriptor, [UInt8](repeating: 0xEE, count: 4096), 4096, 0) == 4096)
        close(descriptor)
        try service.wait(volume, "in-use")
        let image = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string)
        #expect(try glance.show(image)?["status"] == "active")
        let back = try service.create(["imageRef": .string(image)])
        try service.wait(back, "available")
        try requireContent(back, service)
        limit = Timestamp.monotonic() + 60
        while !snapshots().isEmpty, Timestamp.monotonic() < limit { usleep(10_000) }
        #expect(snapshots().isEmpty)
        #expect(try service.volume(volume)?["attachments"]?.array?.count == 1)
    }

    @Test("of an upload that fails no image is left, though it was to be protected")
    func protectedImage() throws {
        let service = try service("image_conversion_disable = true\n")
        let volume = try service.create()
        try service.wait(volume, "available")
        let sent = try service.api(
            "POST", "/volumes/\(volume)/action",
            ["os-volume_upload_image": ["image_name": "kept", "disk_format": "qcow2", "protected": true]])
        let image = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string)
        try service.wait(volume, "available")
        #expect(try operation(of: volume, service)["state"] == "failed")
        #expect(try glance.ask("GET", "/v2/images/\(image)").status == 404)
    }

    @Test("without the option force is passed over, and of a volume that is available it makes no difference")
    func forceWithoutOption() throws {
        let service = try service()
        let volume = try attached(service, holding: try glance.image(data: [1, 2, 3]))
        let body: JSON = ["os-volume_upload_image": ["image_name": "i", "force": true, "disk_format": "qcow2"]]
        let refused = try service.api("POST", "/volumes/\(volume)/action", body)
        #expect(refused.status == 400 && refused.message == "Invalid volume: Volume \(volume) status must be available", "\(refused.text)")
        #expect(try service.volume(volume)?["status"] == "in-use")
        #expect(try service.api("POST", "/volumes/\(volume)/action", ["os-detach": [:]]).status == 202)
        try service.wait(volume, "available")
        #expect(try service.api("POST", "/volumes/\(volume)/action", body).status == 202)
        try service.wait(volume, "available")
    }

    @Test("an image that its user may not see is none, though Clinker's own account sees it; what a user may not publish is refused")
    func visibility() throws {
        let glance = try GlanceUnderTest.shared.get()
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service(account: "glance")
        func ask(_ user: String, _ project: String, _ path: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
            try service.request(
                "POST", "/v3/\(keystone.project(project))\(path)",
                headers: [("X-Auth-Token", try keystone.token(user, project: project)), ("OpenStack-API-Version", "volume 3.71")],
                body: body.text)
        }
        let image = try glance.image(["visibility": "private"], data: Self.content)
        let stolen = try ask("bob", "beta", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
        #expect(stolen.status == 400 && stolen.message == "Invalid image identifier or unable to access requested image.")
        let made = try ask("alice", "alpha", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
        let volume = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        let limit = Timestamp.monotonic() + 20
        func status() throws -> String? {
            try service.request(
                "GET", "/v3/\(keystone.project("alpha"))/volumes/\(volume)",
                headers: [("X-Auth-Token", try keystone.token("alice", project: "alpha"))]
            ).json["volume"]?["status"]?.string
        }
        while try status() != "available", Timestamp.monotonic() < limit { usleep(50_000) }
        #expect(try status() == "available", "\(service.story)")
        let key = "os-volume_upload_image"
        let published = try ask(
            "alice", "alpha", "/volumes/\(volume)/action", .object([key: ["image_name": "i", "visibility": "public"]]))
        #expect(published.status == 403 && published.message?.contains("upload_public") == true)
        let token = try keystone.token("glance", project: "service")
        #expect(!service.log.contains(token) && !service.log.contains("glance-secret"))
    }
}
