import BlockAPI
import BlockStorage
import Database
import Glibc
import JSON
import Observability
import Policy
import Primitives
import Settings

@testable import HTTPServer

/// A request through the whole chain, against a real database: no 500, whatever it says. An input is the text of a request:
/// method and target, headers, an empty line, the body.
final class RequestFuzz: @unchecked Sendable {
    private let responder: Responder

    init() {
        // The script that starts this removes it.
        let directory = getenv("CLINKER_FUZZ_DIRECTORY").map { String(cString: $0) } ?? "/dev/shm"
        var settings = Settings()
        settings.set("DEFAULT", "quota_volumes", "1000")
        do {
            let database = try SQLiteDatabase(path: directory + "/db")
            let policies = try Policies()
            let requests = VolumeRequests(settings)
            let sink = LogSink(descriptor: open("/dev/null", O_WRONLY))
            let storage = FixedStorage()
            let api = try BlockAPI(
                BlockAPIServices(
                    database: database, requests: requests, outcomes: storage, pools: storage, inventory: storage, examination: storage,
                    policies: { policies }, scheduler: Scheduler(settings), logLevels: sink.levels,
                    events: EventHub(database: database, log: sink.logger("events")), tickets: StreamTickets(),
                    longReads: LongReads(database, patience: 5),
                    pageReads: LongReads(database, patience: 5)), settings: settings)
            let log = sink.logger("fuzz")
            let chain: [any Middleware] = [
                RequestIDMiddleware(), CORSMiddleware(allowedOrigins: ["*"]), FaultMiddleware(log: log, translate: BlockAPI.translate),
                BodyLimitMiddleware(limit: 114_688), AuthMiddleware(NoAuthenticator()),
            ]
            responder = chain.chain(to: { try api.answer($0) })
            Self.wait {
                try? await database.migrate(Schema.migrations)
                _ = try? await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
            }
        } catch { violated("the service could not be made: \(error)") }
    }

    private static func wait(_ body: @escaping @Sendable () async -> Void) {
        let done = Semaphore()
        Task {
            await body()
            done.post()
        }
        done.wait()
    }

    func run(_ bytes: UnsafeRawBufferPointer) {
        guard let request = Self.request(bytes) else { return }
        Self.wait { [responder] in
            do {
                let response = try await responder(request).response
                if response.status == 500 || !(200..<600).contains(response.status) {
                    violated("\(response.status) to \(request.method) \(request.rawPath)?\(request.rawQuery)")
                }
                switch response.body {
                case .buffer(let buffer): free(buffer.base)
                case .stream(let stream): stream.closed()
                default: break
                }
            } catch { violated("an error came through: \(error)") }
        }
    }

    private static func request(_ bytes: UnsafeRawBufferPointer) -> HTTPRequest? {
        let all = Array(bytes)
        let end = all.firstRange(of: Array("\n\n".utf8))
        let head = String(decoding: all[..<(end?.lowerBound ?? all.count)], as: UTF8.self).split(
            separator: "\n", omittingEmptySubsequences: false)
        let line = head.first?.split(separator: " ", maxSplits: 1) ?? []
        guard line.count == 2, !line[0].utf8.contains(0), !line[1].utf8.contains(0) else { return nil }
        var headers: [(String, String)] = []
        for header in head.dropFirst().prefix(30) {
            let parts = header.split(separator: ":", maxSplits: 1)
            if parts.count == 2, !header.utf8.contains(0) { headers.append((String(parts[0]), String(parts[1].drop { $0 == " " }))) }
        }
        return HTTPRequest(
            method: String(line[0]), uri: String(line[1]), headers: headers,
            body: end.map { Array(all[$0.upperBound...].prefix(114_688)) } ?? [])
    }
}

/// Storage that always answers the same, without a backend.
private struct FixedStorage: OperationOutcomes, PoolReports, BackendInventory, StorageExamination {
    private let reported = [ExpressionFuzz.pool(filterFunction: nil)]

    func output(of id: String) async throws -> JSON { throw StorageError(.unavailable, "no backend") }
    func steps(of operation: BlockStorage.Operation) -> [String] { ["place", "make"] }
    func progress(of id: String) -> Double? { nil }
    func waitsForTransfer(_ id: String) -> Bool { false }
    func cancel(_ operation: BlockStorage.Operation, caller: Caller, in tx: any Transaction) throws {
        _ = try Operations.cancel(operation, caller: caller, in: tx)
    }
    func sentence(of error: String) -> String? { nil }
    func pools(in connection: any Connection) throws -> [PoolState] { reported }
    func usablePools(in connection: any Connection) throws -> [PoolState] { reported }
    func waitForReports() async {}
    func list(_ host: String, requestID: String) async throws -> JSON { ["volumes": [["name": "legacy", "size": 1]]] }
    func examine(repair: Bool) async throws -> JSON { .null }
}
