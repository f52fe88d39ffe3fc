/// The media types that a client takes, as its `Accept` header ranks them.
struct AcceptedTypes {
    private struct Range {
        let type, subtype: Substring
        let quality: Double

        /// How narrowly the range fits a type; nil if it does not.
        func specificity(of offer: (type: Substring, subtype: Substring)) -> Int? {
            if type == "*", subtype == "*" { return 0 }
            guard type == offer.type else { return nil }
            return subtype == "*" ? 1 : subtype == offer.subtype ? 2 : nil
        }
    }

    private static let longest = 4096, most = 64
    /// nil: everything is taken, since nothing readable was said.
    private let ranges: [Range]?

    init(_ header: String?) {
        guard let header, !header.isEmpty, header.utf8.count <= Self.longest else {
            ranges = nil
            return
        }
        var ranges: [Range] = []
        for part in header.lowercased().split(separator: ",") {
            guard ranges.count < Self.most, let range = Self.range(part) else {
                self.ranges = nil
                return
            }
            if let range = range.range { ranges.append(range) }
        }
        self.ranges = ranges
    }

    /// The range that a part of the header is: nil if it is none, an empty one if it has parameters, which no type here has.
    private static func range(_ part: Substring) -> (range: Range?, Void)? {
        let pieces = part.split(separator: ";", omittingEmptySubsequences: false).map { trimmed($0) }
        let names = pieces[0].split(separator: "/", omittingEmptySubsequences: false)
        guard names.count == 2, names.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } }) else { return nil }
        guard names[0] != "*" || names[1] == "*" else { return nil }
        var quality = 1.0
        var hasParameters = false
        for piece in pieces.dropFirst() {
            if piece.utf8.starts(with: "q=".utf8) {
                guard let value = Double(piece.dropFirst(2)), (0...1).contains(value) else { return nil }
                quality = value
            } else {
                hasParameters = true
            }
        }
        return (hasParameters ? nil : Range(type: names[0], subtype: names[1], quality: quality), ())
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while text.first == " " || text.first == "\t" { text.removeFirst() }
        while text.last == " " || text.last == "\t" { text.removeLast() }
        return text
    }

    /// The offer that the client likes best, of several that it likes alike the first; nil if it takes none.
    func best(of offers: [String]) -> String? {
        guard let ranges else { return offers.first }
        var best: (offer: String, quality: Double)?
        for offer in offers {
            let names = offer.split(separator: "/")
            let fitting = ranges.compactMap { range in
                range.specificity(of: (names[0], names[1])).map { (specificity: $0, quality: range.quality) }
            }
            guard let range = fitting.max(by: { $0.specificity < $1.specificity }), range.quality > 0 else { continue }
            if range.quality > best?.quality ?? 0 { best = (offer, range.quality) }
        }
        return best?.offer
    }
}
