import HTTPServer

/// The microversion of a request: 3.0 to 3.71, kept as its second number.
enum APIVersion {
    static let latest = 71
    static let all = 0...latest

    /// What a request's header asks for. Throws the 400s and 406s of version negotiation.
    static func negotiate(_ header: String?) throws(HTTPError) -> Int {
        guard let header else { return 0 }
        var asked: Substring?
        for item in header.split(separator: ",") {
            let words = item.split(separator: " ")
            if words.count == 2, words[0].lowercased() == "volume" { asked = words[1] }
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
            throw HTTPError(406, "Version \(asked) is not supported by the API. Minimum is 3.0 and maximum is 3.\(latest).")
        }
        return minor
    }

    /// Digits without a leading zero.
    private static func number(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), text == "0" || text.first != "0" else { return nil }
        return Int(text)
    }

    /// The header's value for each version, made once.
    static let headers = all.map { StaticText("volume 3.\($0)") }
}
