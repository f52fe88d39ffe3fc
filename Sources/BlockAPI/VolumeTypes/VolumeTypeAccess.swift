import BlockStorage
import HTTPServer
import JSON

/// Which projects may use a private type.
enum VolumeTypeAccess {
    static let `extension` = APIExtension(
        alias: "os-volume-type-access", name: "VolumeTypeAccess", description: "Volume type access support.",
        updated: "2014-06-26T00:00:00Z",
        operations: [
            APIOperation(
                "type-access:list", "GET", "/types/{type_id}/os-volume-type-access",
                policies: ["volume_extension:volume_type_access:get_all_for_type"], summary: "List the projects that may use a private type"
            ) { request in
                let id = request.parameters[0]
                let projects = try await request.database { try VolumeTypes.projects(id, in: $0) }
                return .json { writer in
                    writer.beginObject()
                    writer.key("volume_type_access")
                    writer.beginArray()
                    for project in projects {
                        writer.beginObject()
                        writer.member("volume_type_id", id)
                        writer.member("project_id", project)
                        writer.endObject()
                    }
                    writer.endArray()
                    writer.endObject()
                }
            },
            change("addProjectAccess", "Let a project use a private type") { id, project, request in
                try await request.change { try VolumeTypes.grant(id, to: project, in: $0) }
            },
            change("removeProjectAccess", "Take a private type from a project") { id, project, request in
                try await request.change { try VolumeTypes.revoke(id, from: project, in: $0) }
            },
        ])

    private static func change(
        _ key: String, _ summary: String, _ body: @escaping @Sendable (_ id: String, _ project: String, APIRequest) async throws -> Void
    ) -> APIOperation {
        APIOperation(
            "types:\(key)", "POST", "/types/{id}/action", action: key,
            policies: [
                key == "addProjectAccess"
                    ? "volume_extension:volume_type_access:addProjectAccess" : "volume_extension:volume_type_access:removeProjectAccess"
            ],
            body: .action(key, .object([("project", .string(1, 255))], required: ["project"])), success: 202, summary: summary
        ) { request in
            try await body(request.parameters[0], request.body[key]?["project"]?.string ?? "", request)
            return HTTPResponse(status: 202, contentType: "text/html; charset=UTF-8")
        }
    }
}
