import HTTPServer

/// The microversion of a request: 3.0 to 3.71, kept as its second number.
enum APIVersion {
    static let latest = 71
    static let all = 0...latest

    /// What a request's header, all its lines as one list, asks for. Throws the 400s and 406s of version negotiation; `unserved` is
    /// called before a 406 with the version that is not served, if it is one that answers name.
    ///
    /// Of the list the first item counts that names this service, as Cinder finds it: `volume`, `volumev3` and whatever else holds the word.
    static func negotiate(_ header: String?, unserved: (Substring) -> Void = { _ in }) throws(HTTPError) -> Int {
        guard let header else { return 0 }
        if let minor = plain(header) { return minor }
        var asked: Substring?
        for item in header.split(separator: ",") where item.contains("volume") {
            let words = item.split { $0.isWhitespace }
            if words.count == 2 { asked = words[1] }
            break
        }
        guard let asked else {
            throw .badRequest("The server could not comply with the request since it is either malformed or otherwise incorrect.")
        }
        if asked == "latest" { return latest }
        let numbers = asked.split(separator: ".", omittingEmptySubsequences: false)
        guard numbers.count == 2, let major = number(numbers[0]), let minor = number(numbers[1]) else {
            throw .badRequest("API Version String \(asked) is of invalid format. Must be of format MajorNum.MinorNum.")
        }
        guard major == 3, minor <= latest else {
            if major >= 3 { unserved(asked) }
            throw HTTPError(406, "Version \(asked) is not supported by the API. Minimum is 3.0 and maximum is 3.\(latest).")
        }
        return minor
    }

    /// The second number of `volume 3.N`, as almost all clients write it; nil for any other text.
    private static func plain(_ header: String) -> Int? {
        let bytes = header.utf8
        let known = "volume 3."
        guard bytes.count <= known.utf8.count + 2, bytes.starts(with: known.utf8) else { return nil }
        return number(header[bytes.index(bytes.startIndex, offsetBy: known.utf8.count)...]).flatMap { $0 <= latest ? $0 : nil }
    }

    /// Digits without a leading zero.
    private static func number(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), text == "0" || text.first != "0" else { return nil }
        return Int(text)
    }

    /// The header's value for each version, made once.
    static let headers = all.map { StaticText("volume 3.\($0)") }
}
