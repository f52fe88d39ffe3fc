import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// A real Glance that keeps its images in volumes of this service, which it writes and reads in a real Ceph, and volumes that are made of them.
@Suite("Images in volumes", .serialized)
struct ImageVolumeTests {
    private let keystone: KeystoneUnderTest
    private let glance: GlanceUnderTest
    private let service: ServiceUnderTest
    private let configuration: String

    init() throws {
        keystone = try KeystoneUnderTest.shared.get()
        configuration = try StorageUnderTest.ceph.get().directory + "/ceph.conf"
        glance = try GlanceUnderTest.volumes.get()
        // Glance's host has no keyring of its own at os-brick's fixed path: it is given one with each connection.
        let keyring = temporaryDirectory("keyring") + "/keyring"
        try ServiceUnderTest.write(keyring, try Self.keyring(configuration))
        service = try keystone.service(
            options: """
                glance_api_servers = \(glance.address)
                allowed_direct_url_schemes = cinder
                cinder_internal_tenant_project_id = \(keystone.project("service"))
                cinder_internal_tenant_user_id = \(keystone.user("glance"))
                """,
            account: "glance", backends: "rbd",
            sections: "[rbd]\n\(StorageUnderTest.rbdSection("rbd_keyring_conf = \(keyring)"))")
        try keystone.addToCatalogue("volumev3", "http://127.0.0.1:\(service.port)/v3/%(project_id)s")
    }

    /// The key of the client that volumes are used by.
    private static func keyring(_ configuration: String) throws -> String {
        let path = configuration.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/keyring"
        let text = try ServiceUnderTest.read(path)
        let parts = text.split(separator: "[", omittingEmptySubsequences: true)
        guard let part = parts.first(where: { $0.hasPrefix("client.cinder]") }) else { throw ServiceUnderTest.Failure("no key: \(path)") }
        return "[" + part
    }

    private func ask(
        _ method: String, _ path: String, _ body: JSON? = nil, user: String = "alice", project: String = "alpha"
    ) throws -> ServiceUnderTest.Answer {
        try service.request(
            method, "/v3/\(keystone.project(project))\(path)",
            headers: [("X-Auth-Token", try keystone.token(user, project: project))], body: body?.text ?? "")
    }

    /// Volumes of Glance's own project by their names.
    private func kept(_ name: String) throws -> [JSON] {
        try ask("GET", "/volumes/detail?name=" + name, user: "glance", project: "service").json["volumes"]?.array ?? []
    }

    private func wait(_ what: String, _ seconds: Double = 180, until holds: () throws -> Bool) throws {
        let limit = Timestamp.monotonic() + seconds
        while try !holds() {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("not so: \(what). \(service.story)") }
            usleep(50_000)
        }
    }

    private func volume(of image: String, size: Int64) throws -> String {
        let made = try ask("POST", "/volumes", ["volume": ["imageRef": .string(image), "size": .integer(size)]])
        let id = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        try wait("the volume is available") {
            let status = try ask("GET", "/volumes/\(id)").json["volume"]?["status"]
            if status == "error" { throw ServiceUnderTest.Failure("the volume is in error. \(service.story)") }
            return status == "available"
        }
        return id
    }

    private func run(_ command: String) async throws -> String {
        let result = try await ServiceUnderTest.run(
            "/usr/bin/timeout", ["240", "/bin/bash", "-c", "export CEPH_CONF=\(configuration); set -o pipefail; \(command)"])
        guard result.status == 0 else { throw ServiceUnderTest.Failure("\(command): \(result.output)") }
        return result.output
    }

    /// Of letters: an answer is read as text.
    private static let content: [UInt8] = (0..<2_000_000).map { 0x30 + UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 9) & 0x3F }

    private func requireContent(_ volume: String) async throws {
        let (mine, its) = (service.directory + "/mine", service.directory + "/its")
        let file = open(mine, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        #expect(write(file, Self.content, Self.content.count) == Self.content.count && ftruncate(file, 4 << 20) == 0)
        close(file)
        _ = try await run("qemu-img dd -f raw -O raw bs=1M count=4 if=rbd:volumes/volume-\(volume):id=cinder:conf=$CEPH_CONF of=\(its)")
        #expect(try FileContent.difference(mine, its) == nil)
    }

    private func readTwice(_ image: String) async throws {
        let directory = service.directory
        try ServiceUnderTest.write(directory + "/token", "X-Auth-Token: \(try keystone.token("alice", project: "alpha"))\n")
        let file = open(directory + "/content", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        #expect(write(file, Self.content, Self.content.count) == Self.content.count)
        close(file)
        _ = try await run(
            """
            cd \(directory)
            read() { curl -sS --fail -m 200 -H @token -o $1 \(glance.address)/v2/images/\(image)/file; }
            read one & read two; second=$?; wait $! && [ $second = 0 ] && cmp one content && cmp two content
            """)
    }

    /// Attaches a volume as Glance does that reads it; returns the attachment.
    private func attach(_ volume: String) throws -> String {
        let connector: JSON = ["host": "reader", "ip": "127.0.0.1", "do_local_attach": false, "platform": "x86_64", "os_type": "linux"]
        let made = try ask(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(volume), "connector": connector, "mode": "ro"]], user: "glance",
            project: "service")
        let id = try #require(made.json["attachment"]?["id"]?.string, "\(made.text)")
        #expect(try ask("POST", "/attachments/\(id)/action", ["os-complete": [:]], user: "glance", project: "service").status == 204)
        #expect(try ask("GET", "/volumes/" + volume, user: "glance", project: "service").json["volume"]?["status"] == "in-use")
        return id
    }

    private var reads: Int { service.log.ranges(of: "image written to a volume").count }

    @Test("an image is written to a volume, read from it, cloned from it, and deleted with it; what was cloned of it stays")
    func life() async throws {
        let image = try glance.image(["name": "kept"], data: Self.content)
        let volumes = try kept("image-" + image)
        let keeper = try #require(volumes.first, "\(service.story)")
        #expect(volumes.count == 1 && keeper["status"] == "available" && keeper["size"] == 1 && keeper["attachments"] == [])
        let metadata = keeper["metadata"]
        #expect(metadata?["glance_image_id"] == .string(image) && metadata?["image_size"] == .string("\(Self.content.count)"))
        #expect(metadata?["image_owner"] == .string(keystone.project("alpha")) && metadata?["readonly"] == "True", "\(keeper)")
        let id = try #require(keeper["id"]?.string)
        #expect(try glance.show(image)?["direct_url"] == .string("cinder://volumes/" + id))
        // It is read by an attachment that goes with the reading.
        let read = try glance.ask("GET", "/v2/images/\(image)/file")
        #expect(read.status == 200 && Array(read.text.utf8) == Self.content)
        try wait("the volume is detached") { try kept("image-" + image).first?["status"] == "available" }
        // Two that read at the same time: one of them is refused, and tries again.
        try await readTwice(image)
        try wait("the volume is detached") { try kept("image-" + image).first?["status"] == "available" }
        // Nothing is read for a volume of it, also while somebody reads it.
        let reader = try attach(id)
        let clone = try volume(of: image, size: 2)
        #expect(try ask("DELETE", "/attachments/" + reader, user: "glance", project: "service").status == 200)
        let info = try JSON(parsing: try await run("rbd info --format json volumes/volume-\(clone)"))
        #expect(info["parent"]?["image"] == .string("volume-" + id) && info["size"] == .integer(2 << 30) && reads == 0, "\(service.story)")
        try await requireContent(clone)
        #expect(try glance.ask("DELETE", "/v2/images/\(image)").status == 204)
        try wait("the image's volume is gone") { try kept("image-" + image).isEmpty }
        try await requireContent(clone)
        // Another goes when what was made of it has gone.
        #expect(try ask("DELETE", "/volumes/\(clone)").status == 202)
        try wait("the clone is gone") { try ask("GET", "/volumes/\(clone)").status == 404 }
    }
}
