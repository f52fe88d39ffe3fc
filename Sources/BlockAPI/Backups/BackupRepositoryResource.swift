import BlockStorage
import HTTPServer
import JSON
import Primitives

/// `/backup-repositories`: beside Cinder's API, for `clinker backup`.
struct BackupRepositoryResource: Resource {
    let repositories: any BackupRepositories

    private static let place = [
        APIOperation.Parameter("project_id", .text, "The project of the repository."),
        APIOperation.Parameter("store", .text, "The store; it may be left out where there is one."),
    ]

    private static let ofOne: [(name: String, schema: Schema)] = [
        ("project_id", .string(1, 255)), ("store", .string(1, 255, nullable: true)),
    ]
    private static let ofAll: [(name: String, schema: Schema)] = [
        ("project_id", .string(1, 255, nullable: true)), ("store", .string(1, 255, nullable: true)),
    ]

    private static let key = Shape.object([
        Shape.Member("id", .text), Shape.Member("created_at", .text), Shape.Member("user", .text), Shape.Member("host", .text),
        Shape.Member("is_service", .boolean),
    ])

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-backup-repositories", name: "BackupRepositories",
                description: "Keys, space and lost rows of the repositories of backups.", updated: "2026-11-30T00:00:00+00:00",
                operations: keys + care)
        ]
    }

    private func project(_ request: APIRequest) throws -> String {
        guard let project = request.query("project_id"), (1...255).contains(project.unicodeScalars.count) else {
            throw HTTPError.badRequest(
                "Invalid input received: project_id must name the project of the repository, in 1 to 255 characters.")
        }
        return project
    }

    private var keys: [APIOperation] {
        [
            APIOperation(
                "backup-repositories:keys", "GET", "/backup-repositories/keys", policies: ["clinker:backup_repositories"],
                query: Self.place, answers: .member("keys", .list(Self.key)), summary: "List the keys of a repository"
            ) { request in try await repositories.keys(of: project(request), store: request.query("store")) },
            APIOperation(
                "backup-repositories:add_key", "POST", "/backup-repositories/keys", policies: ["clinker:backup_repositories"],
                body: .object(
                    [("key", .object(Self.ofOne + [("passphrase", .string(1, 1024))], required: ["project_id", "passphrase"]))],
                    required: ["key"]),
                answers: .member("key", .object([Shape.Member("id", .text)])), summary: "Add a key to a repository"
            ) { request in
                let key = request.body["key"]
                let id = try await repositories.addKey(
                    Secret(key?["passphrase"]?.string ?? ""), to: key?["project_id"]?.string ?? "", store: key?["store"]?.string)
                return ["id": .string(id)]
            },
            APIOperation(
                "backup-repositories:remove_key", "DELETE", "/backup-repositories/keys/{id}", policies: ["clinker:backup_repositories"],
                query: Self.place, answers: .empty(204), summary: "Remove a key from a repository"
            ) { request in
                try await repositories.removeKey(request.parameters[0], of: project(request), store: request.query("store"))
            },
        ]
    }

    private var care: [APIOperation] {
        [
            APIOperation(
                "backup-repositories:prune", "POST", "/backup-repositories/prune", policies: ["clinker:backup_repositories"],
                body: .object([("prune", .object(Self.ofAll))], required: ["prune"]),
                answers: .member("repositories", .list(.map(.any))), summary: "Free the space of what no backup needs"
            ) { request in
                let wanted = request.body["prune"]
                return try await repositories.prune(wanted?["project_id"]?.string, store: wanted?["store"]?.string)
            },
            APIOperation(
                "backup-repositories:import", "POST", "/backup-repositories/import", policies: ["clinker:backup_repositories"],
                body: .object([("import", .object(Self.ofAll))], required: ["import"]),
                answers: .member("import", .map(.any)), summary: "Bring lost backups back from what their repositories hold"
            ) { request in
                let wanted = request.body["import"]
                return try await repositories.importBackups(
                    of: wanted?["project_id"]?.string, store: wanted?["store"]?.string, caller: request.caller)
            },
        ]
    }
}
