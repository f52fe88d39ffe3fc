import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// `/types`, their extra specs and who may use them.
struct VolumeTypeResource: Resource {
    let store: Store
    let requests: VolumeRequests
    /// The name of the type that volumes get when they name none.
    let defaultType: String

    var operations: [APIOperation] {
        [
            VolumeTypeList.list(store).operation(
                "types:list", policies: ["volume_extension:type_get_all"], parts: [.summary, .qos, .access], summary: "List volume types"),
            APIOperation(
                "types:show", "GET", "/types/{id}", policies: ["volume_extension:type_get"],
                answers: .rendered { version in
                    // What a volume gets that names no type is shown without its access.
                    .of(
                        "volume_type",
                        .either([
                            VolumeTypeView.view.shape([.summary, .qos, .access], version: version),
                            VolumeTypeView.view.shape([.summary, .qos], version: version),
                        ]))
                }, summary: "Show a volume type"
            ) { request in
                let isDefault = request.parameters[0] == "default"
                let type = try await store.read { connection in
                    if isDefault {
                        // What a volume of the caller's project gets that names no type.
                        return try requests.defaultType(of: request.caller, in: connection)
                    }
                    return try VolumeTypes.get(request.parameters[0], for: request.caller, in: connection)
                }
                let plan = VolumeTypeView.view.plan(isDefault ? [.summary, .qos] : [.summary, .qos, .access], for: request)
                return Rendered { writer in
                    writer.beginObject()
                    writer.key(plan.view.name)
                    plan.write(type, &writer)
                    writer.endObject()
                }
            },
        ]
    }

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-types-manage", name: "TypesManage", description: "Types manage support.", updated: "2011-08-24T00:00:00+00:00",
                operations: management),
            APIExtension(
                alias: "os-types-extra-specs", name: "TypesExtraSpecs", description: "Type extra specs support.",
                updated: "2011-08-24T00:00:00+00:00", operations: extraSpecs.operations),
            APIExtension(
                alias: "os-volume-type-access", name: "VolumeTypeAccess", description: "Volume type access support.",
                updated: "2014-06-26T00:00:00Z", operations: access),
        ]
    }

    // MARK: changes

    private static let creation = Schema.object(
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
        ], required: ["volume_type"])

    private static let change = Schema.object(
        [
            (
                "volume_type",
                .object([
                    ("name", .string(1, 255, nullable: true)), ("description", .string(0, 255, nullable: true, format: .printable)),
                    ("is_public", .boolean),
                ])
            )
        ], required: ["volume_type"])

    private var management: [APIOperation] {
        [
            APIOperation(
                "types:create", "POST", "/types", policies: ["volume_extension:type_create"], body: Self.creation,
                answers: .one(VolumeTypeView.view, [.summary, .access]), summary: "Create a volume type"
            ) { request in
                let body = request.body["volume_type"]
                return try await store.write(
                    for: request.caller,
                    refused: { error, _ in
                        error.kind == .conflict ? .refusedType(.create, asked: body, because: error) : nil
                    }
                ) { tx in
                    let type = try VolumeTypes.create(
                        name: body?["name"]?.trimmedString ?? "", description: body?["description"]?.trimmedString,
                        isPublic: body?["os-volume-type-access:is_public"]?.lenientBool ?? true,
                        extraSpecs: body?["extra_specs"]?.object ?? [:], in: tx)
                    try CatalogueNotification.type(.create, type).note(by: request.caller, in: tx)
                    return type
                }
            },
            APIOperation(
                "types:update", "PUT", "/types/{id}", policies: ["volume_extension:type_update"], body: Self.change,
                answers: .one(VolumeTypeView.view, .summary), summary: "Change a volume type"
            ) { request in
                let body = request.body["volume_type"]
                let name = body?["name"]?.trimmedString
                let isPublic = body?["is_public"]?.lenientBool
                if let name, name.isEmpty { throw HTTPError.badRequest("Volume type name can not be empty.") }
                guard name != nil || isPublic != nil || body?["description"].map({ !$0.isNull }) ?? false else {
                    throw HTTPError.badRequest("Specify volume type name, description, is_public or a combination thereof.")
                }
                let id = request.parameters[0]
                return try await store.write(
                    for: request.caller,
                    refused: { error, _ in
                        switch error.kind {
                        case .conflict: .refusedType(.update, asked: body, because: error)
                        case .notFound: .refusedType(.update, id: id, because: error)
                        default: nil
                        }
                    }
                ) { tx in
                    let type = try VolumeTypes.update(
                        id, name: name, description: body?["description"].map { JSON($0.trimmedString) }, isPublic: isPublic, in: tx)
                    try CatalogueNotification.type(.update, type).note(by: request.caller, in: tx)
                    return type
                }
            },
            APIOperation(
                "types:delete", "DELETE", "/types/{id}", policies: ["volume_extension:type_delete"],
                answers: .empty(202, as: HTTPResponse.html), summary: "Delete a volume type"
            ) { request in
                let id = request.parameters[0]
                try await store.write(
                    for: request.caller,
                    refused: { error, tx in
                        error.kind == .notFound
                            ? .refusedType(.delete, id: id, because: error)
                            : .refusedType(.delete, shown: try VolumeTypes.get(id, in: tx), because: error)
                    }
                ) { tx in
                    let type = try VolumeTypes.get(id, in: tx)
                    try VolumeTypes.delete(id, defaultName: defaultType, in: tx)
                    try CatalogueNotification.type(.delete, type).note(by: request.caller, in: tx)
                }
            },
        ]
    }

    // MARK: extra specs

    private var extraSpecs: MetadataResource {
        MetadataResource(
            store: store, name: "extra-specs", path: "/types/{type_id}/extra_specs", noun: "a type's extra specs", member: "extra_specs",
            item: nil, items: .metadata(keys: .extraSpecKey, nullableValues: true), values: .nullable(.text),
            rules: MetadataResource.Rules(
                list: "volume_extension:types_extra_specs:index", show: "volume_extension:types_extra_specs:show",
                create: "volume_extension:types_extra_specs:create", replace: nil, update: "volume_extension:types_extra_specs:update",
                delete: "volume_extension:types_extra_specs:delete"),
            showsAllAfterAdding: false, deleted: .empty(202), visible: { VolumeTypeView.visible($0, $1) },
            missing: { StorageError(.notFound, "Volume Type \($0) has no extra specs with key \($1).") },
            read: { try VolumeTypes.get($0, for: $1, in: $2).extraSpecs },
            change: { id, _, tx, change in
                var changed: JSONObject = [:]
                try VolumeTypes.updateExtraSpecs(id, in: tx) { specs in
                    try change(&specs)
                    changed = specs
                }
                return changed
            },
            noted: { change, id, caller, tx in
                let type = try VolumeTypes.get(id, in: tx)
                let told: CatalogueNotification.ExtraSpecsChange =
                    switch change {
                    case .added(let items): .added(items)
                    case .set(let key): .set(key: key)
                    case .removed(let key): .removed(key: key)
                    }
                try CatalogueNotification.extraSpecs(told, of: type).note(by: caller, in: tx)
            })
    }

    // MARK: who may use a private type

    private struct Access: Sendable {
        let type, project: String
    }

    private static let accessView = View<Access>(
        "volume_type_access", "volume_type_access", [.text("volume_type_id") { $0.type }, .text("project_id") { $0.project }])

    private var access: [APIOperation] {
        [
            APIOperation(
                "type-access:list", "GET", "/types/{type_id}/os-volume-type-access",
                policies: ["volume_extension:volume_type_access:get_all_for_type"], answers: .all(Self.accessView),
                summary: "List the projects that may use a private type"
            ) { request in
                let id = request.parameters[0]
                return try await store.list(for: request.caller, isShort: true) { try VolumeTypes.projects(id, in: $0) }.map {
                    Access(type: id, project: $0)
                }
            },
            accessChange(
                "addProjectAccess", "volume_extension:volume_type_access:addProjectAccess", "Let a project use a private type"
            ) {
                try VolumeTypes.grant($0, to: $1, in: $2)
                return .accessGranted($0, to: $1)
            },
            accessChange(
                "removeProjectAccess", "volume_extension:volume_type_access:removeProjectAccess", "Take a private type from a project"
            ) {
                try VolumeTypes.revoke($0, from: $1, in: $2)
                return .accessRevoked($0, from: $1)
            },
        ]
    }

    private func accessChange(
        _ key: String, _ rule: Policies.Rule, _ summary: String,
        _ change: @escaping @Sendable (_ id: String, _ project: String, any Transaction) throws -> CatalogueNotification
    ) -> APIOperation {
        APIOperation(
            "types:\(key)", "POST", "/types/{id}/action", action: key, policies: [rule],
            body: .action(key, .object([("project", .string(1, 255))], required: ["project"])),
            answers: .empty(202, as: HTTPResponse.html), summary: summary
        ) { request in
            let project = request.body[key]?["project"]?.string ?? ""
            try await store.write { try change(request.parameters[0], project, $0).note(by: request.caller, in: $0) }
        }
    }
}
