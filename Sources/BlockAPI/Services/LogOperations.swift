import BlockStorage
import HTTPServer
import JSON
import Logging

/// `/os-services/get-log` and `set-log`, since 3.32. The services of a node are one process: a logger that several of them
/// have is the same one.
enum LogOperations {
    private static let loggers: [(binary: String, prefixes: [String])] = [
        ("cinder-api", ["clinker.api", "clinker.core", "clinker.keystone", "clinker.policy", "clinker.users"]),
        ("cinder-scheduler", ["clinker.flows"]), ("cinder-volume", ["clinker.backend", "clinker.flows", "clinker.periodic"]),
    ]
    private static let levels: [(name: String, level: Logger.Level)] = [
        ("DEBUG", .debug), ("INFO", .info), ("WARNING", .warning), ("ERROR", .error),
    ]

    private static let properties: [(name: String, schema: Schema)] = [
        ("binary", .choice("cinder-scheduler", "cinder-volume", "cinder-backup", "cinder-api", "", "*")),
        ("server", .string(0, 255, nullable: true)), ("prefix", .string(0, 255, nullable: true)),
    ]

    static let all: [APIOperation] = [
        APIOperation(
            "services:get-log", "PUT", "/os-services/get-log", versions: 32...71, policies: ["volume_extension:services:update"],
            body: .object(properties), summary: "Show the levels of loggers"
        ) { request in
            let chosen = try await chosen(request)
            return HTTPResponse.json(
                of: "log_levels",
                .array(
                    chosen.map { service in
                        [
                            "host": .string(service.host), "binary": .string(service.binary),
                            "levels": .object(JSONObject(service.loggers.map { (name: $0.name, value: .string(name(of: $0.level))) })),
                        ]
                    }))
        },
        APIOperation(
            "services:set-log", "PUT", "/os-services/set-log", versions: 32...71, policies: ["volume_extension:services:update"],
            body: .object(properties + [("level", .string(nullable: true))]), success: 202, summary: "Set the level of loggers"
        ) { request in
            let asked = request.body["level"]?.string ?? ""
            guard let level = levels.first(where: { $0.name == asked.uppercased() })?.level else {
                throw HTTPError.badRequest("Invalid input received: log level '\(asked)' is not one of DEBUG, INFO, WARNING, ERROR.")
            }
            for service in try await chosen(request) {
                for logger in service.loggers { request.service.logLevels.set(logger.name, to: level) }
            }
            return HTTPResponse(status: 202)
        },
    ]

    private static func name(of level: Logger.Level) -> String { levels.first { $0.level == level }?.name ?? "INFO" }

    private struct Service {
        let host, binary: String
        let loggers: [(name: String, level: Logger.Level)]
    }

    /// The services that a request means, with the loggers of each.
    private static func chosen(_ request: APIRequest) async throws -> [Service] {
        let binary = request.body["binary"]?.string ?? ""
        let server = request.body["server"]?.string ?? ""
        let prefix = request.body["prefix"]?.string ?? ""
        let services = try await request.database { try Services.all(in: $0) }.map { (host: $0.host, binary: $0.binary) }
        let node = services.first { $0.binary == "cinder-scheduler" }?.host ?? ""
        let known = request.service.logLevels.matching(prefix)
        return ([(host: node, binary: "cinder-api")] + services).filter { service in
            (binary.isEmpty || binary == "*" || service.binary == binary) && (server.isEmpty || service.host == server)
        }.map { service in
            let own = loggers.first { $0.binary == service.binary }?.prefixes ?? []
            return Service(host: service.host, binary: service.binary, loggers: known.filter { own.contains($0.name) })
        }
    }
}
