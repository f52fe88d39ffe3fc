import BlockStorage
import DriverHost
import JSON
import KeyManager
import Primitives
import Testing
import Transfers

@testable import Flows

/// Volumes of signed images, whose certificates are in a key manager.
@Suite("Signed images")
struct SignedImageTests {
    private static let certificate = UUID.random()
    private static let signed: JSONObject = [
        "img_signature": "c2lnbmF0dXJl", "img_signature_hash_method": "SHA-256", "img_signature_key_type": "RSA-PSS",
        "img_signature_certificate_uuid": .string(certificate),
    ]

    private func image(_ bench: FlowBench, _ properties: JSONObject) throws -> SourceImage {
        let id = UUID.random()
        bench.images.add(id, content: "content")
        var members: JSONObject = [
            "id": .string(id), "status": "active", "size": 7, "disk_format": "raw", "container_format": "bare", "min_disk": 0,
            "updated_at": "2026-01-01T00:00:00Z",
        ]
        for (name, value) in properties.members { members[name] = value }
        return try #require(SourceImage(.object(members)))
    }

    /// Makes a volume of the image; its status, and what its project is told.
    private func make(_ image: SourceImage, _ bench: FlowBench) async throws -> (id: String, status: VolumeStatus?, told: [String]) {
        let (requests, caller) = (bench.requests, bench.caller())
        let id = try await bench.perform { tx in
            var new = NewVolume()
            (new.size, new.typeName, new.image) = (1, "one", .found(image))
            return try requests.create(new, caller: caller, in: tx)
        }
        let (status, told) = try await bench.database.read { connection in
            (
                try Volumes.find(id, in: connection)?.status,
                try Messages.page(
                    projectID: caller.projectID, filters: [], sort: nil, limit: 10, offset: 0, marker: nil, in: connection
                ).map(\.eventID)
            )
        }
        return (id, status, told)
    }

    @Test("a signed image is read and never cloned, with its certificate as PEM, however it is kept")
    func read() async throws {
        let der: [UInt8] = [0x30] + (0..<100).map { UInt8($0) }
        let lines = [der[..<48], der[48..<96], der[96...]].map { Base64.encode(Array($0)) }
        let pem = (["-----BEGIN CERTIFICATE-----"] + lines + ["-----END CERTIFICATE-----", ""]).joined(separator: "\n")
        for content in [der, Array(pem.utf8)] {
            let bench = try await FlowBench()
            defer { bench.close() }
            bench.keys.certificates.withLock { $0[Self.certificate] = .success(content) }
            bench.script.clonesImages.withLock { $0 = true }
            let image = try image(bench, Self.signed)
            bench.images.lies.withLock { $0[image.id] = ["memory://content"] }
            let made = try await make(image, bench)
            #expect(made.status == .available && made.told.isEmpty)
            let orders = bench.images.fetched.withLock { $0 }
            let wanted = ImageOrder.Signature(certificate: pem, value: "c2lnbmF0dXJl", hashMethod: "SHA-256", keyType: "RSA-PSS")
            #expect(orders.map(\.signature) == [wanted])
            #expect(try await said(of: made.id, bench) == "True")
        }
    }

    /// What a volume's image metadata say of its signature.
    private func said(of volume: String, _ bench: FlowBench) async throws -> String? {
        try await bench.database.read { try Volumes.map(.image, of: volume, in: $0)["signature_verified"]?.string }
    }

    @Test("that a signature is right is not taken from the image's own properties")
    func forged() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let image = try image(bench, ["signature_verified": "True", "os_distro": "debian"])
        let made = try await make(image, bench)
        #expect(made.status == .available)
        #expect(try await said(of: made.id, bench) == nil)
        // Nor does what an image of before said stay.
        bench.keys.certificates.withLock { $0[Self.certificate] = .success([0x30]) }
        let (requests, caller) = (bench.requests, bench.caller())
        for (properties, says) in [(Self.signed, "True"), (["signature_verified": "True"], nil)] as [(JSONObject, String?)] {
            let other = try self.image(bench, properties)
            _ = try await bench.perform { tx in
                try requests.reimage(made.id, from: other, allowsReserved: false, caller: caller, in: tx)
                return made.id
            }
            #expect(try await said(of: made.id, bench) == says)
        }
    }

    @Test(
        "an image whose certificate cannot be had becomes no volume, and its project is told why",
        arguments: [
            (KeyFailure.Kind.notFound, "108"), (.refused, "109"), (.invalid, "110"), (.tooLong, "110"), (.damaged, "110"),
            (.unsupported, "011"), (.unavailable, "011"),
        ])
    func refused(kind: KeyFailure.Kind, detail: String) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        bench.keys.certificates.withLock { $0[Self.certificate] = .failure(KeyFailure(kind, "as the test says")) }
        let made = try await make(image(bench, Self.signed), bench)
        #expect(made.status == .error && made.told == ["VOLUME_VOLUME_005_\(detail)"], "\(made)")
        #expect(bench.storage(of: [made.id]).isEmpty && bench.images.fetched.withLock { $0.isEmpty })
        let error = try await bench.database.read { try Operations.latest(of: made.id, in: $0)?.error }
        #expect(error?.contains("as the test says") == true, "\(error ?? "")")
    }

    @Test("an image with a part of a signature becomes no volume", arguments: signed.members.map(\.name))
    func incomplete(missing: String) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        bench.keys.certificates.withLock { $0[Self.certificate] = .success([0x30]) }
        var properties = Self.signed
        properties[missing] = nil
        let made = try await make(image(bench, properties), bench)
        #expect(made.status == .error && made.told == ["VOLUME_VOLUME_005_011"], "\(made)")
        let error = try await bench.database.read { try Operations.latest(of: made.id, in: $0)?.error }
        #expect(error?.contains("the image has no \(missing)") == true, "\(error ?? "")")
    }
}
