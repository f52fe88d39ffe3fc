import Primitives

/// Hashes of zeroes, which are needed again and again.
final class ZeroHashes: Sendable {
    let blockSize: Int
    /// The SHA-256 of a block of zeroes.
    let block: Digest
    /// Hashes of 0, 1, 2... pieces of zeroes.
    private let begun = Guarded<[MD5]>([])
    private static let piece = 1 << 20
    private static let longestList = 512

    init(blockSize: Int) {
        self.blockSize = blockSize
        block = Self.sha256(blockSize)
    }

    /// The SHA-256 of so many zeroes.
    func block(_ count: Int) -> Digest { count == blockSize ? block : Self.sha256(count) }

    private static func sha256(_ count: Int) -> Digest { Digest.sha256([UInt8](repeating: 0, count: count)) }

    /// The MD5 of so many zeroes. Only what goes beyond a whole number of pieces is hashed every time.
    func md5(_ count: Int) -> MD5.Value {
        let zeroes = [UInt8](repeating: 0, count: Self.piece)
        return zeroes.withUnsafeBytes { zeroes in
            let hash = begun.withLock { begun in
                while begun.count <= count / Self.piece, begun.count <= Self.longestList {
                    let next = begun.last.map { MD5(copying: $0) } ?? MD5()
                    if !begun.isEmpty { next.update(zeroes) }
                    begun.append(next)
                }
                return MD5(copying: begun[min(begun.count - 1, count / Self.piece)])
            }
            var rest = count - min(Self.longestList, count / Self.piece) * Self.piece
            while rest > 0 {
                let part = min(rest, zeroes.count)
                hash.update(UnsafeRawBufferPointer(rebasing: zeroes[..<part]))
                rest -= part
            }
            return hash.finish()
        }
    }
}
