import BlockStorage
import Database
import HTTPServer
import JSON
import Primitives

/// The lists of volumes: what the query's words mean.
enum VolumeListing {
    /// Filters that everybody may use.
    static let memberFilters = ResourceFilters.of("volume").union(["glance_metadata"])
    /// Filters that have a LIKE form.
    static let likeFilters: Set<String> = ["name", "status", "availability_zone", "description", "host", "display_name"]

    static func list(_ request: APIRequest, detail: Bool) async throws -> HTTPResponse {
        let paging = try Paging(request)
        var query = VolumeQuery(projectID: request.wantsAllTenants ? nil : request.caller.projectID, limit: paging.limit)
        query.offset = paging.offset
        query.marker = paging.marker
        query.sort = try paging.order { VolumeQuery.Column(rawValue: $0 == "name" ? "display_name" : $0) }
        query.filters = try filters(request)
        if request.wantsAllTenants, let project = request.query("project_id") { query.projectID = project }
        let wantsCount = request.version >= 45 && request.query("with_count").map { PythonText.bool($0) == true } ?? false
        if request.version >= 45, let text = request.query("with_count"), PythonText.bool(text) == nil {
            throw HTTPError.badRequest("Invalid input received: with_count must be a boolean, not \(text)")
        }

        let asked = query
        return try await request.list(isShort: query.isShort && !wantsCount) { connection in
            var writer = JSONWriter(capacity: detail ? 96 * 1024 : 16 * 1024)
            writer.beginObject()
            writer.key("volumes")
            writer.beginArray()
            var count = 0
            var last = ""
            if asked.limit > 0 {
                try asked.page(in: connection) { row in
                    count += 1
                    if count == asked.limit { last = row.text(.id) }
                    if detail {
                        VolumeView.detail(try VolumeView.source(row, in: connection), request, extended: true, &writer)
                    } else {
                        VolumeView.summary(row, request, &writer)
                    }
                }
            }
            writer.endArray()
            if asked.limit > 0, count >= asked.limit {
                request.links.writeNext(
                    "volumes_links", path: detail ? "volumes/detail" : "volumes", request: request.http, marker: last, &writer)
            }
            if wantsCount { writer.member("count", try asked.count(in: connection)) }
            writer.endObject()
            return HTTPResponse(status: 200, body: .buffer(writer.take()))
        }
    }

    // MARK: filters

    private static func filters(_ request: APIRequest) throws -> [VolumeQuery.Filter] {
        var result: [VolumeQuery.Filter] = []
        if request.http.rawQuery.isEmpty { return result }
        try request.eachFilter(allowed: memberFilters) { name, value, isLike in
            result += try filter(name, value, isLike: isLike, request)
        }
        if !request.identity.isAdmin { result.append(.hasNoMigrationTarget) }
        return result
    }

    private static func filter(_ key: String, _ value: String, isLike: Bool, _ request: APIRequest) throws -> [VolumeQuery.Filter] {
        switch key {
        case "metadata", "glance_metadata":
            if key == "glance_metadata", request.version < 4 { return [] }
            guard let pairs = try FilterPairs.read(key, value) else { return [.nothing] }
            return [.map(key == "metadata" ? .metadata : .image_metadata, pairs)]
        case "bootable":
            if let bool = PythonText.bool(value) { return [.equals(.bootable, .bool(bool))] }
            if request.version >= 2 { throw HTTPError.badRequest("bootable={'\(value)'} is invalid: it must be a boolean") }
            return [.equals(.bootable, .bool(true))]
        case "host" where !isLike: return [.host(value)]
        case "group_id" where request.version < 10: return []
        case "consumes_quota" where request.version < 65: return []
        case "created_at", "updated_at":
            guard request.version >= 60 else {
                return request.identity.isAdmin ? [.equals(key == "created_at" ? .created_at : .updated_at, .text(value))] : []
            }
            return try times(key == "created_at" ? .created_at : .updated_at, value)
        default: break
        }
        guard let column = VolumeQuery.Column(rawValue: key == "name" ? "display_name" : key) else { return [.nothing] }
        if isLike { return likeFilters.contains(key) ? [.contains(column, value)] : [.nothing] }
        if column.isBoolean {
            guard let bool = PythonText.bool(value) else {
                throw HTTPError.badRequest("Invalid input received: \(key) must be a boolean, not \(value)")
            }
            return [.equals(column, .bool(bool))]
        }
        if column.isInteger {
            guard let number = Int(value) else { return [.nothing] }
            return [.equals(column, .int(number))]
        }
        if value == "None" || (value.isEmpty && key == "migration_status") { return [.equals(column, .null)] }
        return [.equals(column, .text(value))]
    }

    private static let comparisons = ["gt": ">", "gte": ">=", "eq": "=", "neq": "<>", "lt": "<", "lte": "<="]

    /// `gt:2020-01-01T00:00:00,lt:...`
    private static func times(_ column: VolumeQuery.Column, _ text: String) throws(HTTPError) -> [VolumeQuery.Filter] {
        var result: [VolumeQuery.Filter] = []
        let items = text.split(separator: ",")
        guard items.count <= comparisons.count else {
            throw .badRequest("Invalid input received: \(column.rawValue) has \(items.count) comparisons, more than \(comparisons.count)")
        }
        for item in items {
            let parts = item.split(separator: ":", maxSplits: 1)
            let hasOperator = parts.count == 2 && comparisons[String(parts[0])] != nil
            if parts.count == 2, !hasOperator, parts[0].allSatisfy({ $0.isLetter }) {
                throw .badRequest("Invalid input received: '\(parts[0])' is no comparison of times; known are gt, gte, eq, neq, lt, lte")
            }
            let comparison = hasOperator ? comparisons[String(parts[0])] ?? "=" : "="
            let time = hasOperator ? String(parts[1]) : String(item)
            guard let seconds = Timestamp.parse(time.trimmed) else {
                throw .badRequest("Invalid input received: '\(time)' is no time of the form YYYY-MM-DDThh:mm:ss")
            }
            result.append(.compare(column, comparison, .text(Timestamp.format(seconds))))
        }
        return result
    }

    static func summary(_ request: APIRequest) async throws -> HTTPResponse {
        let project = request.wantsAllTenants ? nil : request.caller.projectID
        let summary = try await request.list(isShort: false) { try VolumeQuery.summary(projectID: project, in: $0) }
        return .json { writer in
            writer.beginObject()
            writer.key("volume-summary")
            writer.beginObject()
            writer.member("total_count", summary.count)
            writer.member("total_size", summary.size)
            if request.version >= 36 {
                writer.key("metadata")
                writer.beginObject()
                for (key, values) in summary.metadata {
                    writer.key(key)
                    writer.beginArray()
                    for value in values { writer.string(value) }
                    writer.endArray()
                }
                writer.endObject()
            }
            writer.endObject()
            writer.endObject()
        }
    }
}
