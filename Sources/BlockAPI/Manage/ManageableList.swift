import BlockStorage
import Database
import HTTPServer
import JSON

/// What a backend holds, and whether it can be taken over. The backend is asked anew each time, and its answer sorted in memory.
struct ManageableList: Sendable {
    let store: Store
    let names: StorageNames
    let serviceDownTime: Int
    let inventory: any BackendInventory
    /// The volume or snapshot whose storage has the name.
    let owner: @Sendable (_ name: String, any Connection) throws -> String?

    /// A storage object, and whether it can be taken over.
    struct Manageable: Sendable {
        /// What it is managed by.
        let name: String
        let size: Int64
        let owner: String?
        /// Why the driver leaves it as it is.
        let reason: String?
        /// For a snapshot: the object it is of.
        let source: String?
    }

    private static func reference(_ name: String) -> JSON { ["source-name": .string(name)] }

    private static let fields: [Field<Manageable>] = [
        .written("reference", .of("source-name", .text)) { object, _, writer in writer.value(reference(object.name)) },
        .integer("size") { Int($0.size) },
        .flag("safe_to_manage") { $0.owner == nil && $0.reason == nil },
    ]
    private static let source = Field<Manageable>.written("source_reference", .nullable(.of("source-name", .text))) { object, _, writer in
        writer.value(object.source.map(reference) ?? .null)
    }
    private static let details: [Field<Manageable>] = [
        Field.optionalText("reason_not_safe") { $0.owner == nil ? $0.reason : "already managed" }.part(.detail),
        Field.optionalText("cinder_id") { $0.owner }.part(.detail),
        Field.null("extra_info").part(.detail),
    ]

    private static let volumes = View<Manageable>("manageable-volume", "manageable-volumes", fields + details)
    private static let snapshots = View<Manageable>("manageable-snapshot", "manageable-snapshots", fields + [source] + details)

    enum Column: String, CaseIterable { case reference, size }

    struct Query: ListQuery {
        let limit: Int
        var marker: String?
        var offset = 0
        var sort: [(column: Column, ascending: Bool)] = []
        var objects: [Listed] = []
        let isShort = false

        init(projectID: String?, limit: Int) { self.limit = limit }
    }

    func list(_ path: String, snapshots: Bool) -> List<Query, Manageable, [Manageable]> {
        List(
            store: store, view: snapshots ? Self.snapshots : Self.volumes, path: path,
            reading: .onlyKnown(["host", "cluster"], hasAllTenants: false),
            check: { request in
                try request.oneOf(host: request.query("host") ?? "", cluster: cluster(request), since: 17)
            },
            // Both are looked at before the backend is asked.
            filter: { _, _, _, _ in },
            column: { name, _ in Column(rawValue: name) },
            invalidSortKey: { .badRequest("Invalid input received: Invalid sort keys: \($0); known are reference and size") },
            prepare: { request, query in
                let cluster = cluster(request)
                guard cluster.isEmpty else { throw HTTPError.notFound("Cluster \(cluster) could not be found.") }
                let service = try await service(request.query("host") ?? "")
                query.objects = Self.objects(
                    try await inventory.list(service.host, requestID: request.caller.requestID), snapshots: snapshots, names)
            }, read: { try page($0, in: $1) }, write: List.each { $0.name })
    }

    private func cluster(_ request: APIRequest) -> String { request.version >= 17 ? request.query("cluster") ?? "" : "" }

    private func service(_ host: String) async throws -> Service {
        try await store.read { connection in
            guard try Services.find(binary: "cinder-volume", host: HostName.backend(of: host), in: connection) != nil else {
                throw StorageError(.notFound, "Service cinder-volume could not be found on host \(host).")
            }
            return try Services.usable(host, downAfter: serviceDownTime, in: connection)
        }
    }

    private func page(_ query: Query, in connection: any Connection) throws -> [Manageable] {
        var found = try query.objects.map { object in
            Manageable(
                name: object.reference, size: object.size, owner: try owner(object.name, connection), reason: object.reason,
                source: object.source)
        }
        let order = query.sort.isEmpty ? [(column: Column.reference, ascending: false)] : query.sort
        found.sort { a, b in
            for (column, ascending) in order {
                if column == .size, a.size != b.size { return (a.size < b.size) == ascending }
                if column == .reference, a.name != b.name { return (a.name < b.name) == ascending }
            }
            return a.name < b.name
        }
        if let marker = query.marker {
            // Clients send the reference as they were given it.
            let name = PythonLiteral.dictionary(marker)?.first { $0.key == .text("source-name") }?.value.columnText ?? marker
            guard let index = found.firstIndex(where: { $0.name == name }) else {
                throw HTTPError.badRequest("Invalid input received: marker not found: \(marker)")
            }
            found.removeFirst(index + 1)
        }
        return Array(found.dropFirst(query.offset).prefix(query.limit))
    }

    typealias Listed = (name: String, reference: String, size: Int64, reason: String?, source: String?)

    /// Objects of a driver's list: volumes, or snapshots, which a driver may list in their volume or beside it.
    private static func objects(_ listing: JSON, snapshots: Bool, _ names: StorageNames) -> [Listed] {
        (listing["volumes"]?.array ?? []).flatMap { object -> [Listed] in
            guard let name = object["name"]?.string else { return [] }
            let size = object["size"]?.integer ?? 0
            let isSnapshot = names.snapshotID(name) != nil
            let own: Listed = (
                name: name, reference: object["reference"]?.string ?? name, size: size, reason: object["unsafe"]?.string, source: nil
            )
            guard snapshots else { return isSnapshot ? [] : [own] }
            if isSnapshot { return [own] }
            return (object["snapshots"]?.array ?? []).compactMap { snapshot in
                names.snapshot(listed: snapshot["id"]?.string, snapshot["name"]?.string).map {
                    (name: $0, reference: $0, size: size, reason: nil, source: name)
                }
            }
        }
    }
}
