import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// `clinker serve` with TLS of its own.
@Suite("TLS in front of the API", .serialized)
struct EncryptedServiceTests {
    private static let authority = TestCertificate("authority", use: .authority)
    private static let between = TestCertificate("between", use: .authority, issuer: authority)

    /// A service that shows `certificate`, and the files of it.
    private final class Encrypted {
        let service: ServiceUnderTest
        var files: String { service.directory }

        init(_ certificate: TestCertificate, ssl: String = "") throws {
            service = try ServiceUnderTest(options: "osapi_volume_use_ssl = true", start: false)
            try ServiceUnderTest.write(
                service.configuration,
                ServiceUnderTest.read(service.configuration)
                    + "[ssl]\ncert_file = \(service.directory)/cert.pem\nkey_file = \(service.directory)/key.pem\n\(ssl)\n")
            try ServiceUnderTest.write(service.directory + "/ca.pem", EncryptedServiceTests.authority.certificate)
            try put(certificate)
            try service.launch()
            let limit = Timestamp.monotonic() + 20
            while (try? get("/")) == nil {
                guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("the service did not start:\n\(service.log)") }
                usleep(5_000)
            }
        }

        func put(_ certificate: TestCertificate) throws {
            try ServiceUnderTest.write(files + "/cert.pem", certificate.chain)
            try ServiceUnderTest.write(files + "/key.pem", certificate.privateKey)
        }

        func connect() throws -> TLSConnection {
            try TLSConnection(UInt16(service.port), authorities: EncryptedServiceTests.authority.certificate)
        }

        func get(_ path: String) throws -> ServiceUnderTest.Answer {
            let connection = try connect()
            connection.send(
                "GET \(path) HTTP/1.1\r\nHost: localhost:\(service.port)\r\nOpenStack-API-Version: volume 3.71\r\nConnection: close\r\n\r\n"
            )
            return try ServiceUnderTest.parse(Array(connection.receive(silence: 20_000).text.utf8))
        }

        /// Waits for a line of the log.
        func hears(_ words: String) -> Bool {
            let limit = Timestamp.monotonic() + 20
            while !service.log.contains(words) {
                guard Timestamp.monotonic() < limit else { return false }
                usleep(5_000)
            }
            return true
        }
    }

    @Test("curl and the real clients trust it by its authority's file, links say https, and plain HTTP ends at once")
    func clients() async throws {
        let encrypted = try Encrypted(TestCertificate("server", .rsa, issuer: Self.between))
        let service = encrypted.service
        let url = "https://localhost:\(service.port)"
        let versions = try encrypted.get("/")
        #expect(versions.status == 300 && versions.text.contains(url + "/v3/") && !versions.text.contains("http://"), "\(versions.text)")
        #expect(try encrypted.get("/v3/\(ServiceUnderTest.project)/volumes?limit=1").status == 200)
        #expect(service.log.contains("address=https://127.0.0.1:\(service.port)"))
        let plain = try Loopback.connect(UInt16(service.port))
        defer { close(plain) }
        Loopback.send(plain, Array("GET / HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        #expect(Loopback.receive(plain, silence: 5_000).isClosed)

        let curl = try await ServiceUnderTest.run("/usr/bin/curl", ["-sS", "--cacert", encrypted.files + "/ca.pem", url + "/healthcheck"])
        #expect(curl.status == 0 && curl.output == "OK", "\(curl.output)")
        let stranger = try await ServiceUnderTest.run("/usr/bin/curl", ["-sS", url + "/healthcheck"])
        #expect(stranger.status == 60, "\(stranger.output)")
        let tooOld = try await ServiceUnderTest.run("/usr/bin/curl", ["-sSk", "--tls-max", "1.1", url + "/healthcheck"])
        #expect(tooOld.status == 35, "\(tooOld.output)")

        let cloud = [
            "--os-cacert", encrypted.files + "/ca.pem", "--os-auth-type", "none", "--os-endpoint", "\(url)/v3/\(ServiceUnderTest.project)",
            "--os-volume-api-version", "3.71", "volume",
        ]
        let openstack = LoadedClients.environment + "/bin/openstack"
        let created = try await ServiceUnderTest.run(openstack, cloud + ["create", "--size", "1", "over-tls", "-f", "value", "-c", "name"])
        #expect(created.status == 0 && created.output.contains("over-tls"), "\(created.output)")
        let untrusted = try await ServiceUnderTest.run(openstack, Array(cloud.dropFirst(2)) + ["list"])
        #expect(untrusted.status != 0 && !untrusted.output.contains("over-tls"), "\(untrusted.output)")
    }

    @Test(
        "SIGHUP shows a new certificate; connections and streams go on, a bad file is told and changes nothing, and a new core shows it too"
    )
    func renewal() throws {
        let encrypted = try Encrypted(TestCertificate("first", issuer: Self.authority))
        let service = encrypted.service
        let kept = try encrypted.connect()
        let stream = try encrypted.connect()
        stream.send("GET /v3/\(ServiceUnderTest.project)/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try stream.receive(silence: 500).text.contains("text/event-stream"))

        try encrypted.put(TestCertificate("second", .rsa, issuer: Self.authority))
        service.signal(SIGHUP)
        #expect(encrypted.hears("certificate read again"), "\(service.story)")
        let second = try encrypted.connect().certificate
        #expect(second != kept.certificate)

        try ServiceUnderTest.write(encrypted.files + "/key.pem", TestCertificate("other").privateKey)
        service.signal(SIGHUP)
        #expect(encrypted.hears("certificate not read again, the one in use stays: [ssl] \(encrypted.files)/key.pem is not the key"))
        #expect(try encrypted.connect().certificate == second)

        // What was open before is served on, and a stream tells what happens.
        let body = #"{"volume": {"size": 1, "name": "told"}}"#
        kept.send(
            "POST /v3/\(ServiceUnderTest.project)/volumes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
        #expect(try kept.receive(silence: 5_000, until: "}}").text.contains("HTTP/1.1 202"))
        var told = ""
        let limit = Timestamp.monotonic() + 20
        while !told.contains("volume.create"), Timestamp.monotonic() < limit { told += try stream.receive(silence: 100).text }
        #expect(told.contains("event:") && told.contains("volume"), "\(told)")

        // A core that dies is replaced by one that reads the files.
        let third = TestCertificate("third", issuer: Self.authority)
        try encrypted.put(third)
        let core = try #require(service.processes("core").first)
        kill(core, SIGKILL)
        // Whoever connects meanwhile waits, and is served.
        #expect(try encrypted.get("/healthcheck").status == 200)
        #expect(try encrypted.connect().certificate != second)
        #expect(service.stop() == 0)
    }

    @Test("with ca_file a client without a certificate is refused with an alert, and half handshakes delay nobody")
    func authenticated() async throws {
        let client = TestCertificate("client", use: .client, issuer: Self.authority)
        let directory = temporaryDirectory("authority")
        try ServiceUnderTest.write(directory + "/ca.pem", Self.authority.certificate)
        try ServiceUnderTest.write(directory + "/client.pem", client.certificate + client.privateKey)
        let service = try ServiceUnderTest(options: "osapi_volume_use_ssl = true\nhttp_handshake_timeout = 2", start: false)
        let server = TestCertificate("server", issuer: Self.authority)
        try ServiceUnderTest.write(service.directory + "/cert.pem", server.chain)
        try ServiceUnderTest.write(service.directory + "/key.pem", server.privateKey)
        try ServiceUnderTest.write(
            service.configuration,
            ServiceUnderTest.read(service.configuration)
                + "[ssl]\ncert_file = \(service.directory)/cert.pem\nkey_file = \(service.directory)/key.pem\nca_file = \(directory)/ca.pem\n"
        )
        try service.launch()
        let url = "https://localhost:\(service.port)/healthcheck"
        let trust = ["-sS", "--cacert", directory + "/ca.pem"]
        let served = try await ServiceUnderTest.run(
            "/usr/bin/curl",
            trust + [
                "--retry", "100", "--retry-connrefused", "--retry-delay", "0", "--retry-max-time", "20", "--cert",
                directory + "/client.pem", url,
            ])
        #expect(served.status == 0 && served.output.hasSuffix("OK"), "\(served.output)\n\(service.log)")
        let refused = try await ServiceUnderTest.run("/usr/bin/curl", trust + [url])
        #expect(refused.status != 0 && refused.output.contains("alert"), "\(refused.output)")

        let half = try (0..<200).map { index in
            let descriptor = try Loopback.connect(UInt16(service.port))
            Loopback.send(descriptor, Array([0x16, 3, 1, 2, 0, 1, 0].prefix(index % 8)))
            return descriptor
        }
        defer { for descriptor in half { close(descriptor) } }
        for _ in 0..<20 {
            let connection = try TLSConnection(UInt16(service.port), authorities: Self.authority.certificate, showing: client)
            connection.send("GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            #expect(try connection.receive(silence: 5_000, until: "OK").text.hasSuffix("OK"))
        }
        for descriptor in half { #expect(Loopback.receive(descriptor, silence: 10_000).isClosed) }
        #expect(service.stop() == 0)
    }
}
