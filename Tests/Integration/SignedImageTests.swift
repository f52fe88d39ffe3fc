import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes of signed images of a real Glance, with certificates in a real Barbican, and the users of a real Keystone.
@Suite("Signed images", .serialized)
struct SignedImageTests {
    private let keystone: KeystoneUnderTest
    private let glance: GlanceUnderTest
    private let barbican: BarbicanOfUsers

    init() throws {
        keystone = try KeystoneUnderTest.shared.get()
        glance = try GlanceUnderTest.shared.get()
        barbican = try BarbicanOfUsers.shared.get()
    }

    private static let data = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 9) }

    private func service() throws -> ServiceUnderTest {
        try keystone.service(
            account: "glance",
            sections: "[key_manager]\nbackend = barbican\n[barbican]\nbarbican_endpoint = \(barbican.address)\nnumber_of_retries = 1")
    }

    private func ask(_ service: ServiceUnderTest, _ method: String, _ path: String, _ body: JSON? = nil) throws -> JSON {
        try service.request(
            method, "/v3/\(keystone.project("alpha"))\(path)",
            headers: [
                ("X-Auth-Token", try keystone.token("alice", project: "alpha")), ("OpenStack-API-Version", "volume 3.71"),
            ], body: body?.text ?? ""
        ).json
    }

    /// A volume's state, what alice was told of it, and its files.
    private struct Outcome: Equatable {
        var status = "error"
        var told: [String] = []
        var files: [String] = []
        /// What its image metadata say of the signature.
        var verified: String?
    }

    /// Makes a volume of an image that names a signature and a certificate.
    private func make(
        _ service: ServiceUnderTest, of data: [UInt8], signature: String, type: String = "RSA-PSS", certificate: String
    ) throws -> Outcome {
        let image = try glance.image(data: data)
        // Before it has data Glance would verify the signature itself, and it knows no key manager here.
        let properties = [
            "img_signature": signature, "img_signature_hash_method": "SHA-256", "img_signature_key_type": type,
            "img_signature_certificate_uuid": certificate,
        ]
        let changes = properties.map { JSON.object(["op": "add", "path": .string("/" + $0.key), "value": .string($0.value)]) }
        let changed = try glance.ask(
            "PATCH", "/v2/images/\(image)", Array(JSON.array(changes).text.utf8),
            type: "application/openstack-images-v2.1-json-patch")
        #expect(changed.status == 200, "\(changed.text)")
        let volume = try #require(
            try ask(service, "POST", "/volumes", ["volume": ["size": 1, "imageRef": .string(image)]])["volume"]?["id"]?.string)
        let limit = Timestamp.monotonic() + 60
        var status = ""
        var verified: String?
        while !["available", "error"].contains(status), Timestamp.monotonic() < limit {
            usleep(50_000)
            let shown = try ask(service, "GET", "/volumes/\(volume)")["volume"]
            status = shown?["status"]?.string ?? ""
            verified = shown?["volume_image_metadata"]?["signature_verified"]?.string
        }
        let messages = try ask(service, "GET", "/messages?resource_uuid=\(volume)")["messages"]?.array ?? []
        let files = entries(of: service.state + "/volumes/file").filter { $0.contains(volume) }
        return Outcome(status: status, told: messages.compactMap { $0["event_id"]?.string }, files: files, verified: verified)
    }

    @Test("a signed image becomes a volume where its signature is right and its certificate may be read; else its user is told why not")
    func signed() async throws {
        let service = try service()
        let files = temporaryDirectory("signed")
        let written = open(files + "/data", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        #expect(write(written, Self.data, Self.data.count) == Self.data.count)
        close(written)
        let made = try await ServiceUnderTest.run(
            "/bin/bash",
            [
                "-ec",
                """
                cd \(files)
                openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa -out rsa.pem -subj /CN=signer -days 2
                openssl dgst -sha256 -sign rsa -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-2 -out signature data
                base64 -w0 signature > rsa.signature
                openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -keyout ec -out ec.pem -subj /CN=signer -days 2
                openssl x509 -in ec.pem -outform DER -out ec.der
                openssl dgst -sha256 -sign ec -out signature data
                base64 -w0 signature > ec.signature
                """,
            ])
        try #require(made.status == 0, "\(made.output)")
        func content(_ name: String) throws -> String { try ServiceUnderTest.read(files + "/" + name) }
        let (rsa, ec) = (try content("rsa.signature"), try content("ec.signature"))
        let pem = Array(try content("rsa.pem").utf8)
        let readable = try barbican.secret(pem, readers: ["glance"])
        let whole = try make(service, of: Self.data, signature: rsa, certificate: readable)
        #expect(
            whole.status == "available" && whole.told.isEmpty && whole.files.count == 1 && whole.verified == "True",
            "\(whole) \(service.story)")
        let der = try barbican.secret(bytes(files + "/ec.der"), readers: ["glance"])
        let elliptic = try make(service, of: Self.data, signature: ec, type: "ECC_SECP384R1", certificate: der)
        #expect(elliptic.status == "available" && elliptic.verified == "True", "\(elliptic) \(service.story)")
        let other = try make(service, of: Self.data.reversed(), signature: rsa, certificate: readable)
        #expect(other == Outcome(told: ["VOLUME_VOLUME_005_011"]), "\(service.story)")
        let hidden = try make(service, of: Self.data, signature: rsa, certificate: barbican.secret(pem))
        #expect(hidden == Outcome(told: ["VOLUME_VOLUME_005_109"]), "\(service.story)")
        let absent = try make(service, of: Self.data, signature: rsa, certificate: UUID.random())
        #expect(absent == Outcome(told: ["VOLUME_VOLUME_005_108"]), "\(service.story)")
        let secret = try barbican.secret(pem, type: "opaque", readers: ["glance"])
        let opaque = try make(service, of: Self.data, signature: rsa, certificate: secret)
        #expect(opaque == Outcome(told: ["VOLUME_VOLUME_005_110"]), "\(service.story)")
    }

    private func bytes(_ path: String) throws -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(file, &bytes, bytes.count)
        return Array(bytes.prefix(max(0, count)))
    }
}

/// A real Barbican (KeyManagerTests/barbican/server.py) with the users of `KeystoneUnderTest.shared`.
final class BarbicanOfUsers: Sendable {
    static let shared = Result { try BarbicanOfUsers(KeystoneUnderTest.shared.get()) }

    private let port: UInt16
    private let program: ServerProgram
    private let keystone: KeystoneUnderTest

    var address: String { "http://127.0.0.1:\(port)" }

    private init(_ keystone: KeystoneUnderTest) throws {
        self.keystone = keystone
        let directory = temporaryDirectory("barbican")
        port = try Loopback.freePort()
        let root = ServiceUnderTest.root
        program = try ServerProgram(
            "Barbican",
            [root + "/.barbican/bin/python", root + "/Tests/KeyManagerTests/barbican/server.py", directory, "\(port)", "\(keystone.port)"],
            in: directory)
    }

    /// Alice's secret, which users may read that she names.
    func secret(_ content: [UInt8], type: String = "certificate", readers: [String] = []) throws -> String {
        let made = try ask(
            "POST", "/secrets",
            [
                "secret_type": .string(type), "payload": .string(Base64.encode(content)),
                "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
            ])
        guard made.status == 201, let id = made.json["secret_ref"]?.string?.split(separator: "/").last.map(String.init) else {
            throw ServiceUnderTest.Failure("no secret: \(made.status) \(made.text)")
        }
        if !readers.isEmpty {
            let users = JSON.array(readers.map { .string(keystone.user($0)) })
            let told = try ask("PUT", "/secrets/\(id)/acl", ["read": ["users": users]])
            guard told.status == 200 else { throw ServiceUnderTest.Failure("no readers: \(told.status) \(told.text)") }
        }
        return id
    }

    private func ask(_ method: String, _ path: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
        let content = Array(body.text.utf8)
        let head =
            "\(method) /v1\(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAccept: application/json\r\n"
            + "Content-Type: application/json\r\nX-Auth-Token: \(try keystone.token("alice", project: "alpha"))\r\n"
            + "Content-Length: \(content.count)\r\n\r\n"
        return try ServiceUnderTest.parse(try Loopback.exchange(port, Array(head.utf8) + content))
    }
}
