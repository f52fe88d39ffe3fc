import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// A real Glance behind a proxy that does what networks, load balancers and impostors do: what users are told, and what is left.
@Suite("A Glance in trouble", .serialized)
struct GlanceTroubleTests {
    private static let content: [UInt8] = (0..<300_000).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 11) }
    private static let always = 1_000_000

    private static func service(_ url: String, timeout: Int, _ more: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(
            options: """
                glance_api_servers = \(url)
                glance_num_retries = 0
                glance_request_timeout = \(timeout)
                image_conversion_cpu_limit = 600
                \(more)
                """)
    }

    private static func holds(_ volume: String, _ service: ServiceUnderTest) throws -> Bool {
        try ServiceUnderTest.bytes(service.state + "/volumes/file/volume-" + volume, atMost: content.count) == content
    }

    private static func messages(_ id: String, _ service: ServiceUnderTest) throws -> [String] {
        try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
    }

    private static func operation(_ id: String, _ service: ServiceUnderTest) throws -> String {
        try service.api("GET", "/operations?resource_id=\(id)&limit=1").text
    }

    /// Sends elsewhere, to whoever listens there.
    private static func redirection(_ status: Int, to trap: HTTPFaultProxy) -> HTTPFaultProxy.Fault {
        .answer(status: status, headers: ["Location: http://127.0.0.1:\(trap.port)/v2/images"], body: "")
    }

    @Test("asked about an image it is slow, down, broken, or sends elsewhere: 503, nothing is made, and nobody else is asked")
    func asked() throws {
        let glance = try GlanceUnderTest.open.get()
        let (proxy, trap) = (try HTTPFaultProxy(to: glance.port), try HTTPFaultProxy(to: nil))
        let service = try Self.service("http://127.0.0.1:\(proxy.port)", timeout: 1)
        let image = try glance.image(data: Self.content)
        let volume = try service.create()
        try service.wait(volume, "available")
        var troubles: [HTTPFaultProxy.Fault] = [.silence, .reset, .cut, .answer(status: 500, headers: [], body: "<html>")]
        troubles += [302, 307].map { Self.redirection($0, to: trap) }
        for trouble in troubles {
            proxy.set(.init("GET", "/v2/images", trouble, times: Self.always), .init("POST", "/v2/images", trouble, times: Self.always))
            let made = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
            #expect(made.status == 503 && made.header("Retry-After") == "30", "\(trouble): \(made.text)")
            for action: JSON in [["os-reimage": ["image_id": .string(image)]], ["os-volume_upload_image": ["image_name": "i"]]] {
                let answer = try service.api("POST", "/volumes/\(volume)/action", action)
                #expect(answer.status == 503, "\(trouble): \(answer.text)")
            }
            #expect(proxy.hits > 0)
        }
        #expect(trap.connections == 0)
        #expect(try service.volume(volume)?["status"] == "available")
        #expect(try service.usage("volumes") == 1)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file") == ["volume-" + volume])
    }

    @Test("while the data come it is slow, down, broken, refuses the token or sends elsewhere: nothing is left but the message")
    func fetching() throws {
        let glance = try GlanceUnderTest.open.get()
        let (proxy, trap) = (try HTTPFaultProxy(to: glance.port), try HTTPFaultProxy(to: nil))
        let service = try Self.service("http://127.0.0.1:\(proxy.port)", timeout: 30)
        // Only where nothing is to come in time is there little of it.
        let hasty = try Self.service("http://127.0.0.1:\(proxy.port)", timeout: 1)
        let old = try service.create(["imageRef": .string(try glance.image(data: [1, 2, 3]))])
        try service.wait(old, "available")
        proxy.set()
        func troubled(_ rules: (fault: HTTPFaultProxy.Fault, times: Int)...) throws -> String {
            let id = try glance.image(data: Self.content)
            for rule in rules.reversed() { proxy.add(.init("GET", id + "/file", rule.fault, times: rule.times)) }
            return id
        }
        let faults: [(fault: HTTPFaultProxy.Fault, service: ServiceUnderTest, words: String)] = [
            (.reset, service, "cannot be reached"), (.answer(status: 503, headers: [], body: ""), service, "status 503"),
            (.answer(status: 401, headers: [], body: ""), service, "new token"),
            (Self.redirection(302, to: trap), service, "sends elsewhere"), (.cut, service, "broke off"),
            (.silence, hasty, "no byte came or went"),
        ]
        var bad: [(id: String, service: ServiceUnderTest, words: String)] = []
        for (fault, service, words) in faults {
            let body: JSON = ["volume": ["size": 1, "imageRef": .string(try troubled((fault, Self.always)))]]
            var sent = try service.api("POST", "/volumes", body)
            // A Glance that is only slow on a busy machine is asked again.
            for _ in 0..<60 where sent.status == 503 { sent = try service.api("POST", "/volumes", body) }
            bad.append((id: try #require(sent.json["volume"]?["id"]?.string, "\(sent.text)"), service: service, words: words))
        }
        let passing = try service.create([
            "imageRef": .string(try troubled((.cut, 1), (.answer(status: 502, headers: [], body: ""), 1), (.reset, 1), (.cut, 1)))
        ])
        let away = try troubled((.answer(status: 503, headers: [], body: ""), Self.always))
        #expect(try service.api("POST", "/volumes/\(old)/action", ["os-reimage": ["image_id": .string(away)]]).status == 202)
        for (id, service, words) in bad {
            let shown = try service.wait(id, "error", seconds: 120)
            #expect(shown?["bootable"] == "false" && shown?["volume_image_metadata"] == nil)
            #expect(try Self.messages(id, service) == ["VOLUME_VOLUME_005_105"], "\(words)")
            let operation = try Self.operation(id, service)
            #expect(operation.contains(words), "\(words): \(operation)")
        }
        try service.wait(old, "error", seconds: 120)
        #expect(try Self.messages(old, service).first == "VOLUME_VOLUME_016_105")
        try service.wait(passing, "available", seconds: 120)
        #expect(try Self.holds(passing, service))
        #expect(Set(ServiceUnderTest.entries(service.state + "/volumes/file")) == Set([old, passing].map { "volume-" + $0 }))
        #expect(ServiceUnderTest.entries(hasty.state + "/volumes/file").isEmpty)
        #expect(trap.connections == 0)
        for (id, service, _) in bad {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
        #expect(try service.usage("volumes") == 2 && hasty.usage("gigabytes") == 0)
    }

    @Test("while it gets the data it is slow, down, broken or sends elsewhere: no image is left, and the volume is what it was")
    func storing() throws {
        let glance = try GlanceUnderTest.open.get()
        let (proxy, trap) = (try HTTPFaultProxy(to: glance.port), try HTTPFaultProxy(to: nil))
        let service = try Self.service("http://127.0.0.1:\(proxy.port)", timeout: 8)
        let volume = try service.create()
        try service.wait(volume, "available")
        let file = open(service.state + "/volumes/file/volume-" + volume, O_WRONLY | O_CLOEXEC)
        #expect(pwrite(file, Self.content, Self.content.count, 0) == Self.content.count)
        close(file)
        func upload() throws -> String {
            let body: JSON = ["os-volume_upload_image": ["image_name": "i", "disk_format": "qcow2"]]
            var sent = try service.api("POST", "/volumes/\(volume)/action", body)
            for _ in 0..<60 where sent.status == 503 { sent = try service.api("POST", "/volumes/\(volume)/action", body) }
            let id = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
            try service.wait(volume, "available", seconds: 120)
            return id
        }
        proxy.set(
            .init("PUT", "/file", .reset, times: 2), .init("PUT", "/file", .silence, times: 2),
            .init("PUT", "/file", .answer(status: 503, headers: [], body: ""), times: Self.always))
        var image = try upload()
        #expect(try glance.show(image) == nil)
        #expect(try Self.messages(volume, service) == ["VOLUME_VOLUME_003_004"])
        proxy.set(.init("PUT", "/file", Self.redirection(307, to: trap), times: Self.always))
        image = try upload()
        #expect(try glance.show(image) == nil && Self.operation(volume, service).contains("sends elsewhere"))
        proxy.set(
            .init("PUT", "/file", .answer(status: 502, headers: [], body: "")), .init("PUT", "/file", .reset),
            .init("PUT", "/file", .loseAnswer))
        image = try upload()
        let operation = try Self.operation(volume, service)
        #expect(try glance.show(image)?["status"] == "active" && proxy.hits == 3, "\(operation)")
        #expect(trap.connections == 0)
        #expect(try Self.holds(volume, service))
    }

    @Test("of many who make images of a volume at a time one is served, and the others leave none, though Glance deletes nothing")
    func atOnce() throws {
        let glance = try GlanceUnderTest.open.get()
        let proxy = try HTTPFaultProxy(to: glance.port)
        let service = try Self.service("http://127.0.0.1:\(proxy.port)", timeout: 8)
        let volume = try service.create()
        try service.wait(volume, "available")
        proxy.set(.init("DELETE", "/images", .answer(status: 500, headers: [], body: ""), times: Self.always))
        let statuses = Guarded<[Int]>([])
        let ended = Semaphore()
        for _ in 0..<8 {
            startThread("client") {
                let body: JSON = ["os-volume_upload_image": ["image_name": "one of many"]]
                let status = (try? service.api("POST", "/volumes/\(volume)/action", body))?.status ?? 0
                statuses.withLock { $0.append(status) }
                ended.post()
            }
        }
        for _ in 0..<8 { ended.wait() }
        try service.wait(volume, "available", seconds: 120)
        let served = statuses.withLock { $0.filter { $0 == 202 }.count }
        #expect(served >= 1 && statuses.withLock { $0 }.allSatisfy { $0 == 202 || $0 == 400 }, "\(statuses.withLock { $0 })")
        #expect(try glance.images(named: "one of many").count == served)
    }

    @Test("a certificate of somebody else, of another host, or too old: 503, and nothing was told to who showed it")
    func certificates() throws {
        let authority = TestCertificate("authority", use: .authority)
        let glance = try GlanceUnderTest.open.get()
        let image = try glance.image(data: Self.content)
        let path = temporaryDirectory("authority") + "/ca.pem"
        try ServiceUnderTest.write(path, authority.certificate)
        let good = try HTTPFaultProxy(to: glance.port, certificate: TestCertificate("glance", issuer: authority))
        let bad = try [
            TestCertificate("glance"), TestCertificate("glance", hosts: ["elsewhere.example"], issuer: authority),
            TestCertificate("glance", days: -1, issuer: authority),
        ].map { try HTTPFaultProxy(to: glance.port, certificate: $0) }
        for proxy in bad {
            let service = try Self.service("https://localhost:\(proxy.port)", timeout: 30, "glance_ca_certificates_file = \(path)")
            let answer = try service.api("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
            #expect(answer.status == 503, "\(answer.text)")
            #expect(proxy.connections > 0 && proxy.heads.isEmpty)
            #expect(try service.api("GET", "/volumes").json["volumes"] == [])
        }
        let service = try Self.service("https://localhost:\(good.port)", timeout: 30, "glance_ca_certificates_file = \(path)")
        let volume = try service.create(["imageRef": .string(image)])
        try service.wait(volume, "available", seconds: 60)
        #expect(try Self.holds(volume, service))
    }

    @Test("a token that ends while an image comes or goes is replaced by a new one, and is in no log")
    func token() throws {
        let (glance, keystone) = (try GlanceUnderTest.shared.get(), try KeystoneUnderTest.shared.get())
        let proxy = try HTTPFaultProxy(to: glance.port)
        let service = try keystone.service(
            options: "glance_api_servers = http://127.0.0.1:\(proxy.port)\nimage_conversion_cpu_limit = 600", account: "glance")
        let alice = try keystone.token("alice", project: "alpha")
        func ask(_ method: String, _ path: String, _ body: JSON? = nil) throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)", headers: [("X-Auth-Token", alice)], body: body?.text)
        }
        func wait(_ id: String) throws {
            let limit = Timestamp.monotonic() + 60
            func status() throws -> String? { try ask("GET", "/volumes/\(id)").json["volume"]?["status"]?.string }
            while try status() != "available", Timestamp.monotonic() < limit { usleep(50_000) }
            #expect(try status() == "available", "\(service.story)")
        }
        /// Tokens of the requests of data.
        func tokens(_ method: String) -> [String] {
            proxy.heads.filter { $0.hasPrefix(method) && $0.contains("/file HTTP") }.map { head in
                head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("x-auth-token: ") }.map { String($0.dropFirst(14)) } ?? ""
            }
        }
        let image = try glance.image(data: Self.content)
        let refusal = HTTPFaultProxy.Fault.answer(status: 401, headers: [], body: "")
        proxy.set(.init("GET", "/file", .cut), .init("GET", "/file", refusal), .init("PUT", "/file", refusal))
        let made = try ask("POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])
        let volume = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        try wait(volume)
        #expect(try Self.holds(volume, service))
        let sent = try ask(
            "POST", "/volumes/\(volume)/action", ["os-volume_upload_image": ["image_name": "i", "disk_format": "qcow2"]])
        let back = try #require(sent.json["os-volume_upload_image"]?["image_id"]?.string, "\(sent.text)")
        try wait(volume)
        #expect(try glance.show(back)?["status"] == "active")
        let (came, went) = (tokens("GET"), tokens("PUT"))
        #expect(came.count == 3 && came[0] == came[1] && came[1] != came[2], "\(came.count)")
        #expect(went.count == 2 && went[0] == came[2] && went[1] != went[0], "\(went.count)")
        #expect(!(came + went).contains("") && !(came + went).contains(alice))
        for token in came + went + [alice, "glance-secret"] { #expect(!service.log.contains(token)) }
    }
}
