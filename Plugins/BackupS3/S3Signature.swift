import ObjectServers

/// Signs requests by version 4 of Amazon's rules: the method, the path, the query, the headers that are named, and the hash of the body.
/// The secret key itself never leaves the machine.
struct S3Signature: Sendable {
    let accessKey, secretKey: String

    /// The value of `Authorization`.
    ///
    /// - Parameters:
    ///   - path: quoted, as it is sent.
    ///   - query: quoted and in the order of its names, as it is sent.
    ///   - headers: those that are signed, `host`, `x-amz-date` and `x-amz-content-sha256` among them.
    ///   - moment: as `20261130T090807Z`.
    func authorization(
        _ method: String, path: String, query: String, headers: [(name: String, value: String)], payload: String, moment: String,
        region: String
    ) -> String {
        let sorted = headers.map { (name: $0.name.lowercased(), value: Self.trimmed($0.value)) }.sorted { $0.name < $1.name }
        let names = sorted.map(\.name).joined(separator: ";")
        let lines = [method, path, query] + sorted.map { "\($0.name):\($0.value)" } + ["", names, payload]
        let day = String(moment.prefix(8))
        let scope = "\(day)/\(region)/s3/aws4_request"
        let request = Hashes.hex(Hashes.sha256(Array(lines.joined(separator: "\n").utf8)))
        let text = "AWS4-HMAC-SHA256\n\(moment)\n\(scope)\n\(request)"
        var key = Array(("AWS4" + secretKey).utf8)
        for word in [day, region, "s3", "aws4_request"] { key = Hashes.hmacSHA256(key: key, word) }
        let signature = Hashes.hex(Hashes.hmacSHA256(key: key, text))
        return "AWS4-HMAC-SHA256 Credential=\(accessKey)/\(scope), SignedHeaders=\(names), Signature=\(signature)"
    }

    /// Without spaces at the ends, and with one for several within.
    private static func trimmed(_ value: String) -> String { value.split(separator: " ").joined(separator: " ") }
}
