import JSON
import Primitives
import TestSupport
import Testing

/// A real Glance with a store of files (glance/server.py). It starts in 1.6 seconds of CPU.
final class GlanceUnderTest: Sendable {
    /// One for all tests that lets everybody do everything, as Clinker with `auth_strategy = noauth` does.
    static let open = Result { try GlanceUnderTest() }
    /// One for all tests with the users of `KeystoneUnderTest.shared`, in whose catalogue it stands.
    static let shared = Result { try GlanceUnderTest(keystone: KeystoneUnderTest.shared.get()) }
    /// One that keeps images in the pool `images` of `StorageUnderTest.ceph`, and tells where.
    static let ceph = Result { try GlanceUnderTest(environment: ["GLANCE_CEPH_CONF=" + StorageUnderTest.imagePool()]) }
    /// One that keeps images in volumes of the Block Storage service in Keystone's catalogue, and tells in which. It does not stand there itself.
    static let volumes = Result {
        try GlanceUnderTest(keystone: KeystoneUnderTest.shared.get(), environment: ["GLANCE_CINDER=1"], isInCatalogue: false)
    }

    let port: UInt16
    let directory: String
    private let program: ServerProgram
    private let keystone: KeystoneUnderTest?

    var address: String { "http://127.0.0.1:\(port)" }

    init(keystone: KeystoneUnderTest? = nil, environment: [String] = [], isInCatalogue: Bool = true) throws {
        self.keystone = keystone
        directory = temporaryDirectory("glance")
        port = try Loopback.freePort()
        let root = ServiceUnderTest.root
        program = try ServerProgram(
            "Glance",
            ["/usr/bin/env"] + environment
                + [root + "/.glance/bin/python", root + "/Tests/Integration/glance/server.py", directory, "\(port)"]
                + (keystone.map { ["\($0.port)"] } ?? []), in: directory)
        if let keystone, isInCatalogue { try keystone.addToCatalogue("image", address) }
    }

    /// A token for a user of a project; nil where nobody is asked who he is.
    private func token(_ user: String?, _ project: String) throws -> String? {
        guard let keystone, let user else { return nil }
        return try keystone.token(user, project: project)
    }

    func ask(
        _ method: String, _ path: String, _ body: [UInt8] = [], type: String = "application/json", user: String? = "alice",
        project: String = "alpha"
    ) throws -> ServiceUnderTest.Answer {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: \(type)\r\n"
        if let token = try token(user, project) { head += "X-Auth-Token: \(token)\r\n" }
        head += "Content-Length: \(body.count)\r\n\r\n"
        return try ServiceUnderTest.parse(try Loopback.exchange(port, Array(head.utf8) + body))
    }

    /// An image of the user; returns its id. Without `data` it stays queued.
    func image(_ members: JSONObject = [:], data: [UInt8]?, user: String? = "alice", project: String = "alpha") throws -> String {
        var body: JSONObject = ["name": "image", "disk_format": "raw", "container_format": "bare"]
        for (name, value) in members.members { body[name] = value }
        let made = try ask("POST", "/v2/images", Array(JSON.object(body).text.utf8), user: user, project: project)
        guard made.status == 201, let id = made.json["id"]?.string else {
            throw ServiceUnderTest.Failure("no image: \(made.status) \(made.text)")
        }
        if let data {
            let sent = try ask("PUT", "/v2/images/\(id)/file", data, type: "application/octet-stream", user: user, project: project)
            guard sent.status == 204 else { throw ServiceUnderTest.Failure("image not sent: \(sent.status) \(sent.text)") }
        }
        return id
    }

    /// Ids of the images of the name that the user sees.
    func images(named name: String, user: String? = "alice", project: String = "alpha") throws -> [String] {
        let answer = try ask("GET", "/v2/images?name=" + name.replacing(" ", with: "%20"), user: user, project: project)
        return answer.json["images"]?.array?.compactMap { $0["id"]?.string } ?? []
    }

    /// What Glance says of an image; nil: the user sees none.
    func show(_ id: String, user: String? = "alice", project: String = "alpha") throws -> JSON? {
        let answer = try ask("GET", "/v2/images/\(id)", user: user, project: project)
        guard answer.status == 200 else { return nil }
        return answer.json
    }
}

extension KeystoneUnderTest {
    /// Adds a service with one public endpoint to the catalogue.
    func addToCatalogue(_ type: String, _ url: String) throws {
        let token = try token("root", project: "alpha")
        let service = try ask("POST", "/services", ["service": ["type": .string(type), "name": .string(type)]], token: token)
        guard service.status == 201, let id = service.json["service"]?["id"] else {
            throw ServiceUnderTest.Failure("no service \(type): \(service.status) \(service.text)")
        }
        let endpoint = try ask(
            "POST", "/endpoints",
            ["endpoint": ["service_id": id, "interface": "public", "region_id": "RegionOne", "url": .string(url)]], token: token)
        guard endpoint.status == 201 else { throw ServiceUnderTest.Failure("no endpoint \(type): \(endpoint.status) \(endpoint.text)") }
    }
}
