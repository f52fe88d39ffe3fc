import BlockStorage
import Database
import DriverHost
import Glibc
import JSON
import Logging
import Primitives
import Settings
import TestSupport
import Testing

@testable import Flows

/// A service without processes: a real database in memory's file system, the flows, and two backends in memory.
final class FlowBench: Sendable {
    let database: SQLiteDatabase
    let script = Script()
    let backends: MemoryBackends
    let stores: MemoryStores
    let keys: MemoryKeys
    let images = MemoryImages()
    let settings: Settings
    let requests: VolumeRequests
    private let executor = ThreadExecutor(name: "flow-bench", threads: 1)
    private let directory: String
    private let log = Logger(label: "flows") { _ in SwiftLogNoOpLogHandler() }
    private let counter = Guarded(0)

    /// `kept`: a database of an earlier release as SQL, whose backends are `node@fault#files` and `node@plain#files`.
    init(kept: String? = nil) async throws {
        // Every step is a commit: where commits wait for no disk, a table of thousands takes seconds.
        directory = temporaryDirectory("flow-bench", under: access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")
        database = try SQLiteDatabase(path: directory + "/db")
        settings = try Settings(
            text:
                "[DEFAULT]\nquota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1\nquota_backups = -1\nquota_backup_gigabytes = -1\n"
                + "enable_force_upload = true\n"
                + "cinder_internal_tenant_project_id = tenant\ncinder_internal_tenant_user_id = tenant\nallowed_direct_url_schemes = cinder\n"
                + "auth_strategy = keystone\n"
        )
        requests = VolumeRequests(settings)
        stores = MemoryStores()
        keys = MemoryKeys(script)
        backends = MemoryBackends(
            all: (kept == nil ? ["one", "two"] : ["fault", "plain"]).map { [script] in MemoryBackend(host: "node@\($0)", script: script) },
            pool: kept == nil ? "pool" : "files")
        if let kept {
            try await database.write { tx in
                try tx.run(text: "PRAGMA defer_foreign_keys = ON", [])
                let statements = kept.split(separator: ";\n").filter { !["BEGIN TRANSACTION", "COMMIT"].contains($0) }
                // Rows refer to rows of tables that come later.
                for statement in statements where statement.hasPrefix("CREATE TABLE") { try tx.run(text: String(statement), []) }
                for statement in statements where !statement.hasPrefix("CREATE TABLE") { try tx.run(text: String(statement), []) }
            }
        }
        try await database.migrate(Schema.migrations)
        guard kept == nil else { return }
        try await database.write { tx in
            try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: tx)
            for name in ["one", "two"] {
                _ = try VolumeTypes.create(
                    name: name, description: nil, isPublic: true, extraSpecs: ["volume_backend_name": .string(name)], in: tx)
                try Services.beat(binary: "cinder-volume", host: "node@\(name)", zone: "nova", backendState: "up", in: tx)
            }
            let secret = try VolumeTypes.create(
                name: "secret", description: nil, isPublic: true, extraSpecs: ["volume_backend_name": "one"], in: tx)
            var encryption = TypeEncryption.Values()
            encryption.provider = "luks"
            encryption.controlLocation = "front-end"
            encryption.cipher = "aes-xts-plain64"
            encryption.keySize = 256
            _ = try TypeEncryptions.create(encryption, ofType: secret.id, in: tx)
            try Services.beat(binary: "cinder-backup", host: "node", zone: "nova", backendState: "up", in: tx)
        }
    }

    func close() { database.close() }

    /// Another user in another project, for every cell.
    func caller() -> Caller {
        let number = counter.withLock { number in
            number += 1
            return number
        }
        return Caller(userID: "user", projectID: "project-\(number)", isAdmin: true, requestID: "req-\(number)")
    }

    /// Carries an operation out as a process would, which may die.
    func carryOut(_ id: String, interrupted: Bool = false, through database: (any Database)? = nil) async throws {
        let database = database ?? self.database
        guard let operation = try await database.read({ try Operations.find(id, in: $0) }), operation.finishedAt == nil else { return }
        let services = try services(through: database)
        let flow = try #require(FlowRegistry.all[operation.flow])
        _ = try await flow.run(operation, interrupted: interrupted, FlowEnvironment(services: services, executor: executor))
    }

    /// What a process would work with.
    func services(through database: (any Database)? = nil) throws -> FlowServices {
        try FlowServices(
            database: database ?? self.database, backends: backends, stores: stores,
            transfers: LimitedTransfers(
                settings, MemoryTransfers(backends: backends, store: stores.store, images: images, script: script)), images: images,
            compute: MemoryCompute(script, self.database, requests), retryPause: 1e-6, settings: settings, keys: keys, log: log)
    }

    /// Carries out what operations of a caller have left to others.
    func carryOutRest(of caller: Caller) async throws {
        while true {
            let next = try await database.read { try Operations.runnable(in: $0).first { $0.projectID == caller.projectID }?.id }
            guard let next else { return }
            try await carryOut(next)
        }
    }

    /// Makes a request and carries its operation out, without a fault.
    @discardableResult
    func perform(on volume: String? = nil, _ request: @escaping @Sendable (any Transaction) throws -> String) async throws -> String {
        let (id, operation) = try await begin(request)
        script.begin([:])
        try await carryOut(operation)
        return id
    }

    /// Makes a request, which returns the volume's id; returns it with that of the operation.
    func begin(_ request: @escaping @Sendable (any Transaction) throws -> String) async throws -> (volume: String, operation: String) {
        try await database.write { tx in
            let volume = try request(tx)
            return (volume, try #require(try Operations.latest(of: volume, in: tx)).id)
        }
    }

    /// What `clinker doctor` finds in the database.
    func findings() async throws -> [String] {
        try await database.read {
            try DatabaseExamination.findings(
                knownFlows: Set(FlowRegistry.all.flows.map(\.id)), reservationAge: 86_400, snapshotsChargeGigabytes: true, in: $0
            ).map(\.text)
        }
    }

    /// Names of storage objects that have to do with a volume.
    func storage(of ids: [String]) -> [String] {
        backends.all.flatMap { backend in backend.objects.keys.filter { name in ids.contains { name.hasSuffix($0) } } }
    }
}
