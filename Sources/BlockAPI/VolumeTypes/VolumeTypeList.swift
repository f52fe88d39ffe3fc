import BlockStorage
import Database
import HTTPServer
import JSON

/// The list of types. There are few of them: they are filtered and sorted in memory.
enum VolumeTypeList {
    static func list(_ store: Store) -> List<Query, VolumeType, [VolumeType]> {
        List(
            store: store, view: VolumeTypeView.view, path: "types",
            reading: .rules(
                ListFilters.Rules(resource: "volume_type", allTenants: .notKnown, refusesSince: 52, older: .only(["is_public"]))),
            linksKey: "volume_type_links",
            filter: { filter, request, _, query in if let test = try test(filter, request) { query.tests.append(test) } },
            column: { name, _ in Column(rawValue: name) },
            prepare: { request, query in
                query.project = request.caller.projectID
                query.isPublic = try publicity(request)
            }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    /// What types are filtered and sorted by, under the names of Cinder's table.
    enum Column: String, CaseIterable {
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

    struct Query: ListQuery {
        let limit: Int
        var marker: String?
        var offset = 0
        var sort: [(column: Column, ascending: Bool)] = []
        var tests: [@Sendable (VolumeType) -> Bool] = []
        /// Whether types must be public; nil: both.
        var isPublic: Bool?
        var project = ""
        let isShort = true

        init(projectID: String?, limit: Int) { self.limit = limit }

        func page(in connection: any Connection) throws -> [VolumeType] {
            var types = try VolumeTypes.all(in: connection).filter { type in
                switch isPublic {
                case nil: true
                // A private type that the caller's project was given is among those it can use.
                case true?: try VolumeTypes.isUsable(type, in: project, in: connection)
                case false?: !type.isPublic
                }
            }
            types.removeAll { type in tests.contains { !$0(type) } }
            if let first = sort.first {
                // Ties take the first direction, as in every list.
                let keys = sort + [(column: .created_at, ascending: first.ascending), (column: .id, ascending: first.ascending)]
                types.sort { a, b in
                    for (column, ascending) in keys {
                        let (left, right) = (column.text(a) ?? "", column.text(b) ?? "")
                        if left != right { return (left < right) == ascending }
                    }
                    return false
                }
            }
            if let marker {
                guard let index = types.firstIndex(where: { $0.id == marker }) else { throw StorageError.typeNotFound(marker) }
                types.removeFirst(index + 1)
            }
            return Array(types.dropFirst(offset).prefix(limit))
        }
    }

    /// The test that a filter makes; nil if it makes none.
    private static func test(
        _ filter: ListFilters.Filter, _ request: APIRequest
    ) throws(HTTPError) -> (@Sendable (VolumeType) -> Bool)? {
        if filter.name == "is_public", !filter.isLike { return nil }
        if filter.name == "extra_specs", !filter.isLike {
            guard let pairs = try ListFilters.pairs(filter) else {
                throw HTTPError.badRequest("Invalid input received: extra_specs must be a dictionary, not \(filter.value)")
            }
            // Who may not read a key must not find out what it holds by asking for it.
            guard
                request.allows("volume_extension:types_extra_specs:read_sensitive")
                    || pairs.allSatisfy({ VolumeTypeView.visibleSpecs.contains($0.key) })
            else { return { _ in false } }
            return { type in
                pairs.allSatisfy { pair in
                    guard let value = pair.value, let own = type.extraSpecs[pair.key]?.string else { return false }
                    // A list of zones, of which one is asked for.
                    return pair.key == "RESKEY:availability_zones" ? own.contains(value) : own == value
                }
            }
        }
        guard let column = Column(rawValue: filter.name), !filter.isLike else { return { _ in false } }
        let value = filter.value
        return { column.text($0) == value }
    }

    /// Whether types must be public; nil: both.
    private static func publicity(_ request: APIRequest) throws(HTTPError) -> Bool? {
        // Others see the public ones, whatever they ask for.
        guard request.identity.isAdmin, let asked = request.query("is_public") else { return true }
        if asked.lowercased() == "none" { return nil }
        guard let value = PythonText.bool(asked) else { throw HTTPError.badRequest("Invalid is_public filter [\(asked)]") }
        return value
    }
}
