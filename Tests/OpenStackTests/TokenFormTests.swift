import Testing

@testable import OpenStack

@Suite("Forms of tokens")
struct TokenFormTests {
    /// As long as a token whose payload has so many blocks.
    private func fernet(_ blocks: Int) -> String {
        let digits = ((57 + 16 * blocks) * 4 + 2) / 3
        return "gAAAAABm" + String(repeating: "x", count: digits - 8)
    }

    @Test("fernet, signed and uuid tokens are possible, with and without padding")
    func possible() {
        for blocks in 1...12 {
            let token = fernet(blocks)
            #expect(TokenForm.isPossible(token), "\(blocks)")
            #expect(TokenForm.isPossible(token + String(repeating: "=", count: (4 - token.utf8.count % 4) % 4)), "\(blocks)")
        }
        #expect(TokenForm.isPossible("0123456789abcdef0123456789ABCDEF"))
        #expect(TokenForm.isPossible("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_"))
    }

    @Test("what has another first byte, length or character is no token")
    func impossible() {
        let good = fernet(5)
        let cut = String(good.dropLast())
        let bad: [String] = [
            "", "garbage", "gAAAAABk", cut, good + "x", good + "===", "h" + String(good.dropFirst()), cut + " ", cut + "\n", cut + "\u{E9}",
            String(cut.dropLast()) + "=x", fernet(600), "eyJ..", "eyJa.b", "eyJa.b.c.d", "eyJa.b.c ", "../../v3/users", "Bearer x",
            "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcde",
        ]
        for token in bad { #expect(!TokenForm.isPossible(token), "\(token.prefix(40))") }
    }
}
