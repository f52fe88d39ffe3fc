import BlockStorage
import HTTPServer
import JSON
import Primitives

/// The lists of volumes: what the query's words mean.
enum VolumeListing {
    private static let rules = ListFilters.Rules(
        resource: "volume", allTenants: .boolean, older: ResourceFilters.of("volume"),
        since: ["glance_metadata": 4, "group_id": 10, "created_at": 60, "updated_at": 60],
        renames: ["consumes_quota": "use_quota"], countsSince: 45)

    /// A column under the name that Cinder's table has for it.
    static func column(_ name: String) -> VolumeQuery.Column? {
        switch name {
        case "use_quota": .consumes_quota
        case "_name_id": .name_id
        case "name", "description", "consumes_quota", "name_id": nil
        default: VolumeQuery.Column(rawValue: name)
        }
    }

    static func list(_ request: APIRequest, detail: Bool) async throws -> HTTPResponse {
        let paging = try Paging(request)
        let filters = try ListFilters(request, rules)
        var query = VolumeQuery(projectID: filters.wantsAllProjects ? nil : request.caller.projectID, limit: paging.limit)
        query.offset = paging.offset
        query.marker = paging.marker
        for filter in filters.filters {
            // Without all_tenants the list is the caller's project's, whatever is asked.
            if filter.name == "project_id", !filters.wantsAllProjects { continue }
            query.filters += try self.filter(filter, request)
        }
        if !request.identity.isAdmin, !request.http.rawQuery.isEmpty { query.filters.append(.hasNoMigrationTarget) }
        query.sort = try paging.order { column($0 == "name" ? "display_name" : $0) }
        let wantsCount = try request.version >= 45 && request.flag("with_count")

        let asked = query
        let (volumes, total) = try await request.list(isShort: query.isShort && !wantsCount) { connection in
            (asked.limit > 0 ? try asked.page(in: connection) : nil, wantsCount ? try asked.count(in: connection) : nil)
        }
        var writer = JSONWriter(capacity: detail ? 96 * 1024 : 16 * 1024)
        writer.beginObject()
        writer.key("volumes")
        writer.beginArray()
        var count = 0
        var last = ""
        volumes?.forEach { row, attachments in
            count += 1
            if count == asked.limit { last = row.text(.id) }
            if detail {
                VolumeView.detail(VolumeView.Source(row: row, attachments: attachments), request, extended: true, &writer)
            } else {
                VolumeView.summary(row, request, &writer)
            }
        }
        writer.endArray()
        if asked.limit > 0, count >= asked.limit {
            request.links.writeNext(
                "volumes_links", path: detail ? "volumes/detail" : "volumes", request: request.http, marker: last, &writer)
        }
        if let total { writer.member("count", total) }
        writer.endObject()
        return HTTPResponse(status: 200, body: .buffer(writer.take()))
    }

    // MARK: filters

    private static func filter(_ filter: ListFilters.Filter, _ request: APIRequest) throws(HTTPError) -> [VolumeQuery.Filter] {
        if !filter.isLike {
            switch filter.name {
            case "metadata", "glance_metadata":
                guard let pairs = try ListFilters.pairs(filter) else { return [.nothing] }
                return [.map(filter.name == "metadata" ? .metadata : .image_metadata, pairs)]
            case "host", "cluster_name":
                guard case .equals(.text(let text)) = try ListFilters.match(filter, isInteger: false, readsLiterals: true), !text.isEmpty
                else { return [] }
                return [filter.name == "host" ? .host(text) : .equals(.cluster_name, .text(text))]
            case "created_at", "updated_at":
                let column: VolumeQuery.Column = filter.name == "created_at" ? .created_at : .updated_at
                return try ListFilters.times(filter).map { .compare(column, $0.comparison, .text($0.time)) }
            case "use_quota": return [.equals(.consumes_quota, .bool(try APIRequest.flag(filter.name, filter.value)))]
            // As it stands: a volume may be called None.
            case "name", "display_name": return [.equals(.display_name, .text(filter.value))]
            default: break
            }
        } else if filter.name == "name" || filter.name == "description" {
            // Renamed since 3.31.
            guard request.version >= 31 else { return filter.name == "name" ? [] : [.nothing] }
            return [
                .matches(
                    filter.name == "name" ? .display_name : .display_description,
                    try ListFilters.match(filter, isInteger: false, readsLiterals: true))
            ]
        }
        guard let column = column(filter.name) else { return [.nothing] }
        if column.isBoolean, !filter.isLike {
            if request.version < 2 { return [.equals(column, .bool(!["False", "false", "FALSE", ""].contains(filter.value)))] }
            guard let bool = PythonText.bool(filter.value.trimmed) else {
                throw .badRequest("Invalid input received: '\(filter.name) = \(filter.value)'")
            }
            return [.equals(column, .bool(bool))]
        }
        let match = try ListFilters.match(filter, isInteger: column.isInteger, readsLiterals: true)
        if case .equals(let value) = match { return [.equals(column, value)] }
        return [.matches(column, match)]
    }

    static func summary(_ request: APIRequest) async throws -> HTTPResponse {
        let project = try request.wantsAllProjects() ? nil : request.caller.projectID
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
