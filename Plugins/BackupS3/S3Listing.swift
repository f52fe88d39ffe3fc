import CDriver
import DriverKit
import ObjectServers

// The objects of the bucket, page by page.
extension S3Client {
    func list(prefix: String, after: String, _ requester: Requester, _ each: (StoredObject) -> Bool) throws {
        var last = Array(after.utf8)
        var token: String?
        // Pages on end that brought nothing new.
        var idle = 0
        while true {
            var query = [("list-type", "2"), ("max-keys", "1000")]
            if !prefix.isEmpty { query.append(("prefix", prefix)) }
            if let token { query.append(("continuation-token", token)) } else if !after.isEmpty { query.append(("start-after", after)) }
            let page = try page(query, requester)
            if requester.isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            var isForward = false
            let seen = last
            for entry in page.all("Contents") {
                guard let name = entry["Key"], let size = entry["Size"].flatMap({ UInt64($0) }) else { throw Self.unreadable }
                let bytes = Array(name.utf8)
                guard seen.lexicographicallyPrecedes(bytes) else { continue }
                guard last.lexicographicallyPrecedes(bytes) else {
                    throw DriverError(CLINKER_ERROR, "the server does not list the bucket in the order of bytes: \(name) comes late")
                }
                guard bytes.starts(with: prefix.utf8) else { throw DriverError(CLINKER_ERROR, "the listing of \(prefix) has \(name)") }
                (last, isForward) = (bytes, true)
                // What others keep here, and what has no object's name.
                guard ObjectName.problem(with: name) == nil else { continue }
                let modified = entry["LastModified"].flatMap { ServerTime.parse(iso: $0) } ?? 0
                guard each(StoredObject(name: name, size: size, modified: modified)) else { return }
            }
            guard page["IsTruncated"] == "true" || page["NextContinuationToken"]?.isEmpty == false else { return }
            idle = isForward ? 0 : idle + 1
            guard let next = page["NextContinuationToken"], !next.isEmpty, idle < 100 else { throw Self.unreadable }
            token = next
        }
    }

    private static var unreadable: DriverError { DriverError(CLINKER_RETRY, "the listing of the bucket cannot be read") }

    private func page(_ query: [(name: String, value: String)], _ requester: Requester) throws -> XMLElement {
        try options.attempts.run(requester) { _ in
            let response = try expect(Request("GET", query: query), for: requester)
            guard let page = XMLElement(parsing: response.body), page.name == "ListBucketResult" else {
                throw Trouble(Self.unreadable, isTemporary: true)
            }
            return page
        }
    }
}
