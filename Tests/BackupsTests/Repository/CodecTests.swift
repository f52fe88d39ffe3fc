import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("Codecs of backups")
struct CodecTests {
    @Test("SHA-256 gives the hash of the standard's example, whole and in pieces")
    func sha256() {
        let text = Array("abc".utf8)
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(Digest.sha256(text).hex == expected)
        let hash = SHA256()
        for byte in text { withUnsafeBytes(of: byte) { hash.update($0) } }
        #expect(hash.finish().hex == expected)
        #expect(hash.finish().hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(Digest(hex: expected)?.hex == expected)
        #expect(Digest(hex: expected.uppercased()) == nil)
        #expect(Digest(hex: String(expected.dropLast())) == nil)
    }

    @Test("what is sealed opens again, and nothing else does")
    func sealing() throws {
        let keys = SealingKeys.random()
        for count in [0, 1, 15, 16, 17, 1000, 1 << 20] {
            let plain = randomBytes(max(count, 1)).prefix(count)
            let sealed = Array(plain).withUnsafeBytes { Sealer(keys).seal($0) }
            #expect(sealed.count == count + Sealer.overhead)
            #expect(Sealer(keys).open(sealed) == Array(plain))
            for position in [0, 15, 16, sealed.count / 2, sealed.count - 1] {
                var flipped = sealed
                flipped[position] ^= 1
                #expect(Sealer(keys).open(flipped) == nil)
            }
            #expect(Sealer(keys).open(Array(sealed.dropLast())) == nil)
            #expect(Sealer(.random()).open(sealed) == nil)
        }
        #expect(Sealer(keys).open([]) == nil)
    }

    @Test("zstd gives back what it was given, and a frame that promises too much is refused before memory is taken")
    func zstd() {
        let text = Array(repeating: Array("clinker ".utf8), count: 10_000).flatMap { $0 }
        let packed = text.withUnsafeBytes { ZstdCompressor().compress($0) }
        let decompressor = ZstdDecompressor()
        #expect(packed.withUnsafeBytes { decompressor.decompress($0, atMost: text.count) } == text)
        #expect(packed.withUnsafeBytes { decompressor.decompress($0, atMost: text.count - 1) } == nil)
        #expect(packed.dropLast().withUnsafeBytes { decompressor.decompress($0, atMost: text.count) } == nil)
        // A frame header (magic number, single segment, eight bytes of size) that promises an exabyte, and one block.
        let bomb: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0xE0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0]
        #expect(bomb.withUnsafeBytes { decompressor.decompress($0, atMost: .max) } == nil)
        // Without a size in its header: window descriptor, one last raw block of three bytes.
        let unsized: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x00, 0x19, 0, 0, 1, 2, 3]
        #expect(unsized.withUnsafeBytes { decompressor.decompress($0, atMost: 3) } == [1, 2, 3])
        #expect(unsized.withUnsafeBytes { decompressor.decompress($0, atMost: 2) } == nil)
    }

    @Test("scrypt derives what RFC 7914 says, and parameters that take too much memory are refused")
    func scrypt() {
        let derived = Scrypt(cost: 1024, blockSize: 8, parallelism: 16).derive("password", salt: Array("NaCl".utf8), count: 64)
        #expect(
            derived?.prefix(16) == [0xfd, 0xba, 0xbe, 0x1c, 0x9d, 0x34, 0x72, 0x00, 0x78, 0x56, 0xe7, 0x19, 0x0d, 0x01, 0xe9, 0xfe])
        for bad in [
            (1 << 21, 8, 1), (1 << 20, 8, 1), (3, 8, 1), (0, 8, 1), (1 << 15, 65, 1), (1 << 15, 8, 17), (1 << 15, 0, 1), (.min, .max, .max),
        ] {
            #expect(Scrypt(cost: bad.0, blockSize: bad.1, parallelism: bad.2).fault != nil)
        }
    }

    @Test("Base64 follows RFC 4648")
    func base64() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            #expect(Base64.encode(Array(plain.utf8)) == text)
            #expect(Base64.decode(text) == Array(plain.utf8))
        }
        for bad in ["Zg=", "Z===", "Zg==Zg==", "Zm9\n", "=Zg="] { #expect(Base64.decode(bad) == nil) }
    }

    @Test("the chunker's polynomial is irreducible: restic's own passes, a product does not")
    func polynomial() {
        #expect(ChunkerPolynomial(coefficients: 0x25b4_6883_8dcb_75).isIrreducible)
        #expect(!ChunkerPolynomial(coefficients: 1 << 53 | 1).isIrreducible)
        #expect(!ChunkerPolynomial(coefficients: 0x25b4_6883_8dcb_75 ^ 0b110).isIrreducible)
        #expect(ChunkerPolynomial.random() != ChunkerPolynomial.random())
    }
}
