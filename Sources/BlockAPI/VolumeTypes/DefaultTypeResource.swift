import BlockStorage
import Database
import HTTPServer
import JSON
import Primitives

/// `/default-types`, since 3.62: the type that a project's volumes get when they name none.
struct DefaultTypeResource: Resource {
    let store: Store
    /// Whether the identity service knows the project; true where nobody can say.
    let projectExists: @Sendable (_ project: String, _ token: Secret) async throws -> Bool

    private struct DefaultType: Sendable {
        let project, type: String
    }

    private static let view = View<DefaultType>(
        "default_type", "default_types", [.text("project_id") { $0.project }, .text("volume_type_id") { $0.type }])
    private static let forbidden = "You are not authorized to perform this operation."

    var operations: [APIOperation] {
        [
            APIOperation(
                "default-types:list", "GET", "/default-types", versions: 62...71, policies: ["volume_extension:default_get_all"],
                answers: .all(Self.view), forbiddenMessage: Self.forbidden, summary: "List the default types of projects"
            ) { request in
                try await store.list(for: request.caller, isShort: true) {
                    try DefaultTypes.all(in: $0).map { DefaultType(project: $0.project, type: $0.type) }
                }
            },
            APIOperation(
                "default-types:show", "GET", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_get"],
                answers: .one(Self.view), forbiddenMessage: Self.forbidden, summary: "Show the default type of a project"
            ) { request in
                let project = request.parameters[0]
                guard let type = try await store.read({ try DefaultTypes.find(project, in: $0) }) else {
                    throw HTTPError.notFound("Default type for project \(project) not found.")
                }
                return DefaultType(project: project, type: type)
            },
            APIOperation(
                "default-types:set", "PUT", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_set_or_update"],
                body: .object(
                    [
                        ("default_type", .object([("volume_type", .string(1, 255, format: .mandatoryName))], required: ["volume_type"]))
                    ], others: true), answers: .one(Self.view), forbiddenMessage: Self.forbidden,
                summary: "Set the default type of a project"
            ) { request in
                let project = request.parameters[0]
                guard let name = request.body["default_type"]?["volume_type"]?.trimmedString else {
                    throw HTTPError.badRequest("'default_type' is a required property")
                }
                guard try await projectExists(project, Secret(request.http.header("X-Auth-Token") ?? "")) else {
                    throw HTTPError.notFound("Project with id \(project) not found.")
                }
                let type = try await store.write { tx in
                    let type: VolumeType
                    do { type = try VolumeTypes.resolve(name, in: tx) } catch let error as StorageError where error.kind == .notFound {
                        throw StorageError(.invalid, error.message)
                    }
                    try DefaultTypes.set(type, project: project, in: tx)
                    return type.id
                }
                return DefaultType(project: project, type: type)
            },
            APIOperation(
                "default-types:unset", "DELETE", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_unset"],
                answers: .empty(204), forbiddenMessage: Self.forbidden, summary: "Take the default type of a project away"
            ) { request in try await store.write { try DefaultTypes.unset(request.parameters[0], in: $0) } },
        ]
    }
}
