// Searches text by its UTF-8 bytes. A Swift `Character` includes combining marks, so that "/" followed by an accent is not equal to
// "/"; kernels, databases and clients, which read bytes, still see the slash.
extension StringProtocol {
    /// Whether the UTF-8 bytes contain the ASCII character.
    public func holds(_ ascii: Unicode.Scalar) -> Bool { utf8.contains(UInt8(ascii: ascii)) }

    /// Splits at the ASCII character, byte by byte.
    public func parts(at ascii: Unicode.Scalar, maxSplits: Int = .max, omittingEmpty: Bool = true) -> [SubSequence] {
        utf8.split(separator: UInt8(ascii: ascii), maxSplits: maxSplits, omittingEmptySubsequences: omittingEmpty).map {
            self[$0.startIndex..<$0.endIndex]
        }
    }

    /// Whether the UTF-8 bytes begin with those of `text`.
    public func begins(_ text: some StringProtocol) -> Bool { utf8.starts(with: text.utf8) }
}
