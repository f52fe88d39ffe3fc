import BlockStorage
import HTTPServer
import JSON
import Policy
import Primitives

/// `/types` and their extra specs.
enum VolumeTypeOperations {
    static let core: [APIOperation] = [
        APIOperation(
            "types:list", "GET", "/types", policies: ["volume_extension:type_get_all"], summary: "List volume types", handler: list
        ),
        APIOperation("types:show", "GET", "/types/{id}", policies: ["volume_extension:type_get"], summary: "Show a volume type") {
            request in
            let isDefault = request.parameters[0] == "default"
            let type = try await request.database { connection in
                if isDefault {
                    // What a volume of the caller's project gets that names no type.
                    return try request.service.requests.defaultType(of: request.caller, in: connection)
                }
                return try VolumeTypes.get(request.parameters[0], for: request.caller, in: connection)
            }
            return .json { writer in
                writer.beginObject()
                writer.key("volume_type")
                view(type, request, showsAccess: !isDefault, showsQoS: true, &writer)
                writer.endObject()
            }
        },
    ]

    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "os-types-manage", name: "TypesManage", description: "Types manage support.", updated: "2011-08-24T00:00:00+00:00",
            operations: manage),
        APIExtension(
            alias: "os-types-extra-specs", name: "TypesExtraSpecs", description: "Type extra specs support.",
            updated: "2011-08-24T00:00:00+00:00", operations: extraSpecs),
        VolumeTypeAccess.extension,
    ]

    // MARK: types

    private static let rules = ListFilters.Rules(
        resource: "volume_type", allTenants: .notKnown, refusesSince: 52, older: ["is_public"])

    /// What types are filtered and sorted by, under the names of Cinder's table.
    private enum Column: String, CaseIterable {
        case id, name, description, qos_specs_id, is_public, created_at, updated_at, deleted_at, deleted

        func text(_ type: VolumeType) -> String? {
            switch self {
            case .id: type.id
            case .name: type.name
            case .description: type.description
            case .qos_specs_id: type.qosSpecsID
            case .is_public: type.isPublic ? "1" : "0"
            case .created_at: type.createdAt
            case .updated_at: type.updatedAt
            case .deleted: "0"
            case .deleted_at: nil
            }
        }
    }

    /// The test that a filter makes; nil if it makes none.
    private static func test(_ filter: ListFilters.Filter, _ request: APIRequest) throws(HTTPError) -> ((VolumeType) -> Bool)? {
        if filter.name == "is_public", !filter.isLike { return nil }
        if filter.name == "extra_specs", !filter.isLike {
            guard let pairs = try ListFilters.pairs(filter) else {
                throw HTTPError.badRequest("Invalid input received: extra_specs must be a dictionary, not \(filter.value)")
            }
            // Who may not read a key must not find out what it holds by asking for it.
            guard request.allows(rule("read_sensitive")) || pairs.allSatisfy({ visibleSpecs.contains($0.key) }) else {
                return { _ in false }
            }
            return { type in
                pairs.allSatisfy { pair in
                    guard let value = pair.value, let own = type.extraSpecs[pair.key]?.string else { return false }
                    // A list of zones, of which one is asked for.
                    return pair.key == "RESKEY:availability_zones" ? own.contains(value) : own == value
                }
            }
        }
        guard let column = Column(rawValue: filter.name), !filter.isLike else { return { _ in false } }
        return { column.text($0) == filter.value }
    }

    /// Whether types must be public; nil: both.
    private static func publicity(_ request: APIRequest) throws(HTTPError) -> Bool? {
        // Others see the public ones, whatever they ask for.
        guard request.identity.isAdmin, let asked = request.query("is_public") else { return true }
        if asked.lowercased() == "none" { return nil }
        guard let value = PythonText.bool(asked) else { throw HTTPError.badRequest("Invalid is_public filter [\(asked)]") }
        return value
    }

    @Sendable private static func list(_ request: APIRequest) async throws -> HTTPResponse {
        let paging = try Paging(request)
        let filters = try ListFilters(request, rules)
        let isPublic = try publicity(request)
        let tests = try filters.filters.compactMap { try test($0, request) }
        let order = try paging.order { Column(rawValue: $0) }
        var types = try await request.list(isShort: true) { connection in
            try VolumeTypes.all(in: connection).filter { type in
                switch isPublic {
                case nil: true
                // A private type that the caller's project was given is among those it can use.
                case true?: try VolumeTypes.isUsable(type, in: request.caller.projectID, in: connection)
                case false?: !type.isPublic
                }
            }
        }
        types.removeAll { type in tests.contains { !$0(type) } }
        if let first = order.first {
            // Ties take the first direction, as in every list.
            let keys = order + [(column: .created_at, ascending: first.ascending), (column: .id, ascending: first.ascending)]
            types.sort { a, b in
                for (column, ascending) in keys {
                    let (left, right) = (column.text(a) ?? "", column.text(b) ?? "")
                    if left != right { return (left < right) == ascending }
                }
                return false
            }
        }
        if let marker = paging.marker {
            guard let index = types.firstIndex(where: { $0.id == marker }) else { throw StorageError.typeNotFound(marker) }
            types.removeFirst(index + 1)
        }
        types = Array(types.dropFirst(paging.offset).prefix(paging.limit))
        let page = types
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key("volume_types")
            writer.beginArray()
            for type in page { view(type, request, showsAccess: true, showsQoS: true, &writer) }
            writer.endArray()
            if paging.limit > 0, page.count >= paging.limit, let last = page.last {
                request.links.writeNext("volume_type_links", path: "types", request: request.http, marker: last.id, &writer)
            }
            writer.endObject()
        }
    }

    private static let manage: [APIOperation] = [
        APIOperation(
            "types:create", "POST", "/types", policies: ["volume_extension:type_create"],
            body: .object(
                [
                    (
                        "volume_type",
                        .object(
                            [
                                ("name", .string(1, 255, format: .mandatoryName)),
                                ("description", .string(0, 255, nullable: true, format: .printable)),
                                ("extra_specs", .metadata(nullableValues: true)), ("os-volume-type-access:is_public", .boolean),
                            ], required: ["name"])
                    )
                ], required: ["volume_type"]), summary: "Create a volume type"
        ) { request in
            let body = request.body["volume_type"]
            let type = try await request.change { tx in
                try VolumeTypes.create(
                    name: body?["name"]?.trimmedString ?? "", description: body?["description"]?.trimmedString,
                    isPublic: body?["os-volume-type-access:is_public"]?.lenientBool ?? true,
                    extraSpecs: body?["extra_specs"]?.object ?? [:], in: tx)
            }
            return .json { writer in
                writer.beginObject()
                writer.key("volume_type")
                view(type, request, showsAccess: true, showsQoS: false, &writer)
                writer.endObject()
            }
        },
        APIOperation(
            "types:update", "PUT", "/types/{id}", policies: ["volume_extension:type_update"],
            body: .object(
                [
                    (
                        "volume_type",
                        .object([
                            ("name", .string(1, 255, nullable: true)), ("description", .string(0, 255, nullable: true, format: .printable)),
                            ("is_public", .boolean),
                        ])
                    )
                ], required: ["volume_type"]), summary: "Change a volume type"
        ) { request in
            let body = request.body["volume_type"]
            let name = body?["name"]?.trimmedString
            let isPublic = body?["is_public"]?.lenientBool
            if let name, name.isEmpty { throw HTTPError.badRequest("Volume type name can not be empty.") }
            guard name != nil || isPublic != nil || body?["description"].map({ !$0.isNull }) ?? false else {
                throw HTTPError.badRequest("Specify volume type name, description, is_public or a combination thereof.")
            }
            let type = try await request.change { tx in
                try VolumeTypes.update(
                    request.parameters[0], name: name, description: body?["description"].map { JSON($0.trimmedString) }, isPublic: isPublic,
                    in: tx)
            }
            return .json { writer in
                writer.beginObject()
                writer.key("volume_type")
                view(type, request, showsAccess: false, showsQoS: false, &writer)
                writer.endObject()
            }
        },
        APIOperation(
            "types:delete", "DELETE", "/types/{id}", policies: ["volume_extension:type_delete"], success: 202,
            summary: "Delete a volume type"
        ) { request in
            try await request.change { try VolumeTypes.delete(request.parameters[0], defaultName: request.service.defaultType, in: $0) }
            return HTTPResponse(status: 202, contentType: "text/html; charset=UTF-8")
        },
    ]

    // MARK: extra specs

    /// What users who are no administrators may see of a type.
    private static let visibleSpecs: Set<String> = ["RESKEY:availability_zones", "multiattach", "replication_enabled"]

    private static func rule(_ name: String) -> Policies.Rule {
        Policies.Rule(stringLiteral: "volume_extension:types_extra_specs:\(name)")
    }

    private static func missing(_ request: APIRequest) -> StorageError {
        StorageError(.notFound, "Volume Type \(request.parameters[0]) has no extra specs with key \(request.parameters[1]).")
    }

    private static let extraSpecs: [APIOperation] = [
        APIOperation(
            "extra-specs:list", "GET", "/types/{type_id}/extra_specs", policies: [rule("index")],
            summary: "Show a type's extra specs"
        ) { request in
            let specs = try await request.database { try VolumeTypes.get(request.parameters[0], for: request.caller, in: $0).extraSpecs }
            return .json { writer in
                writer.beginObject()
                writer.key("extra_specs")
                writer.value(.object(visible(specs, request)))
                writer.endObject()
            }
        },
        APIOperation(
            "extra-specs:create", "POST", "/types/{type_id}/extra_specs", policies: [rule("create")],
            body: .object([("extra_specs", .metadata(keys: .extraSpecKey, nullableValues: true))], required: ["extra_specs"]),
            summary: "Add to a type's extra specs"
        ) { request in
            let new = request.body["extra_specs"]?.object ?? [:]
            try await request.change { tx in
                try VolumeTypes.updateExtraSpecs(request.parameters[0], in: tx) { specs in
                    for member in new.members { specs[member.name] = member.value }
                }
            }
            return .json { writer in
                writer.beginObject()
                writer.member("extra_specs", .object(new))
                writer.endObject()
            }
        },
        APIOperation(
            "extra-specs:show", "GET", "/types/{type_id}/extra_specs/{key}", policies: [rule("show")],
            summary: "Show one of a type's extra specs"
        ) { request in
            let specs = try await request.database { try VolumeTypes.get(request.parameters[0], for: request.caller, in: $0).extraSpecs }
            guard let value = visible(specs, request)[request.parameters[1]] else { throw missing(request) }
            return .json { $0.value(.object(JSONObject([(name: request.parameters[1], value: value)]))) }
        },
        APIOperation(
            "extra-specs:update", "PUT", "/types/{type_id}/extra_specs/{key}", policies: [rule("update")],
            body: {
                var schema = Schema.metadata(keys: .extraSpecKey, nullableValues: true)
                schema.minimumMembers = 1
                schema.maximumMembers = 1
                return schema
            }(), summary: "Set one of a type's extra specs"
        ) { request in
            let key = request.parameters[1]
            guard let value = request.body[key] else { throw HTTPError.badRequest("Request body and URI mismatch") }
            try await request.change { tx in try VolumeTypes.updateExtraSpecs(request.parameters[0], in: tx) { $0[key] = value } }
            return .json { $0.value(.object(JSONObject([(name: key, value: value)]))) }
        },
        APIOperation(
            "extra-specs:delete", "DELETE", "/types/{type_id}/extra_specs/{key}", policies: [rule("delete")], success: 202,
            summary: "Remove one of a type's extra specs"
        ) { request in
            let failure = missing(request)
            try await request.change { tx in
                try VolumeTypes.updateExtraSpecs(request.parameters[0], in: tx) { specs in
                    guard specs[request.parameters[1]] != nil else { throw failure }
                    specs[request.parameters[1]] = nil
                }
            }
            return HTTPResponse(status: 202)
        },
    ]

    // MARK: view

    private static func visible(_ specs: JSONObject, _ request: APIRequest) -> JSONObject {
        if request.allows("volume_extension:types_extra_specs:read_sensitive") { return specs }
        return JSONObject(specs.members.filter { visibleSpecs.contains($0.name) })
    }

    private static func view(_ type: VolumeType, _ request: APIRequest, showsAccess: Bool, showsQoS: Bool, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("id", type.id)
        writer.member("name", type.name)
        writer.member("is_public", type.isPublic)
        writer.member("description", type.description)
        writer.member("extra_specs", .object(visible(type.extraSpecs, request)))
        if showsQoS, request.allows("volume_extension:access_types_qos_specs_id") {
            writer.member("qos_specs_id", type.qosSpecsID)
        }
        if showsAccess { writer.member("os-volume-type-access:is_public", type.isPublic) }
        writer.endObject()
    }
}
