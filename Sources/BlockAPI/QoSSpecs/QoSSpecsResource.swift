import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

extension QoSQuery: ListQuery {}

/// `/qos-specs`, and the types that are associated with them.
struct QoSSpecsResource: Resource {
    let store: Store

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "qos-specs", name: "Qos_specs_manage", description: "QoS specs support.", updated: "2013-08-02T00:00:00+00:00",
                operations: specs + associations)
        ]
    }

    static let view = View<QoSSpecs>(
        "qos_specs", "qos_specs", describedAs: "QoSSpecs",
        [
            .text("id") { $0.id },
            .text("name") { $0.name },
            .choice("consumer", QoSSpecs.Consumer.all.map(\.rawValue)) { $0.consumer.rawValue },
            .written("specs", .map(.nullable(.text))) { specs, _, writer in writer.value(.object(specs.specs)) },
        ])

    private static func rule(_ name: String) -> Policies.Rule { Policies.Rule(stringLiteral: "volume_extension:qos_specs_manage:\(name)") }
    private static let done = Reply<Void>.empty(202, as: HTTPResponse.html)

    private var list: List<QoSQuery, QoSSpecs, [QoSSpecs]> {
        List(
            store: store, view: Self.view, path: "qos-specs",
            reading: .everything(known: ["id", "name", "consumer"], hasAllTenants: false), linksKey: "qos_specs_links",
            filter: { filter, _, _, query in
                if let column = QoSQuery.Column(rawValue: filter.name), [.id, .name, .consumer].contains(column) {
                    query.filters.append((column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
                } else {
                    query.matchesNothing = true
                }
            },
            column: { name, _ in QoSQuery.Column(rawValue: name) }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    private static let creation = Schema.object(
        [("qos_specs", .object([("name", .string(format: .trimmedName))], required: ["name"], others: true))], required: ["qos_specs"])
    private static let removal = Schema.object([("keys", .array(of: .string(1, 255), areUnique: true))], required: ["keys"])

    private var specs: [APIOperation] {
        [
            list.operation("qos-specs:list", policies: [Self.rule("get_all")], parts: .whole, summary: "List QoS specs"),
            APIOperation(
                "qos-specs:create", "POST", "/qos-specs", policies: [Self.rule("create")], body: Self.creation, answers: .qosSpecs,
                summary: "Create QoS specs: every member but name and consumer is one"
            ) { request in
                var specs = request.body["qos_specs"]?.object ?? [:]
                let name = specs["name"]?.trimmedString ?? ""
                specs["name"] = nil
                return try await store.write(
                    for: request.caller, refused: { error, _ in .refusedQoS(.create, name: name, because: error) }
                ) { [specs] tx in
                    let made = try QoSSpecs.create(name: name, specs: specs, in: tx)
                    try CatalogueNotification.qosCreated(made, with: specs).note(by: request.caller, in: tx)
                    return made
                }
            },
            APIOperation(
                "qos-specs:show", "GET", "/qos-specs/{id}", policies: [Self.rule("get")], answers: .qosSpecs, summary: "Show QoS specs"
            ) { request in try await store.read { try QoSSpecs.get(request.parameters[0], in: $0) } },
            APIOperation(
                "qos-specs:update", "PUT", "/qos-specs/{id}", policies: [Self.rule("update")],
                body: .object([("qos_specs", .metadata(nullableValues: true))], required: ["qos_specs"]),
                answers: .member("qos_specs", .map(.nullable(.text))), summary: "Add to QoS specs, or change their consumer"
            ) { request in
                let specs = request.body["qos_specs"]?.object ?? [:]
                try await write(.update, request) { id, tx in
                    try QoSSpecs.update(id, with: specs, in: tx)
                    return .qosUpdated(try QoSSpecs.get(id, in: tx), with: specs)
                }
                return .object(specs)
            },
            APIOperation(
                "qos-specs:delete-keys", "PUT", "/qos-specs/{id}/delete_keys", policies: [Self.rule("delete")], body: Self.removal,
                answers: Self.done, summary: "Remove specs by their keys"
            ) { request in
                let keys = request.body["keys"]?.array?.compactMap(\.string) ?? []
                try await write(.removeKeys, request) { id, tx in
                    try QoSSpecs.remove(keys, from: id, in: tx)
                    return .qosKeysRemoved(try QoSSpecs.get(id, in: tx))
                }
            },
            APIOperation(
                "qos-specs:delete", "DELETE", "/qos-specs/{id}", policies: [Self.rule("delete")],
                query: [APIOperation.Parameter("force", .text, "Whether types that have them lose them.")], answers: Self.done,
                summary: "Delete QoS specs"
            ) { request in
                let force = try request.flag("force")
                try await write(.delete, request) { id, tx in
                    let specs = try QoSSpecs.get(id, in: tx)
                    try QoSSpecs.delete(id, force: force, in: tx)
                    return .qosDeleted(specs, at: tx.now)
                }
            },
        ]
    }

    /// Makes a change of the specs that the path names and notes it for others, or that it was refused.
    private func write(
        _ change: CatalogueNotification.QoSChange, _ request: APIRequest,
        _ body: @escaping @Sendable (_ id: String, any Transaction) throws -> CatalogueNotification
    ) async throws {
        let id = request.parameters[0]
        try await store.write(for: request.caller, refused: { error, _ in .refusedQoS(change, id: id, because: error) }) { tx in
            try body(id, tx).note(by: request.caller, in: tx)
        }
    }

    // MARK: associations, which change by GET

    private static let association = View<VolumeType>(
        "qos_association", "qos_associations",
        [.text("association_type") { _ in "volume_type" }, .text("name") { $0.name }, .text("id") { $0.id }])

    private var associations: [APIOperation] {
        [
            APIOperation(
                "qos-specs:associations", "GET", "/qos-specs/{id}/associations", policies: [Self.rule("get_all")],
                answers: .all(Self.association), summary: "List the types that have QoS specs"
            ) { request in
                try await store.list(for: request.caller, isShort: true) { try QoSSpecs.associations(of: request.parameters[0], in: $0) }
            },
            change(.associate, "Give QoS specs to a type") { try QoSSpecs.associate($0, with: $1, in: $2) },
            change(.disassociate, "Take QoS specs from a type") { try QoSSpecs.disassociate($0, from: $1, in: $2) },
            APIOperation(
                "qos-specs:disassociate-all", "GET", "/qos-specs/{id}/disassociate_all", policies: [Self.rule("update")],
                answers: Self.done, changesByGet: true, summary: "Take QoS specs from every type"
            ) { request in
                try await write(.disassociateAll, request) { id, tx in
                    try QoSSpecs.disassociateAll(from: id, in: tx)
                    return .qosAssociations(.disassociateAll, try QoSSpecs.get(id, in: tx))
                }
            },
        ]
    }

    private func change(
        _ kind: CatalogueNotification.QoSChange, _ summary: String,
        _ change: @escaping @Sendable (_ id: String, _ type: String, any Transaction) throws -> Void
    ) -> APIOperation {
        APIOperation(
            "qos-specs:\(kind.rawValue)", "GET", "/qos-specs/{id}/\(kind.rawValue)", policies: [Self.rule("update")],
            query: [APIOperation.Parameter("vol_type_id", .text, "The type.")], answers: Self.done, changesByGet: true, summary: summary
        ) { request in
            guard let type = request.query("vol_type_id"), !type.isEmpty else {
                throw HTTPError.badRequest("Volume Type id must not be None.")
            }
            try await write(kind, request) { id, tx in
                try change(id, type, tx)
                return .qosAssociations(kind, try QoSSpecs.get(id, in: tx), typeID: type)
            }
        }
    }
}

extension Reply where Output == QoSSpecs {
    /// `{"qos_specs": {...}, "links": [...]}`: the links stand beside.
    fileprivate static var qosSpecs: Reply {
        let view = QoSSpecsResource.view
        return Reply(
            status: 200,
            shape: { .object([Shape.Member("\(view.name)", view.shape(.whole, version: $0)), Shape.Member("links", Shape.links)]) }
        ) { specs, request in
            let plan = view.plan(.whole, for: request)
            return .json { writer in
                writer.beginObject()
                writer.key(view.name)
                plan.write(specs, &writer)
                writer.key("links")
                var id = specs.id
                id.withUTF8 { request.links.write("qos-specs/", $0, &writer) }
                writer.endObject()
            }
        }
    }
}
