import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes that are clones of what a real Glance keeps in the same real Ceph cluster.
@Suite("Images in Ceph", .serialized)
struct StoredImageTests {
    private let glance: GlanceUnderTest
    private let service: ServiceUnderTest
    private let configuration: String

    init() throws {
        glance = try GlanceUnderTest.ceph.get()
        configuration = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        service = try ServiceUnderTest(
            options: "glance_api_servers = \(glance.address)", backends: "rbd", sections: "[rbd]\n\(StorageUnderTest.rbdSection())\n")
    }

    private func run(_ command: String) async throws -> String {
        let result = try await ServiceUnderTest.run(
            "/usr/bin/timeout", ["60", "/bin/bash", "-c", "export CEPH_CONF=\(configuration); set -o pipefail; \(command)"])
        guard result.status == 0 else { throw ServiceUnderTest.Failure("\(command): \(result.output)") }
        return result.output
    }

    /// What the volume is a clone of; nil: of nothing.
    private func parent(of volume: String) async throws -> String? {
        let info = try JSON(parsing: try await run("rbd info --format json volumes/volume-\(volume)"))
        guard let parent = info["parent"] else { return nil }
        return "\(parent["pool"]?.string ?? "")/\(parent["image"]?.string ?? "")@\(parent["snapshot"]?.string ?? "")"
    }

    private func volume(of image: String, size: Int64 = 1) throws -> String {
        let id = try service.create(["imageRef": .string(image), "size": .integer(size)])
        try service.wait(id, "available", seconds: 40)
        return id
    }

    private static let content: [UInt8] = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 9) }

    private func requireContent(_ volume: String, gibibytes: Int) async throws {
        let (mine, its) = (service.directory + "/mine", service.directory + "/its")
        let file = open(mine, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        #expect(write(file, Self.content, Self.content.count) == Self.content.count && ftruncate(file, 4 << 20) == 0)
        close(file)
        _ = try await run("qemu-img dd -f raw -O raw bs=1M count=4 if=rbd:volumes/volume-\(volume):id=cinder:conf=$CEPH_CONF of=\(its)")
        #expect(try FileContent.difference(mine, its) == nil)
        let info = try JSON(parsing: try await run("rbd info --format json volumes/volume-\(volume)"))
        #expect(info["size"]?.integer == Int64(gibibytes) << 30)
    }

    private var reads: Int { service.log.ranges(of: "image written to a volume").count }

    @Test("a raw image of the same cluster is cloned and not read, and the clone grows to the volume's size")
    func clone() async throws {
        let image = try glance.image(["name": "stored", "os_distro": "debian"], data: Self.content)
        let id = try volume(of: image, size: 2)
        #expect(try await parent(of: id) == "images/\(image)@snap" && reads == 0, "\(service.story)")
        try await requireContent(id, gibibytes: 2)
        let shown = try service.volume(id)
        #expect(shown?["bootable"] == "true" && shown?["volume_image_metadata"]?["os_distro"] == "debian")
        // The image stays as long as its clone does, and goes then.
        #expect(try glance.ask("DELETE", "/v2/images/\(image)").status == 409)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(try glance.ask("DELETE", "/v2/images/\(image)").status == 204)
    }

    @Test("what is not raw, or lies under another name than the Image service gives, is read; nobody is given a clone of somebody's volume")
    func read() async throws {
        let image = try glance.image(data: Self.content)
        let fsid = try #require(try glance.show(image)?["direct_url"]?.string?.split(separator: "/").dropFirst().first)
        // Somebody tells the Image service that his image lies where another's does.
        let other = try glance.image(data: nil)
        let location = "rbd://\(fsid)/images/\(image)/snap"
        let told = try glance.ask(
            "PATCH", "/v2/images/\(other)",
            Array(#"[{"op": "replace", "path": "/locations", "value": [{"url": "\#(location)", "metadata": {}}]}]"#.utf8),
            type: "application/openstack-images-v2.1-json-patch")
        #expect(told.status == 200 && told.json["status"] == "active", "\(told.text)")
        let id = try volume(of: other)
        #expect(try await parent(of: id) == nil && reads == 1)
        try await requireContent(id, gibibytes: 1)
        let path = service.directory + "/disk.qcow2"
        _ = try await run("qemu-img create -q -f qcow2 \(path) 1G")
        let converted = try glance.image(["disk_format": "qcow2"], data: try ServiceUnderTest.bytes(path))
        let plain = try volume(of: converted)
        #expect(try await parent(of: plain) == nil && reads == 2)
    }
}
