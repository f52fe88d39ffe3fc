/// Texts by their bytes. To Swift a character and the marks behind it are one Character: a slash with an accent is no slash. To
/// whoever reads the bytes, a kernel, a database or a client, it is.
extension StringProtocol {
    /// Whether the ASCII character is somewhere among the bytes.
    public func holds(_ ascii: Unicode.Scalar) -> Bool { utf8.contains(UInt8(ascii: ascii)) }

    /// What is between the ASCII character's places: as `split`, byte by byte.
    public func parts(at ascii: Unicode.Scalar, maxSplits: Int = .max, omittingEmpty: Bool = true) -> [SubSequence] {
        utf8.split(separator: UInt8(ascii: ascii), maxSplits: maxSplits, omittingEmptySubsequences: omittingEmpty).map {
            self[$0.startIndex..<$0.endIndex]
        }
    }

    /// Whether the bytes begin so.
    public func begins(_ text: some StringProtocol) -> Bool { utf8.starts(with: text.utf8) }
}
