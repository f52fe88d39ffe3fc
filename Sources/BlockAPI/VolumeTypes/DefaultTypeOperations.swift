import BlockStorage
import HTTPServer
import JSON
import Primitives

/// `/default-types`, since 3.62: the type that a project's volumes get when they name none.
enum DefaultTypeOperations {
    private static let refusal = "You are not authorized to perform this operation."

    static let all: [APIOperation] = [
        APIOperation(
            "default-types:list", "GET", "/default-types", versions: 62...71, policies: ["volume_extension:default_get_all"],
            refusal: refusal, summary: "List the default types of projects"
        ) { request in
            let types = try await request.database { try DefaultTypes.all(in: $0) }
            return HTTPResponse.json(of: "default_types", .array(types.map { view($0.project, $0.type) }))
        },
        APIOperation(
            "default-types:show", "GET", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_get"],
            refusal: refusal, summary: "Show the default type of a project"
        ) { request in
            let project = request.parameters[0]
            guard let type = try await request.database({ try DefaultTypes.find(project, in: $0) }) else {
                throw HTTPError.notFound("Default type for project \(project) not found.")
            }
            return HTTPResponse.json(of: "default_type", view(project, type))
        },
        APIOperation(
            "default-types:set", "PUT", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_set_or_update"],
            body: .object([
                ("default_type", .object([("volume_type", .string(1, 255, format: .mandatoryName))], required: ["volume_type"]))
            ]), refusal: refusal, summary: "Set the default type of a project"
        ) { request in
            let project = request.parameters[0]
            guard let name = request.body["default_type"]?["volume_type"]?.trimmedString else {
                throw HTTPError.badRequest("'default_type' is a required property")
            }
            guard try await request.service.projectExists(project, Secret(request.http.header("X-Auth-Token") ?? "")) else {
                throw HTTPError.notFound("Project with id \(project) not found.")
            }
            let type = try await request.change { tx in
                let type: VolumeType
                do { type = try VolumeTypes.resolve(name, in: tx) } catch let error as StorageError where error.kind == .notFound {
                    throw StorageError(.invalid, error.message)
                }
                try DefaultTypes.set(type, project: project, in: tx)
                return type.id
            }
            return HTTPResponse.json(of: "default_type", view(project, type))
        },
        APIOperation(
            "default-types:unset", "DELETE", "/default-types/{id}", versions: 62...71, policies: ["volume_extension:default_unset"],
            success: 204, refusal: refusal, summary: "Take the default type of a project away"
        ) { request in
            try await request.change { try DefaultTypes.unset(request.parameters[0], in: $0) }
            return HTTPResponse(status: 204)
        },
    ]

    private static func view(_ project: String, _ type: String) -> JSON {
        ["project_id": .string(project), "volume_type_id": .string(type)]
    }
}
