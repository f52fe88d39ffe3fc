import CDriver
import DriverKit
import ObjectServers

// Objects that are kept until a time, where the bucket has Object Lock.
extension S3Client {
    /// Whether the bucket has it. A server that does not know of it has none.
    func hasObjectLock(_ requester: Requester) throws -> Bool {
        do {
            let response = try send(Request("GET", query: [("object-lock", "")]), for: requester)
            return XMLElement(parsing: response.body)?["ObjectLockEnabled"] == "Enabled"
        } catch let failure as S3Failure {
            if failure.trouble.isTemporary, failure.status != 501 { throw failure.trouble.error }
            return false
        }
    }

    /// Until when an object is kept, in seconds since 1970; nil if it is not, or is not there.
    private func retention(_ response: HTTPResponse?) -> Int64? {
        response?.header("x-amz-object-lock-retain-until-date").flatMap { ServerTime.parse(iso: $0) }
    }

    /// - Throws: BUSY while the object is protected. In a bucket with versions a removal would succeed, and hide what it cannot remove.
    func refuseIfProtected(_ name: String, _ requester: Requester) throws {
        guard let until = retention(try head(name, requester)), until > now else { return }
        throw DriverError(CLINKER_BUSY, "\(name) is protected until \(ServerTime.iso(until))")
    }

    func protect(_ name: String, until: Int64, _ requester: Requester) throws {
        guard let found = try head(name, requester) else { throw Self.notFound(name) }
        // A time that has passed already needs no protection, and a shorter one than before gives none.
        guard until > now, retention(found).map({ $0 < until }) ?? true else { return }
        let body = Array(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode><RetainUntilDate>\(ServerTime.iso(until))</RetainUntilDate></Retention>"
                .utf8)
        var query = [(name: "retention", value: "")]
        if let version = found.header("x-amz-version-id") { query.append((name: "versionId", value: version)) }
        try body.withUnsafeBytes { bytes in
            var request = Request("PUT", name, query: query)
            request.headers = [("Content-Type", "application/xml")]
            request.body = [bytes]
            request.md5 = Hashes.md5([bytes])
            _ = try expect(request, for: requester)
        }
    }
}
