import DriverHost
import Primitives
import Testing

@testable import Transfers

@Suite("Orders of images")
struct ImageOrderTests {
    private let image = "0aa9e2ee-2b7a-4a1c-a8f0-d1f2a3b4c5d6"

    @Test("An order crosses the socket whole, and its token as a secret")
    func whole() throws {
        var order = ImageOrder(
            servers: ["http://a", "http://b"], image: image, token: Secret("t"), diskFormat: "qcow2", volumeBytes: 5,
            conversionDirectory: "/d")
        order.size = 7
        order.md5 = "m"
        order.hashAlgorithm = "sha512"
        order.hashValue = "h"
        order.targetIsZero = false
        order.insecure = true
        order.certificateAuthorities = "/ca"
        (order.certificate, order.certificateKey) = ("/certificate", "/key")
        order.signature = .init(certificate: "c", value: "v", hashMethod: "SHA-256", keyType: "RSA-PSS")
        #expect(order.value["token"] == .secret("t"))
        let again = try ImageOrder(order.value)
        #expect(again.value == order.value)
        #expect(again.signature == order.signature && again.size == 7 && !again.targetIsZero)
        #expect(again.certificate == "/certificate" && again.certificateKey == "/key")
    }

    @Test("What is missing or wrong in an order is named", arguments: ["image", "servers", "token", "timeout", "volume_bytes"])
    func refused(member: String) {
        var order = ImageOrder(
            servers: ["http://a"], image: image, token: Secret("t"), diskFormat: "raw", volumeBytes: 5, conversionDirectory: "/d")
        order.timeout = 10
        guard case .object(let members) = order.value else { return }
        #expect { try ImageOrder(.object(members.filter { $0.name != member })) } throws: {
            ($0 as? DriverFailure)?.message.contains(member == "volume_bytes" ? "volume_bytes" : member) == true
        }
    }
}
