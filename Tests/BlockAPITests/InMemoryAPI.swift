import BlockStorage
import Database
import Glibc
import HTTPServer
import JSON
import Logging
import Observability
import Policy
import Primitives
import Settings
import TestSupport

@testable import BlockAPI

/// The API over a real database, without a server, an engine or a backend.
final class InMemoryAPI: Sendable {
    static let project = "0123456789abcdef0123456789abcdef"

    /// All operations, as they are declared.
    static let declared = Task { try await InMemoryAPI().operations }

    struct Answer {
        let status: Int
        let headers: [(name: String, value: String)]
        let contentType: String?
        let text: String
        var json: JSON { (try? JSON(parsing: text)) ?? .null }
    }

    let database: SQLiteDatabase
    let requests: VolumeRequests
    let api: BlockAPI
    let longReads: LongReads
    let pageReads: LongReads
    private let events: EventHub
    private let responder: Responder

    /// - Parameter filters: what lists may be filtered by.
    init(filters: ResourceFilters = .standard) async throws {
        let settings = Settings()
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        database = try SQLiteDatabase(path: temporaryDirectory("api") + "/db")
        try await database.migrate(BlockStorage.Schema.migrations)
        try await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
        longReads = LongReads(database, threads: 1, patience: 5)
        pageReads = LongReads(database, threads: 1, patience: 5)
        events = EventHub(database: database, log: log)
        requests = VolumeRequests(settings)
        let policies = try Policies()
        let storage = NoStorage()
        let sink = LogSink(descriptor: open("/dev/null", O_WRONLY | O_CLOEXEC))
        var services = try BlockAPIServices(
            database: database, requests: requests, outcomes: storage, pools: storage, inventory: storage, examination: storage,
            policies: { policies }, scheduler: Scheduler(settings), logLevels: sink.levels, events: events,
            tickets: StreamTickets(), longReads: longReads, pageReads: pageReads)
        services.resourceFilters = { filters }
        api = try BlockAPI(services, settings: settings)
        let chain: [any Middleware] = [
            RequestIDMiddleware(), FaultMiddleware(log: log, translate: BlockAPI.translate), AuthMiddleware(NoAuthenticator()),
        ]
        responder = chain.chain(to: { [api] in try api.answer($0) })
    }

    deinit {
        events.close()
        longReads.close()
        pageReads.close()
        database.close()
    }

    var store: Store { Store(database: database, longReads: longReads, pageReads: pageReads, pageLimit: 1000) }
    var operations: [APIOperation] { api.table.operations }

    /// A request of the administrator's, below the project's path unless the path begins with `//`.
    func send(_ method: String, _ path: String, version: Int = 71, _ body: JSON? = nil) async throws -> Answer {
        let uri = path.hasPrefix("//") ? String(path.dropFirst()) : "/v3/\(Self.project)\(path)"
        let request = HTTPRequest(
            method: method, uri: uri,
            headers: [("OpenStack-API-Version", "volume 3.\(version)"), ("Host", "test"), ("Content-Type", "application/json")],
            body: body.map { Array($0.text.utf8) } ?? [])
        let response = try await responder(request).response
        let text: String
        switch response.body {
        case .buffer(let buffer):
            text = String(decoding: UnsafeRawBufferPointer(start: buffer.base, count: buffer.count), as: UTF8.self)
            free(buffer.base)
        case .text(let own): text = own
        case .none, .stream: text = ""
        }
        return Answer(status: response.status, headers: response.headers, contentType: response.contentType, text: text)
    }

    /// A request as a resource's handler gets it, of an administrator or a member of the project.
    func request(
        _ parameters: [String] = [], query: String = "", version: Int = 71, isAdmin: Bool = true, _ body: JSON = .null
    ) throws -> APIRequest {
        let identity = Identity(
            userID: "user", projectID: Self.project, roles: [isAdmin ? "admin" : "member", "reader"], isAdmin: isAdmin)
        return APIRequest(
            http: HTTPRequest(method: "GET", uri: "/v3/\(Self.project)/?" + query, headers: [("Host", "test")]), version: version,
            parameters: parameters, body: body, identity: identity,
            caller: Caller(userID: "user", projectID: Self.project, isAdmin: isAdmin, requestID: "req-1"), policies: try Policies(),
            publicEndpoint: "", projectSegment: Self.project[...])
    }
}

/// Storage that holds one object, which is nobody's, and carries nothing out.
private struct NoStorage: OperationOutcomes, PoolReports, BackendInventory, StorageExamination {
    func output(of id: String) async throws -> JSON { throw StorageError(.unavailable, "no backend") }
    func steps(of operation: BlockStorage.Operation) -> [String] { [] }
    func progress(of id: String) -> Double? { nil }
    func waitsForTransfer(_ id: String) -> Bool { false }
    func cancel(_ operation: BlockStorage.Operation, caller: Caller, in tx: any Transaction) throws {}
    func sentence(of error: String) -> String? { nil }
    func pools(in connection: any Connection) throws -> [PoolState] { [] }
    func usablePools(in connection: any Connection) throws -> [PoolState] { [] }
    func waitForReports() async {}
    func list(_ host: String, requestID: String) async throws -> JSON { ["volumes": [["name": "legacy", "size": 1]]] }
    func examine(repair: Bool) async throws -> JSON { [:] }
}
