import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Encrypted volumes with a real Barbican behind a proxy that does what networks and impostors do: nothing is ever written plain, no key is
/// made elsewhere, and none is lost.
@Suite("A Barbican in trouble", .serialized)
struct KeyManagerTroubleTests {
    /// A real Barbican (Tests/KeyManagerTests/barbican/server.py) that believes all tokens, for all tests.
    static let barbican = Result { try startBarbican() }

    private static func startBarbican() throws -> (program: ServerProgram, port: UInt16) {
        let directory = temporaryDirectory("barbican")
        let port = try Loopback.freePort()
        try ServiceUnderTest.write(
            directory + "/tokens.json", #"{"*": {"project": "service", "user": "clinker", "roles": "member"}}"#)
        let root = ServiceUnderTest.root
        let program = try ServerProgram(
            "Barbican", [root + "/.barbican/bin/python", root + "/Tests/KeyManagerTests/barbican/server.py", directory, "\(port)"],
            in: directory)
        return (program, port)
    }

    /// A service that keeps keys in Barbican, an encrypted type, and what an administrator of the project asks.
    final class World {
        let keystone: KeystoneUnderTest
        let glance: GlanceUnderTest
        let service: ServiceUnderTest
        private let root: String

        init(_ url: String, _ more: String = "", options: String = "") throws {
            keystone = try KeystoneUnderTest.shared.get()
            glance = try GlanceUnderTest.shared.get()
            root = try keystone.token("root", project: "alpha")
            service = try keystone.service(
                options: "glance_api_servers = \(glance.address)\nimage_conversion_cpu_limit = 600\nquota_volumes = -1\n\(options)",
                account: "glance",
                sections: """
                    [key_manager]
                    backend = barbican
                    [barbican]
                    barbican_endpoint = \(url)
                    number_of_retries = 1
                    retry_delay = 0
                    \(more)
                    """)
            let type = try #require(try ask("POST", "/types", ["volume_type": ["name": "secret"]]).json["volume_type"]?["id"]?.string)
            let encryption: JSON = [
                "encryption": ["provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256]
            ]
            #expect(try ask("POST", "/types/\(type)/encryption", encryption).status == 200)
        }

        func ask(_ method: String, _ path: String, _ body: JSON? = nil) throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)", headers: [("X-Auth-Token", root)], body: body?.text)
        }

        func create(_ fields: JSONObject = [:]) throws -> String {
            var fields = fields
            fields["size"] = 1
            if fields["source_volid"] == nil { fields["volume_type"] = "secret" }
            let made = try ask("POST", "/volumes", ["volume": .object(fields)])
            return try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        }

        @discardableResult
        func wait(_ id: String, _ status: String?) throws -> JSON {
            let limit = Timestamp.monotonic() + 90
            var seen = JSON.null
            while Timestamp.monotonic() < limit {
                let answer = try ask("GET", "/volumes/\(id)")
                seen = answer.json["volume"] ?? .null
                if status == nil ? answer.status == 404 : seen["status"]?.string == status { return seen }
                usleep(20_000)
            }
            throw ServiceUnderTest.Failure("volume \(id) is \(seen["status"] ?? "gone"), not \(status ?? "gone")\n\(service.story)")
        }

        func messages(_ id: String) throws -> [String] {
            try ask("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
        }

        /// Names in the storage, and of keys that should be nowhere in the service's own directory.
        var files: [String] { ServiceUnderTest.entries(service.state + "/volumes/file") }
        var keys: [String] { ServiceUnderTest.entries(service.state + "/keys") }

        /// Every way to a new volume or image that needs a key fails with its message, and nothing of it is left.
        func requireNothing(_ trouble: String, image: String, of source: String?) throws {
            let before = Set(files)
            var made = try [create(), create(["imageRef": .string(image)])]
            if let source { made.append(try create(["source_volid": .string(source)])) }
            for id in made {
                let shown = try wait(id, "error")
                #expect((shown["encryption_key_id"] ?? .null) == .null, "\(trouble): \(shown)")
                #expect(try messages(id) == ["VOLUME_VOLUME_008_112"], "\(trouble)")
            }
            if let source {
                let sent = try ask(
                    "POST", "/volumes/\(source)/action", ["os-volume_upload_image": ["image_name": "i", "disk_format": "raw"]])
                let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(trouble): \(sent.text)")
                try wait(source, "available")
                #expect(try glance.show(id) == nil && access(glance.directory + "/images/" + id, F_OK) != 0, "\(trouble)")
                #expect(try messages(source).first == "VOLUME_VOLUME_003_004", "\(trouble)")
            }
            #expect(Set(files) == before && keys.isEmpty, "\(trouble): \(files) \(keys)")
            #expect(ServiceUnderTest.entries(service.state + "/conversion").isEmpty, "\(trouble)")
            for id in made { #expect(try ask("DELETE", "/volumes/\(id)").status == 202, "\(trouble)") }
        }
    }

    private static let plain = [UInt8](repeating: 0x43, count: 1 << 20)

    @Test("down, broken, refusing, sending elsewhere: no volume and no image comes of it, nothing is plain, and the next attempt succeeds")
    func trouble() throws {
        let (proxy, trap) = (try HTTPFaultProxy(to: try Self.barbican.get().port), try HTTPFaultProxy(to: nil))
        let world = try World("http://127.0.0.1:\(proxy.port)")
        let image = try world.glance.image(data: Self.plain)
        let source = try world.create(["imageRef": .string(image)])
        #expect(try world.wait(source, "available")["encrypted"] == true)
        var troubles: [(String, HTTPFaultProxy.Fault)] = [
            ("down", .reset), ("broken", .answer(status: 500, headers: [], body: "<html>")),
            ("refusing", .answer(status: 401, headers: [], body: "")),
            ("without keys", .answer(status: 200, headers: [], body: "{}")),
        ]
        troubles += [302, 307].map {
            ("sending elsewhere", .answer(status: $0, headers: ["Location: http://127.0.0.1:\(trap.port)/v1/secrets"], body: ""))
        }
        for (name, fault) in troubles {
            proxy.set(["GET", "POST", "PUT", "DELETE"].map { .init($0, "", fault, times: 1_000_000) })
            try world.requireNothing(name, image: image, of: source)
        }
        #expect(trap.connections == 0)

        // The content goes, the key does as soon as it can: until then the volume is not gone.
        #expect(try world.ask("DELETE", "/volumes/\(source)").status == 202)
        let limit = Timestamp.monotonic() + 60
        func settled() throws -> Bool {
            ["deleting", "error_deleting"].contains(try world.ask("GET", "/volumes/\(source)").json["volume"]?["status"]?.string)
        }
        while try !settled(), Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(try settled())
        proxy.set()
        let again = try world.ask("DELETE", "/volumes/\(source)")
        #expect([202, 400, 404].contains(again.status), "\(again.text)")
        while case let answer = try world.ask("GET", "/volumes/\(source)"), answer.status != 404, Timestamp.monotonic() < limit {
            if answer.json["volume"]?["status"] == "error_deleting" { _ = try world.ask("DELETE", "/volumes/\(source)") }
            usleep(20_000)
        }
        try world.wait(source, nil)
        let next = try world.create(["imageRef": .string(image)])
        try world.wait(next, "available")
        let path = "\(world.service.state)/volumes/file/volume-\(next)"
        #expect(try ServiceUnderTest.bytes(path, atMost: 4) == Array("LUKS".utf8))
        let file = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        var begin = [UInt8](repeating: 0, count: 24 << 20)
        #expect(pread(file, &begin, begin.count, 0) == begin.count)
        #expect(begin.firstRange(of: [UInt8](repeating: 0x43, count: 64)) == nil, "the plain image lies in the storage")
    }

    @Test("a certificate of somebody else, of another host, or too old: no volume, and no token was told to who showed it")
    func certificates() throws {
        let authority = TestCertificate("authority", use: .authority)
        let path = temporaryDirectory("authority") + "/ca.pem"
        try ServiceUnderTest.write(path, authority.certificate)
        for (name, certificate) in [
            ("another's", TestCertificate("barbican")),
            ("another host's", TestCertificate("barbican", hosts: ["elsewhere.example"], issuer: authority)),
            ("too old", TestCertificate("barbican", days: -1, issuer: authority)),
        ] {
            let proxy = try HTTPFaultProxy(to: try Self.barbican.get().port, certificate: certificate)
            let world = try World("https://localhost:\(proxy.port)", "verify_ssl_path = \(path)")
            try world.requireNothing(name, image: try world.glance.image(data: Self.plain), of: nil)
            #expect(proxy.connections > 0 && proxy.heads.isEmpty, "\(name)")
        }
        let good = try HTTPFaultProxy(to: try Self.barbican.get().port, certificate: TestCertificate("barbican", issuer: authority))
        let world = try World("https://localhost:\(good.port)", "verify_ssl_path = \(path)")
        let volume = try world.create()
        #expect(try world.wait(volume, "available")["encrypted"] == true)
        #expect(!good.heads.isEmpty && world.keys.isEmpty)
    }
}
