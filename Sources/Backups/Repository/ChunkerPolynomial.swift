/// The polynomial by which restic cuts files into chunks when it backs up into the repository. Ours are cut at fixed places, but restic
/// refuses a repository whose polynomial is not irreducible over GF(2).
struct ChunkerPolynomial: Equatable {
    static let degree = 53
    /// One bit per coefficient.
    let coefficients: UInt64

    /// A random irreducible polynomial of degree 53; about one candidate in 27 is.
    static func random() -> ChunkerPolynomial {
        while true {
            let bits = UInt64.random(in: 0..<1 << UInt64(degree)) | 1 << UInt64(degree) | 1
            let candidate = ChunkerPolynomial(coefficients: bits)
            if candidate.isIrreducible { return candidate }
        }
    }

    var hex: String { String(coefficients, radix: 16) }

    /// Rabin's test. The degree is prime, so f is irreducible if and only if it divides x^(2^53) - x and has no root, which are 0 and 1.
    var isIrreducible: Bool {
        guard coefficients >> UInt64(Self.degree) == 1, coefficients & 1 == 1, coefficients.nonzeroBitCount & 1 == 1 else { return false }
        var power: UInt64 = 2
        for _ in 0..<Self.degree { power = squared(power) }
        return power == 2
    }

    /// The square modulo f.
    private func squared(_ a: UInt64) -> UInt64 {
        var result: UInt64 = 0
        var term = a
        for bit in 0..<Self.degree {
            if a >> UInt64(bit) & 1 == 1 { result ^= term }
            term <<= 1
            if term >> UInt64(Self.degree) & 1 == 1 { term ^= coefficients }
        }
        return result
    }
}
