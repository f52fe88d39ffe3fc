extension String {
    /// The text, or its beginning and an ellipsis where it has more bytes: for what somebody else wrote and we keep or log. A character that
    /// does not fit whole is left out.
    public func shortened(to limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var end = utf8.index(startIndex, offsetBy: limit)
        while UTF8.isContinuation(utf8[end]) { end = utf8.index(before: end) }
        return self[..<end] + "…"
    }
}
