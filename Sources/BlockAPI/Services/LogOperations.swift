import BlockStorage
import Database
import HTTPServer
import JSON
import Logging
import Observability
import Primitives

/// `/os-services/get-log` and `set-log`, since 3.32. The services of a node are one process: a logger that several of them
/// have is the same one.
struct LogOperations: Sendable {
    let store: Store
    /// The levels of the log by logger, and how to set them.
    let levels: LogLevels

    private static let loggers: [(binary: String, prefixes: [String])] = [
        ("cinder-api", ["clinker.api", "clinker.core", "clinker.keystone", "clinker.policy", "clinker.users"]),
        ("cinder-scheduler", ["clinker.flows"]), ("cinder-volume", ["clinker.backend", "clinker.flows", "clinker.periodic"]),
    ]
    private static let known: [(name: String, level: Logger.Level)] = [
        ("DEBUG", .debug), ("INFO", .info), ("WARNING", .warning), ("ERROR", .error),
    ]

    private static let properties: [(name: String, schema: Schema)] = [
        ("binary", .choice("cinder-scheduler", "cinder-volume", "cinder-backup", "cinder-api", "", "*")),
        ("server", .string(0, 255, nullable: true)), ("prefix", .string(0, 255, nullable: true)),
    ]

    var operations: [APIOperation] {
        [
            APIOperation(
                "services:get-log", "PUT", "/os-services/get-log", versions: 32...71, policies: ["volume_extension:services:update"],
                body: .object(Self.properties), answers: .all(Service.view), summary: "Show the levels of loggers", handler: chosen),
            APIOperation(
                "services:set-log", "PUT", "/os-services/set-log", versions: 32...71, policies: ["volume_extension:services:update"],
                body: .object(Self.properties + [("level", .string(nullable: true))]), answers: .empty(202),
                summary: "Set the level of loggers"
            ) { request in
                let asked = request.body["level"]?.string ?? ""
                guard let level = Self.known.first(where: { $0.name == asked.uppercased() })?.level else {
                    throw HTTPError.badRequest("Invalid input received: log level '\(asked)' is not one of DEBUG, INFO, WARNING, ERROR.")
                }
                for service in try await chosen(request) { for logger in service.loggers { levels.set(logger.name, to: level) } }
            },
        ]
    }

    private struct Service: Sendable {
        let host, binary: String
        let loggers: [(name: String, level: Logger.Level)]

        static let view = View<Service>(
            "log_level", "log_levels",
            [
                .text("host") { $0.host },
                .text("binary") { $0.binary },
                .written("levels", .map(.choice(known.map(\.name)))) { service, _, writer in
                    writer.beginObject()
                    for logger in service.loggers {
                        writer.key(logger.name)
                        writer.string(known.first { $0.level == logger.level }?.name ?? "INFO")
                    }
                    writer.endObject()
                },
            ])
    }

    /// The services that a request means, with the loggers of each.
    @Sendable private func chosen(_ request: APIRequest) async throws -> [Service] {
        let binary = request.body["binary"]?.string ?? ""
        let server = request.body["server"]?.string ?? ""
        let prefix = request.body["prefix"]?.string ?? ""
        let registered = try await store.read { try Services.all(in: $0) }
        let node = registered.first { $0.binary == "cinder-scheduler" }?.host ?? ""
        let services = [(host: node, binary: "cinder-api")] + registered.map { (host: $0.host, binary: $0.binary) }
        let known = levels.matching(prefix)
        let meant = services.filter { service in
            (binary.isEmpty || binary == "*" || service.binary == binary) && (server.isEmpty || service.host == server)
        }
        return meant.map { service in
            let own = Self.loggers.first { $0.binary == service.binary }?.prefixes ?? []
            return Service(host: service.host, binary: service.binary, loggers: known.filter { own.contains($0.name) })
        }
    }
}
