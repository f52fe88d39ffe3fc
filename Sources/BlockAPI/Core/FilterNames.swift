import HTTPServer

/// The check of a query's words that no list and no stream knows: passed over in silence, a misspelt filter would give everything.
enum FilterNames {
    /// Throws an error that names those of the given names that are not known, each once.
    ///
    /// - Parameter tellsKnown: whether it also says which are known. In Cinder's own lists it does not.
    static func check(
        _ given: some Sequence<String>, known: some Collection<String>, tellsKnown: Bool = false
    ) throws(HTTPError) {
        var unknown: [String] = []
        for name in given where !known.contains(name) && !unknown.contains(name) { unknown.append(name) }
        try refuse(unknown, tells: tellsKnown ? " Known are \(known.joined(separator: ", "))." : "")
    }

    /// Throws an error that names these, if there are any.
    static func refuse(_ unknown: [String], tells more: String = "") throws(HTTPError) {
        guard !unknown.isEmpty else { return }
        throw .badRequest("Invalid filters \(unknown.joined(separator: ",")) are found in query options." + more)
    }
}
