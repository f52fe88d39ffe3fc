import DriverHost
import Glibc
import ImageFormats
import Primitives
import Processes
import TestSupport
import Testing

@testable import Transfers

@Suite("Images that are fetched", .serialized)
struct FetchTests {
    private let test: ImageUnderTest
    private static let image = ImageUnderTest.data(5_000_001, hole: 1_000_000..<4_000_000)

    init() throws { test = try ImageUnderTest() }

    private func honest(_ bytes: [UInt8] = image) throws -> ImageServer { try ImageServer { ImageServer.data(bytes, $1) } }

    private func expectImage() throws {
        let found = try test.read(Self.image.count + 512 - Self.image.count % 512)
        #expect(found[..<Self.image.count] == Self.image[...] && found[Self.image.count...].allSatisfy { $0 == 0 })
    }

    @Test("A raw image becomes the volume's bytes, its holes take no room, and both of its hashes are verified")
    func raw() throws {
        let server = try honest()
        var order = test.order([server], size: Self.image.count)
        order.md5 = try ImageUnderTest.hash("md5", Self.image)
        order.hashAlgorithm = "sha512"
        order.hashValue = try ImageUnderTest.hash("sha512", Self.image).uppercased()
        let result = try test.fetch(order)
        try expectImage()
        #expect(test.allocated > 0 && test.allocated < 2_300_000)
        #expect(result["bytes"]?.integer == 5_000_001 && result["format"] == .string("raw"))
        #expect(result["md5"]?.string == order.md5 && result["hash"]?.string == order.hashValue?.lowercased())
        #expect(server.requests.map(\.target) == ["/v2/images/\(ImageUnderTest.id)/file"])
        #expect(server.requests[0].headers["x-auth-token"] == "first")
    }

    @Test("Where something was before, zeroes are written, too, and the rest is zeroed")
    func overwritten() throws {
        try test.write([UInt8](repeating: 9, count: 8_000_000 / 512 * 512))
        var order = test.order([try honest()], size: Self.image.count)
        order.targetIsZero = false
        try test.fetch(order)
        try expectImage()
        #expect(try test.read(3_000_000 / 512 * 512, at: 5_120_000).allSatisfy { $0 == 0 })
    }

    @Test("A broken answer is followed by a request for the rest, also at the next server, and also where ranges are not known")
    func broken() throws {
        let first = try ImageServer { number, request in
            var answer = ImageServer.data(Self.image, request)
            if number == 1 { answer.cut = 1_500_001 }
            if number == 2 { answer = .init(status: 502) }
            return answer
        }
        let second = try ImageServer { _, request in
            var answer = ImageServer.Answer(body: Self.image)
            answer.cut = 3_000_000
            return answer
        }
        var order = test.order([first, second], size: Self.image.count)
        order.retries = 4
        order.md5 = try ImageUnderTest.hash("md5", Self.image)
        try test.fetch(order)
        try expectImage()
        #expect(first.requests.map(\.start) == [0, 3_000_000, 3_000_000])
        #expect(second.requests.map(\.start) == [1_500_001, 3_000_000])
    }

    @Test("A token that expires in the middle is replaced, and the image goes on where it was")
    func token() throws {
        let server = try ImageServer { number, request in
            if number == 1 {
                var answer = ImageServer.data(Self.image, request)
                answer.cut = 2_000_000
                return answer
            }
            return request.headers["x-auth-token"] == "second" ? ImageServer.data(Self.image, request) : .init(status: 401)
        }
        let order = test.order([server], size: Self.image.count)
        try test.fetch(order, tokens: ["second"])
        try expectImage()
        #expect(server.requests.map(\.start) == [0, 2_000_000, 2_000_000])
        let failure = try #require(test.failure(order))
        #expect(failure.code == .retry && failure.message.contains("no new one"))
    }

    /// An answer that is a lie, and what is said of it.
    struct Lie: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let code: DriverFailure.Code
        let words: String
        var size: Int? = FetchTests.image.count
        var change: @Sendable (inout ImageOrder) -> Void = { _ in }
        var answer: @Sendable (ImageServer.Request) -> ImageServer.Answer = { ImageServer.data(FetchTests.image, $0) }
    }

    private static let lies: [Lie] = [
        Lie(testDescription: "shorter than its size", code: .invalid, words: "truncated", size: image.count + 1),
        Lie(testDescription: "longer than its size", code: .invalid, words: "longer than its size", size: image.count - 1),
        Lie(
            testDescription: "broken off for ever", code: .retry, words: "broke off",
            answer: { request in
                var answer = ImageServer.data(image, request)
                answer.cut = 10
                return answer
            }),
        Lie(
            testDescription: "another checksum", code: .invalid, words: "not those of its checksum",
            change: { $0.md5 = String(repeating: "0", count: 32) }),
        Lie(
            testDescription: "another hash", code: .invalid, words: "not those of its os_hash_value (sha256)",
            change: { ($0.hashAlgorithm, $0.hashValue) = ("sha256", "00") }),
        Lie(
            testDescription: "a hash of an unknown kind", code: .invalid, words: "not known here",
            change: { ($0.hashAlgorithm, $0.hashValue) = ("crc32", "00") }),
        Lie(
            testDescription: "larger than the volume", code: .invalid, words: "has only 1073741824", size: 2 << 30),
        Lie(
            testDescription: "qcow2 as raw", code: .invalid, words: "disk format declared raw, found qcow2", size: 1_000,
            answer: { _ in .init(body: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3] + [UInt8](repeating: 0, count: 992)) }),
        Lie(
            testDescription: "a vhd's end on raw", code: .invalid, words: "disk format declared raw, found vhd", size: 2_097_664,
            answer: { _ in .init(body: [UInt8](repeating: 0, count: 2_097_152) + Array("conectix".utf8) + [UInt8](repeating: 0, count: 504))
            }),
        Lie(testDescription: "no data", code: .invalid, words: "no data", answer: { _ in .init(status: 204) }),
        Lie(testDescription: "gone", code: .invalid, words: "does not have the image", answer: { _ in .init(status: 404) }),
        Lie(testDescription: "forbidden", code: .invalid, words: "forbids", answer: { _ in .init(status: 403) }),
        Lie(testDescription: "down", code: .retry, words: "status 503", answer: { _ in .init(status: 503) }),
        Lie(
            testDescription: "elsewhere", code: .error, words: "redirections are not followed",
            answer: { _ in .init(status: 302, headers: ["Location: http://127.0.0.1:1/"]) }),
        Lie(
            testDescription: "silent", code: .retry, words: "no byte came or went", change: { ($0.timeout, $0.retries) = (1, 0) },
            answer: { request in
                var answer = ImageServer.data(image, request)
                answer.hangs = 1_000_000
                return answer
            }),
        Lie(
            testDescription: "another range", code: .error, words: "another range",
            answer: { request in
                var answer = ImageServer.data(image, request)
                if request.start == 0 { answer.cut = 100 } else { answer.headers = ["Content-Range: bytes 5-9/10"] }
                return answer
            }),
        Lie(testDescription: "a format that is not taken", code: .invalid, words: "not taken", change: { $0.diskFormat = "qed" }),
        Lie(testDescription: "a format that is not allowed", code: .invalid, words: "not taken", change: { $0.allowedFormats = ["qcow2"] }),
        Lie(testDescription: "a container", code: .invalid, words: "container", change: { $0.containerFormat = "ova" }),
    ]

    @Test("What an image is not, or a server does not, fails by its name", arguments: lies)
    func lie(_ lie: Lie) throws {
        let server = try ImageServer { lie.answer($1) }
        var order = test.order([server], size: lie.size)
        order.retries = 1
        lie.change(&order)
        let failure = try #require(test.failure(order))
        #expect(failure.code == lie.code && failure.message.contains(lie.words), "\(failure)")
    }

    @Test("An image of unknown size ends with the answer, and never behind the volume")
    func unknownSize() throws {
        let server = try ImageServer { _, _ in .init(body: Self.image, length: -1) }
        let result = try test.fetch(test.order([server]))
        #expect(result["bytes"]?.integer == 5_000_001)
        try expectImage()
    }

    @Test("A plain image goes through the encryption of the volume, and its key alone opens it", arguments: ["raw", "qcow2"])
    func encrypted(format: String) throws {
        let passphrase = String(repeating: "0123456789abcdef", count: 4)
        _ = try test.shell(
            """
            head -c 3000000 /dev/urandom > plain; truncate -s 4M plain; printf %s \(passphrase) > key
            qemu-img convert -f raw -O \(format) plain image
            """)
        // What lay there before does not shine through.
        try test.shrink(toMebibytes: 8)
        try test.write([UInt8](repeating: 9, count: 8 << 20))
        let bytes = try ImageUnderTest.bytes(test.directory + "/image")
        var order = test.order([try honest(bytes)], format, size: bytes.count)
        order.encryption = LUKSOrder(try #require(LUKSFormat(cipher: nil, keySize: nil)), passphrase: Secret(passphrase))
        let result = try test.fetch(order)
        #expect(result["virtual_size"]?.integer == 4 << 20)
        let dump = try test.shell("cryptsetup luksDump volumes/*v; cryptsetup open --test-passphrase --key-file key volumes/*v")
        #expect(dump.contains("xts-plain64"))
        _ = try test.shell(
            """
            qemu-img convert --object secret,id=k,file=key --image-opts driver=luks,key-secret=k,file.filename=$(ls volumes/*v) -O raw open
            cmp -n 4194304 plain open
            """)
        #expect(entries(of: test.directory + "/conversion").isEmpty)
        let found = try test.read(4096, at: 2 << 20)
        #expect(!found.starts(with: try ImageUnderTest.bytes(test.directory + "/plain").prefix(512)))
        // One that has no room behind the header.
        order.size = nil
        _ = try test.shell("truncate -s 1G large; qemu-img convert -f raw -O qcow2 large image")
        let large = try ImageUnderTest.bytes(test.directory + "/image")
        order.servers = [try honest(large).address]
        order.diskFormat = "qcow2"
        let failure = try #require(test.failure(order))
        #expect(failure.code == .invalid && failure.message.contains("virtual size"), "\(failure)")
    }

    @Test("A server that asks for a certificate is shown the order's, and no data come without")
    func clientCertificate() throws {
        let port = try Loopback.freePort()
        _ = try test.shell(
            """
            for name in server client; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $name.key \\
                -out $name.pem -subj /CN=$name -days 2; done
            mkdir -p v2/images/\(ImageUnderTest.id); head -c 100000 /dev/urandom > v2/images/\(ImageUnderTest.id)/file
            """)
        let server = try spawn(
            "/bin/bash",
            [
                "-c",
                "cd \(test.directory) && exec openssl s_server -quiet -WWW -Verify 1 -verify_return_error -CAfile client.pem -cert server.pem -key server.key -accept 127.0.0.1:\(port)",
            ], descriptors: [])
        defer {
            kill(server, SIGKILL)
            reap(server)
        }
        let limit = Timestamp.monotonic() + 30
        while (try? Loopback.connect(port)).map({ close($0) }) == nil, Timestamp.monotonic() < limit { pause(0.02) }
        let bytes = try ImageUnderTest.bytes(test.directory + "/v2/images/\(ImageUnderTest.id)/file")
        var order = test.order([try honest()], size: bytes.count)
        order.servers = ["https://127.0.0.1:\(port)"]
        order.insecure = true
        order.retries = 1
        #expect(test.failure(order)?.code == .retry)
        (order.certificate, order.certificateKey) = (test.directory + "/client.pem", test.directory + "/client.key")
        try test.fetch(order)
        #expect(try test.read(99_840) == Array(bytes[..<99_840]))
    }

    @Test("An image without a byte leaves the volume as it was")
    func empty() throws {
        let server = try ImageServer { _, _ in .init(status: 204) }
        #expect(try test.fetch(test.order([server], size: 0))["bytes"]?.integer == 0)
    }

    @Test("A signature is verified over the bytes that came", arguments: ["RSA-PSS", "ECC_SECP384R1"])
    func signature(kind: String) throws {
        let key = kind == "RSA-PSS" ? "rsa:2048" : "ec -pkeyopt ec_paramgen_curve:secp384r1"
        let padding = kind == "RSA-PSS" ? "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-2" : ""
        _ = try test.shell("openssl req -x509 -newkey \(key) -nodes -keyout key -out certificate -subj /CN=signer -days 2")
        try test.write(Array(Self.image[..<(5_000_001 / 512 * 512)]))
        _ = try test.shell(
            "head -c 4096 volumes/volume-v > data 2>/dev/null || head -c 4096 volumes/v > data; openssl dgst -sha256 -sign key \(padding) -out signature data; base64 -w0 signature > text"
        )
        let bytes = try ImageUnderTest.bytes(test.directory + "/data")
        let certificate = String(decoding: try ImageUnderTest.bytes(test.directory + "/certificate"), as: UTF8.self)
        let text = String(decoding: try ImageUnderTest.bytes(test.directory + "/text"), as: UTF8.self)
        var order = test.order([try honest(bytes)], size: bytes.count)
        order.signature = .init(certificate: certificate, value: text, hashMethod: "SHA-256", keyType: kind)
        try test.fetch(order)
        var other = bytes
        other[100] ^= 1
        order.servers = [try honest(other).address]
        #expect(test.failure(order)?.message == "the image's data are not those that were signed")
        order.signature?.keyType = "DSA"
        let refusal = try #require(test.failure(order)).message
        #expect(refusal.contains("not the kind of its certificate's key"), "\(refusal)")
    }

    @Test("A certificate that is none, or is not valid now, refuses a signed image before anything is written")
    func certificates() throws {
        let server = try honest()
        func refusal(_ certificate: String) throws -> String {
            var order = test.order([server], size: Self.image.count)
            order.signature = .init(certificate: certificate, value: "AAAA", hashMethod: "SHA-256", keyType: "RSA-PSS")
            let failure = try #require(test.failure(order))
            #expect(failure.code == .invalid)
            return failure.message
        }
        let none = SignatureRefusal.certificateUnusable.rawValue
        #expect(try refusal("").hasPrefix(none))
        #expect(try refusal("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").hasPrefix(none))
        _ = try test.shell("openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out now -subj /CN=signer -days 2")
        #expect(try refusal(String(decoding: ImageUnderTest.bytes(test.directory + "/key"), as: UTF8.self)).hasPrefix(none))
        _ = try test.shell(
            """
            openssl req -new -key key -out request -subj /CN=signer
            touch index; echo 01 > serial
            printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ndefault_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' > ca
            openssl ca -batch -config ca -selfsign -keyfile key -in request -out past -startdate 20200101000000Z -enddate 20200201000000Z
            openssl ca -batch -config ca -selfsign -keyfile key -in request -out future -startdate 20980101000000Z -enddate 20990101000000Z -subj /CN=other
            """)
        for (name, words) in [("past", "it expired at 2020-02-01"), ("future", "it begins to be valid at 2098-01-01")] {
            let refusal = try refusal(String(decoding: ImageUnderTest.bytes(test.directory + "/" + name), as: UTF8.self))
            #expect(refusal.hasPrefix(SignatureRefusal.certificateNotValid.rawValue) && refusal.contains(words), "\(refusal)")
        }
        #expect(server.requests.isEmpty && test.allocated == 0)
    }
}
