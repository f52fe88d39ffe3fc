import CDriver
import DriverKit
import ObjectServers

// The end of objects.
extension S3Client {
    /// Removes objects, up to 1,000, by one request; goes on behind those that cannot be removed and throws the first reason.
    func remove(_ names: [String], _ requester: Requester) throws {
        guard names.count > 1 else {
            for name in names { try remove(name, requester) }
            return
        }
        var left = names
        do {
            try options.attempts.run(requester) { _ in
                let refused = try removeTogether(left, requester)
                guard let first = refused.first else { return }
                left = refused.map(\.name)
                let hope = refused.allSatisfy { $0.failure.trouble.isTemporary }
                throw Trouble(first.failure.trouble.error, isTemporary: hope)
            }
        } catch let failure as S3Failure where [405, 501].contains(failure.status) || failure.code == "NotImplemented" {
            // A server that has no such request.
            var first: (any Error)?
            for name in left { do { try remove(name, requester) } catch { first = first ?? error } }
            if let first { throw first }
        } catch let failure as S3Failure { throw failure.trouble.error }
    }

    private func remove(_ name: String, _ requester: Requester) throws {
        do { _ = try send(Request("DELETE", name), for: requester) } catch let failure as S3Failure {
            guard failure.code == "NoSuchKey" else { throw failure.trouble.error }
        }
    }

    /// One request; those that the server did not remove.
    private func removeTogether(_ names: [String], _ requester: Requester) throws -> [(name: String, failure: S3Failure)] {
        let items = names.map { "<Object><Key>\(XMLElement.escaped($0))</Key></Object>" }.joined()
        let body = Array("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>\(items)</Delete>".utf8)
        let response = try body.withUnsafeBytes { bytes in
            var request = Request("POST", query: [("delete", "")])
            request.headers = [("Content-Type", "application/xml")]
            request.body = [bytes]
            // Without it servers refuse this request.
            request.md5 = Hashes.md5([bytes])
            request.readsError = true
            return try send(request, for: requester)
        }
        guard let root = XMLElement(parsing: response.body), root.name == "DeleteResult" else {
            throw Trouble(DriverError(CLINKER_RETRY, "what the server says of removed objects cannot be read"), isTemporary: true)
        }
        return try root.all("Error").compactMap { error in
            guard let code = error["Code"], code != "NoSuchKey" else { return nil }
            guard let name = error["Key"], names.contains(name) else {
                throw DriverError(CLINKER_ERROR, "the server does not say which objects it has not removed: \(code)")
            }
            let status = ["AccessDenied", "NoSuchBucket"].contains(code) ? 403 : 500
            return (
                name,
                S3Failure(
                    status: status, code: code, words: error["Message"] ?? "", "DELETE \(name)", secrets)
            )
        }
    }
}
