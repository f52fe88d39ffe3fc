import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes that are clones of images which their backend keeps, with a real Glance.
@Suite("Image cache", .serialized)
struct ImageCacheTests {
    let glance: GlanceUnderTest

    init() throws { glance = try GlanceUnderTest.open.get() }

    private static let tenant = "fedcba9876543210fedcba9876543210"

    private func service(_ file: String = "", options: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(
            options: """
                glance_api_servers = \(glance.address)
                glance_num_retries = 0
                quota_volumes = 30
                cinder_internal_tenant_project_id = \(Self.tenant)
                cinder_internal_tenant_user_id = keeper
                \(options)
                """,
            sections: "[file]\nvolume_driver = file\nimage_volume_cache_enabled = true\n\(file)\n")
    }

    /// Bytes of an image, another for every number.
    private func content(_ number: UInt8) -> [UInt8] { (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) ^ number } }

    private func require(_ content: [UInt8], in volume: String, gibibytes: Int = 1, _ service: ServiceUnderTest) throws {
        let descriptor = open(service.state + "/volumes/file/volume-" + volume, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ServiceUnderTest.Failure("the volume \(volume) has no file") }
        defer { close(descriptor) }
        #expect(lseek(descriptor, 0, SEEK_END) == gibibytes << 30)
        var bytes = [UInt8](repeating: 0xFF, count: content.count + 4096)
        #expect(pread(descriptor, &bytes, bytes.count, 0) == bytes.count)
        #expect(bytes[..<content.count].elementsEqual(content) && bytes[content.count...].allSatisfy { $0 == 0 })
    }

    /// Volumes of the internal project: name, and state.
    private func cached(_ service: ServiceUnderTest) throws -> [(id: String, name: String, status: String)] {
        let volumes = try service.api("GET", "/volumes/detail?all_tenants=1&project_id=\(Self.tenant)").json["volumes"]?.array ?? []
        return volumes.filter { $0["os-vol-tenant-attr:tenant_id"] == .string(Self.tenant) }.map {
            ($0["id"]?.string ?? "", $0["name"]?.string ?? "", $0["status"]?.string ?? "")
        }
    }

    /// Waits until the internal project has just these images, all of them whole.
    private func waitForCache(_ images: [String], _ service: ServiceUnderTest) throws {
        let wanted = images.map { "image-\($0) available" }.sorted()
        let limit = Timestamp.monotonic() + 20
        var seen: [String] = []
        repeat {
            seen = ((try? cached(service)) ?? []).map { "\($0.name) \($0.status)" }.sorted()
            if seen == wanted { return }
            usleep(20_000)
        } while Timestamp.monotonic() < limit
        throw ServiceUnderTest.Failure("cached are \(seen), not \(wanted)\n\(service.story)")
    }

    private func reads(_ service: ServiceUnderTest) -> Int { service.log.ranges(of: "image written to a volume").count }

    private func volume(of image: String, size: Int64 = 1, _ service: ServiceUnderTest) throws -> String {
        let id = try service.create(["imageRef": .string(image), "size": .integer(size)])
        try service.wait(id, "available")
        return id
    }

    @Test("an image is read once, however many volumes ask for it at a time; later ones, and larger ones, need no Image service's data")
    func hit() throws {
        let service = try service()
        let image = try glance.image(["name": "golden", "os_distro": "debian"], data: content(1))
        let volumes = try (0..<6).map { _ in try service.create(["imageRef": .string(image)]) }
        for id in volumes { try service.wait(id, "available") }
        #expect(reads(service) == 1)
        try waitForCache([image], service)
        unlink(glance.directory + "/images/" + image)
        let larger = try volume(of: image, size: 3, service)
        for id in volumes { try require(content(1), in: id, service) }
        try require(content(1), in: larger, gibibytes: 3, service)
        let shown = try #require(try service.volume(larger))
        #expect(shown["bootable"] == "true" && shown["source_volid"] == .null && shown["size"] == 3)
        #expect(shown["volume_image_metadata"]?["image_id"] == .string(image) && shown["volume_image_metadata"]?["os_distro"] == "debian")
        let quota = try service.api("GET", "/os-quota-sets/\(Self.tenant)?usage=true").json["quota_set"]
        #expect(quota?["volumes"]?["in_use"] == 1 && quota?["gigabytes"]?["in_use"] == 1)
        #expect(try service.usage("volumes") == 7 && service.usage("gigabytes") == 9)
        // A volume that is written to changes none but itself.
        let descriptor = open(service.state + "/volumes/file/volume-" + volumes[0], O_WRONLY | O_CLOEXEC)
        #expect(pwrite(descriptor, [9, 9, 9], 3, 0) == 3)
        close(descriptor)
        try require(content(1), in: try volume(of: image, service), service)
    }

    @Test("the longest unused image makes room for another, by their number and by their size")
    func eviction() async throws {
        let service = try service("image_volume_cache_max_count = 2\nimage_volume_cache_max_size_gb = 3")
        let images = try (1...3).map { try glance.image(data: content($0)) }
        _ = try volume(of: images[0], service)
        _ = try volume(of: images[1], service)
        _ = try volume(of: images[0], service)
        try waitForCache([images[0], images[1]], service)
        _ = try volume(of: images[2], service)
        try waitForCache([images[0], images[2]], service)
        // As large as the disk in it: 2 + 1 + 1 is over 3.
        let path = service.directory + "/disk.qcow2"
        #expect(try await ServiceUnderTest.run("/usr/bin/qemu-img", ["create", "-q", "-f", "qcow2", path, "2G"]).status == 0)
        let larger = try glance.image(["disk_format": "qcow2"], data: try ServiceUnderTest.bytes(path))
        let id = try volume(of: larger, size: 4, service)
        try waitForCache([images[2], larger], service)
        #expect(try service.volume(id)?["size"] == 4)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").count == 7)
    }

    @Test("an image that was changed in the Image service is read again, and what was kept of it goes")
    func change() throws {
        let service = try service()
        let image = try glance.image(data: content(1))
        _ = try volume(of: image, service)
        try waitForCache([image], service)
        let old = try cached(service)[0].id
        let before = try #require(try glance.show(image)?["updated_at"])
        repeat {
            usleep(100_000)
            let changed = try glance.ask(
                "PATCH", "/v2/images/\(image)", Array(#"[{"op": "replace", "path": "/name", "value": "\#(UUID.random())"}]"#.utf8),
                type: "application/openstack-images-v2.1-json-patch")
            #expect(changed.status == 200, "\(changed.text)")
        } while try glance.show(image)?["updated_at"] == before
        let again = try volume(of: image, service)
        try require(content(1), in: again, service)
        try service.wait(old, nil)
        try waitForCache([image], service)
        #expect(reads(service) == 2)
    }

    @Test("an internal project without quota, or none: volumes are made as without a cache")
    func quota() throws {
        let service = try service()
        #expect(try service.api("PUT", "/os-quota-sets/\(Self.tenant)", ["quota_set": ["volumes": 0]]).status == 200)
        let image = try glance.image(data: content(1))
        for _ in 0..<2 { try require(content(1), in: try volume(of: image, service), service) }
        #expect(reads(service) == 2)
        try waitForCache([], service)
        #expect(service.log.contains("the internal project's quota does not allow it"))
        let plain = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)", sections: "[file]\nvolume_driver = file\nimage_volume_cache_enabled = true\n"
        )
        try require(content(1), in: try volume(of: image, plain), plain)
        #expect(plain.log.contains("cinder_internal_tenant_project_id or cinder_internal_tenant_user_id is not set"))
    }

    @Test(
        "a core that is killed while the cache is filled, and while it makes room, goes on: every volume is whole, and nothing is left over"
    )
    func death() async throws {
        let service = try service("volume_copy_bps_limit = 100000\nimage_volume_cache_max_count = 1")
        let images = try (1...2).map { try glance.image(data: content($0)) }
        var volumes: [String] = []
        for (index, image) in images.enumerated() {
            let asked = try (0..<2).map { _ in try service.create(["imageRef": .string(image)]) }
            let limit = Timestamp.monotonic() + 20
            // The second one drives the first out: it is deleted, or about to be, when the core dies.
            while try !cached(service).contains(where: { $0.name == "image-\(image)" && $0.status == "downloading" }),
                Timestamp.monotonic() < limit
            {
                usleep(5_000)
            }
            #expect(Timestamp.monotonic() < limit, "nothing is cached")
            for core in service.processes("core") { kill(core, SIGKILL) }
            for id in asked {
                try service.wait(id, "available", seconds: 60)
                try require(content(UInt8(index + 1)), in: id, service)
            }
            volumes += asked
        }
        try waitForCache([images[1]], service)
        #expect(
            Set(ServiceUnderTest.entries(service.state + "/volumes/file").map { String($0.suffix(36)) })
                == Set(volumes + (try cached(service).map(\.id))))
        try await DoctorTests.expectNothing(service)
    }

    @Test("an image whose bytes are not those that it says is not kept, and nothing of it stays")
    func lies() throws {
        let service = try service()
        let image = try glance.image(data: content(1))
        let descriptor = open(glance.directory + "/images/" + image, O_RDWR | O_CLOEXEC)
        #expect(pwrite(descriptor, [0xAA], 1, 1000) == 1)
        close(descriptor)
        let id = try service.create(["imageRef": .string(image)])
        try service.wait(id, "error")
        try waitForCache([], service)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
        #expect(try service.api("GET", "/os-quota-sets/\(Self.tenant)?usage=true").json["quota_set"]?["gigabytes"]?["in_use"] == 0)
    }
}
