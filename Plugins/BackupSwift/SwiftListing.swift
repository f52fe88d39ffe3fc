import CDriver
import DriverKit
import JSON
import ObjectServers

// The objects of the container, page by page.
extension SwiftClient {
    func list(prefix: String, after: String, _ requester: Requester, _ each: (StoredObject) -> Bool) throws {
        try listAll(prefix: prefix, after: after, requester) { object in
            // What others keep here, what has no object's name, and the segments of large objects.
            ObjectName.problem(with: object.name) != nil || each(object)
        }
    }

    /// As `list`, with the hidden names, too.
    func listAll(prefix: String, after: String, _ requester: Requester, _ each: (StoredObject) -> Bool) throws {
        let limit = 5000
        var last = after
        while true {
            var query = [("format", "json"), ("limit", String(limit))]
            if !prefix.isEmpty { query.append(("prefix", prefix)) }
            if !last.isEmpty { query.append(("marker", last)) }
            let page = try page(query, requester)
            if requester.isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            for entry in page {
                guard let name = entry["name"]?.string, let size = entry["bytes"]?.integer, size >= 0 else { throw Self.unreadable }
                // A page that goes back would never end.
                guard Array(last.utf8).lexicographicallyPrecedes(Array(name.utf8)) else { throw Self.unreadable }
                last = name
                guard name.utf8.starts(with: prefix.utf8) else { throw DriverError(CLINKER_ERROR, "the listing of \(prefix) has \(name)") }
                let modified = entry["last_modified"]?.string.flatMap { ServerTime.parse(iso: $0) } ?? 0
                guard each(StoredObject(name: name, size: UInt64(size), modified: modified)) else { return }
            }
            // A server may give less than was asked for.
            guard !page.isEmpty else { return }
        }
    }

    private static var unreadable: DriverError { DriverError(CLINKER_RETRY, "the listing of the container cannot be read") }

    private func page(_ query: [(name: String, value: String)], _ requester: Requester) throws -> [JSON] {
        try options.attempts.run(requester) { _ in
            let response: HTTPResponse
            do { response = try send(Request("GET", query: query), for: requester) } catch let failure as Failure {
                if failure.status == 404 { try checkContainer(requester) }
                throw failure.trouble.error
            }
            // No content: an empty container.
            if response.body.isEmpty { return [] }
            guard let page = (try? JSON(parsing: response.body))?.array else { throw Trouble(Self.unreadable, isTemporary: true) }
            return page
        }
    }
}
