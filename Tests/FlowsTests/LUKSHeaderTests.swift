import Glibc
import ImageFormats
import Primitives
import Processes
import TestSupport
import Testing

@testable import Transfers

@Suite struct LUKSHeaderTests {
    private static let passphrase = String(repeating: "0123456789abcdef", count: 4)

    private func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        let nowhere = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(nowhere) }
        return reap(
            try spawn("/usr/bin/env", [program] + arguments, descriptors: [(source: nowhere, target: 1), (source: nowhere, target: 2)]))
    }

    private func put(_ bytes: [UInt8], _ path: String) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = write(descriptor, bytes, bytes.count)
        close(descriptor)
    }

    @Test(arguments: [("aes-xts-plain64", 256), ("aes-xts-plain64", 512), ("aes-xts-plain64", 128), ("aes-cbc-essiv:sha256", 128)])
    func `a header is opened by its passphrase, and by no other`(cipher: String, size: Int) throws {
        let format = try #require(LUKSFormat(cipher: cipher, keySize: size))
        let header = try LUKSOrder(format, passphrase: Secret(Self.passphrase)).makeHeader()
        #expect(header.count == format.headerBytes)
        #expect(header.starts(with: Array("LUKS".utf8) + [0xBA, 0xBE, 0, 1]))
        let directory = temporaryDirectory("luks")
        put(header + [UInt8](repeating: 0, count: 1 << 20), directory + "/volume")
        put(Array(Self.passphrase.utf8), directory + "/right")
        put(Array(Self.passphrase.utf8.reversed()), directory + "/wrong")
        func opens(_ key: String) throws -> Bool {
            try run("cryptsetup", ["open", "--test-passphrase", "--key-file", "\(directory)/\(key)", "\(directory)/volume"]) == 0
        }
        #expect(try opens("right"))
        #expect(try !opens("wrong"))
    }

    @Test(arguments: [
        ("serpent-xts-plain64", 256), ("aes-xts", 256), ("aes-gcm-random", 256), ("aes-xts-plain64,size=1", 256), ("aes-xts-plain64", 100),
    ])
    func `what no hypervisor decrypts is no order`(cipher: String, size: Int) {
        #expect(LUKSFormat(cipher: cipher, keySize: size) == nil)
    }

    @Test func `an order comes through the wire as it was, and shows no passphrase`() throws {
        let order = LUKSOrder(try #require(LUKSFormat(cipher: nil, keySize: nil)), passphrase: Secret(Self.passphrase))
        #expect(LUKSOrder(order.value)?.value == order.value)
        #expect(!"\(order)".contains(Self.passphrase) && !order.value.loggable.contains(Self.passphrase))
    }
}
