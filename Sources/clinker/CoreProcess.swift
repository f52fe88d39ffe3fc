import BlockAPI
import BlockStorage
import Database
import DriverHost
import Flows
import Glibc
import HTTPServer
import JSON
import KeyManager
import Logging
import Notifications
import Observability
import OpenStack
import Primitives
import Settings

/// The core process: creates and connects the components, and runs until it is told to end.
final class CoreProcess: Sendable {
    static let socketDescriptor: Int32 = 3
    static let controlDescriptor: Int32 = 4
    static let lockDescriptor: Int32 = 5

    private let options: ConfigurationOptions
    let settings: Settings
    let stateDirectory: String
    let sink: LogSink
    let log: Logger
    let restarts: Int
    let policies: PolicyWatch
    let resourceFilters: ResourceFilterWatch
    let tls: TLSEndpoint?
    let server = Guarded<HTTPServer?>(nil)

    init(_ options: ConfigurationOptions, restarts: Int) throws {
        self.options = options
        self.restarts = restarts
        settings = try options.settings()
        stateDirectory = try options.openStateDirectory(settings)
        sink = try Self.logSink(settings)
        sink.isDebug = settings[Options.service.debug]
        log = sink.logger("core")
        policies = try PolicyWatch(settings, files: options.files, log: sink.logger("policy"))
        resourceFilters = try ResourceFilterWatch(settings, files: options.files, log: sink.logger("filters"))
        tls = try ServerTLS.endpoint(settings)
        if let warning = tls?.warning() { log.warning("[ssl] \(warning)") }
        for descriptor in [Self.socketDescriptor, Self.controlDescriptor, Self.lockDescriptor] {
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
    }

    /// The log as oslo.log places it: to all that is asked for, and to the standard error output if nothing is.
    static func logSink(_ settings: Settings) throws -> LogSink {
        let format = LogSink.Format(rawValue: settings[Options.service.logFormat]) ?? .keyValue
        let facility = LogFacility(settings[Options.service.logFacility]) ?? .user
        var destinations: [LogDestination] = []
        if let file = LogPlace(settings).file { destinations.append(.file(file)) }
        if settings[Options.service.useJournal] {
            destinations.append(.journal(socket: socket("CLINKER_JOURNAL_SOCKET", else: LogDestination.journalSocket), facility))
        }
        if settings[Options.service.useSyslog] {
            destinations.append(.syslog(socket: socket("CLINKER_SYSLOG_SOCKET", else: LogDestination.syslogSocket), facility))
        }
        if settings[Options.service.useStandardError] || destinations.isEmpty { destinations.append(.descriptor(2)) }
        return try LogSink(destinations, format: format)
    }

    /// The path of a log's socket; the variable names another one.
    private static func socket(_ variable: String, else standard: String) -> String {
        getenv(variable).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? standard
    }

    private static let signals = [SIGTERM, SIGINT, SIGHUP]

    /// Call before any thread starts: signals are handled by the main thread, which waits for them.
    static func blockSignals() {
        signal(SIGPIPE, SIG_IGN)
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    func run() throws -> Never {
        limitMallocArenas()
        startThread("control") {
            var byte: UInt8 = 0
            while true {
                let count = read(CoreProcess.controlDescriptor, &byte, 1)
                // The supervisor is gone: end, so that the next service can start at once.
                if count == 0 || (count < 0 && errno != EINTR) { _exit(0) }
            }
        }
        sink.startFlushing()
        let database = try openDatabase()
        let node = settings[Options.service.host]
        let backends = try Backends(
            settings, node: node, stateDirectory: stateDirectory, log: sink.logger("backend"),
            onUp: { [enablesNew = settings[Options.flows.enablesNewServices]] host, zone in
                PeriodicTasks.beat(host, zone: zone, enablesNew: enablesNew, database: database)
            })
        // A store that has come up is shown as up at once.
        let heart = Guarded<PeriodicTasks?>(nil)
        let stores = try BackupStoreHosts(
            settings, stateDirectory: stateDirectory, log: sink.logger("store"),
            onChange: { _, isUp in if isUp, let periodic = heart.withLock({ $0 }) { Task { await periodic.beat() } } })
        if let missing = stores.missing { log.warning("\(missing): there are no backups") }
        let defaultType = settings[Options.storage.defaultVolumeType]
        try Self.blocking {
            try await database.migrate(Schema.migrations)
            try await database.write { try VolumeTypes.ensureDefault(named: defaultType, in: $0) }
        }
        try tellWhatIsMissing(database, backends)
        let notifications = try startNotifications(database)
        let keystone = settings[Options.service.authStrategy] == "keystone" ? try Keystone(settings, log: sink.logger("keystone")) : nil
        let glance = Glance(settings, keystone: keystone, log: sink.logger("glance"))
        let images = try glance.map {
            try GlanceAccess($0, settings: settings, stateDirectory: stateDirectory)
        }
        let isStopping = Guarded(false)
        let nova = keystone.map { Nova(settings, keystone: $0) }
        let keys = try KeyManagers.configured(
            settings, stateDirectory: stateDirectory, access: keystone.map { KeystoneKeyAccess(keystone: $0) },
            waiting: KeyPatience(isStopping: isStopping, log: sink.logger("keys")))
        let services = try FlowServices(
            database: database, backends: backends, stores: stores, settings: settings, instances: try instanceLocator(keystone),
            images: images, compute: nova.map { NovaAccess($0) }, keys: keys, isStopping: isStopping, log: sink.logger("flows"))
        services.serving?.removeOldSockets()
        let engine = FlowEngine(services)
        engine.listen()
        let unfinished = try Self.blocking { try await engine.unfinishedOperations() }
        let scrub = services.scrub(settings: settings, log: sink.logger("scrub"))
        let imageKeys = ImageKeySweep(services, settings: settings)
        let periodic = PeriodicTasks(
            database: database, backends: backends, stores: stores, scrub: scrub, imageKeys: imageKeys, leftKeys: LeftKeySweep(services),
            settings: settings, serviceDownTime: settings[Options.api.serviceDownTime], node: node, log: sink.logger("periodic"))
        heart.withLock { $0 = periodic }
        // After a restart of the core the rows of the services exist already; requests are served without waiting for the disk.
        if restarts == 0 { try Self.blocking { await periodic.beat() } }
        let events = EventHub(database: database, limitPerOwner: settings[Options.api.streamsPerUser], log: sink.logger("events"))
        let patience = Double(settings[Options.service.queryTimeout])
        // Pages cost little each: of them many may wait.
        let reads = Reads(
            long: LongReads(database, patience: patience),
            page: LongReads(database, name: "page", limit: 2048, limitPerOwner: 1024, patience: patience))
        let (server, control) = try startServers(
            database, reads, engine, backends, stores, services, scrub, imageKeys, events, keystone, notifications, glance)
        periodic.start()
        policies.start()
        resourceFilters.start()
        log.info("serving", metadata: ["address": "\(address())", "state": "\(stateDirectory)", "pid": "\(getpid())"])
        backends.start()
        stores.start()
        engine.resume(unfinished)
        let restoration = ExportRestoration(services, backends: backends)
        try Self.blocking { try await restoration.start() }
        if restarts == 0 {
            FirstLook(settings, keystone: keystone, glance: glance, nova: nova, keys: keys, log: sink.logger("services"))
                .start(isStopping: isStopping)
        }
        waitForEnd()
        events.close()
        reads.long.close()
        reads.page.close()
        stop([server, control], periodic, restoration, engine, backends, stores, notifications, database)
    }

    /// Runs the doctor without a running service, with driver hosts of its own.
    static func examineAlone(_ options: ConfigurationOptions, stateDirectory: String, repair: Bool) throws -> JSON {
        let settings = try options.settings()
        let lock = try Supervisor.takeLock(stateDirectory)
        defer { close(lock) }
        let sink = try logSink(settings)
        let path = try ConfigurationOptions.databasePath(settings, stateDirectory: stateDirectory)
        guard access(path, F_OK) == 0 else { throw SettingsError(["\(path) does not exist: no service ever ran here"]) }
        let database = try SQLiteDatabase(path: path)
        let backends = try Backends(
            settings, node: settings[Options.service.host], stateDirectory: stateDirectory, log: sink.logger("backend"))
        backends.start()
        let stores = try BackupStoreHosts(settings, stateDirectory: stateDirectory, log: sink.logger("store"))
        stores.start()
        let services = try FlowServices(
            database: database, backends: backends, stores: stores, settings: settings, log: sink.logger("doctor"))
        // Operations that a repair creates are run by the next start of the service.
        let requests = VolumeRequests(settings)
        let doctor = Doctor(services, backends: backends, engine: FlowEngine(services), requests: requests, settings: settings)
        let report = try blocking {
            try await database.migrate(Schema.migrations)
            return try await doctor.examine(repair: repair)
        }
        backends.stop()
        stores.stop()
        database.close()
        return report
    }

    // MARK: start

    /// From here on what happens is noted for others, if anybody is to be notified.
    private func startNotifications(_ database: SQLiteDatabase) throws -> NotificationSender? {
        let node = settings[Options.service.host]
        guard let wanted = try NotificationSettings(settings, node: node) else { return nil }
        database.accompany(by: NotificationOutbox(node: node))
        let sender = NotificationSender(wanted, database: database) { [sink] in sink.logger($0) }
        sender.start()
        return sender
    }

    private func openDatabase() throws -> SQLiteDatabase {
        return try SQLiteDatabase(path: ConfigurationOptions.databasePath(settings, stateDirectory: stateDirectory))
    }

    /// Logs what the database refers to and the configuration lacks: the default type, backends with volumes.
    private func tellWhatIsMissing(_ database: SQLiteDatabase, _ backends: Backends) throws {
        let name = settings[Options.storage.defaultVolumeType]
        let (hasType, volumes) = try database.readBlocking { connection in
            (try VolumeTypes.named(name, in: connection) != nil, try HostUsage.volumesByBackend(in: connection))
        }
        if !hasType { log.warning("default_volume_type = \(name): there is no such type, and volumes that name none are refused") }
        for (backend, count) in volumes.sorted(by: { $0.key < $1.key }) where backends.entry(backend) == nil {
            log.warning(
                "no enabled backend is \(backend), where \(count) volumes lie: nothing can be done with them, and deletions wait, until it is enabled again",
                metadata: ["backend": "\(backend)"])
        }
    }

    /// Blocks until asynchronous work is done; only for the start and the end of the process.
    private static func blocking<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) throws -> T {
        let done = Semaphore()
        let outcome = Guarded<Result<T, any Error>?>(nil)
        Task {
            let result: Result<T, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            outcome.withLock { $0 = result }
            done.post()
        }
        while true {
            done.wait()
            if let result = outcome.withLock({ $0 }) { return try result.get() }
        }
    }

    // MARK: end

    /// Waits for SIGTERM or SIGINT; SIGHUP reads the configuration again.
    private func waitForEnd() {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in Self.signals { sigaddset(&set, signal) }
        while true {
            var signal: Int32 = 0
            guard sigwait(&set, &signal) == 0 else { continue }
            guard signal == SIGHUP else { return }
            defer { renewCertificates((try? options.settings()) ?? settings) }
            do throws(SettingsError) {
                let fresh = try options.settings()
                sink.isDebug = fresh[Options.service.debug]
                do throws(SystemError) { try sink.reopen() } catch { log.error("\(error)") }
                for warning in fresh.warnings { log.warning("\(warning)") }
                let waiting = settings.changesForRestart(fresh)
                if !waiting.isEmpty {
                    log.warning("these options have changed and take effect at the next start: \(waiting.joined(separator: ", "))")
                }
                log.info("configuration read again: what can change without a restart has changed", metadata: ["debug": "\(sink.isDebug)"])
            } catch {
                for problem in error.problems { log.error("configuration not read again: \(problem)") }
            }
        }
    }

    private func stop(
        _ servers: [HTTPServer], _ periodic: PeriodicTasks, _ restoration: ExportRestoration, _ engine: FlowEngine, _ backends: Backends,
        _ stores: BackupStoreHosts, _ notifications: NotificationSender?, _ database: SQLiteDatabase
    ) -> Never {
        let limit = Timestamp.monotonic() + Double(settings[Options.service.drainTimeout])
        let answered = servers.map { $0.stop(within: limit - Timestamp.monotonic()) }.allSatisfy { $0 }
        try? Self.blocking {
            await periodic.stop()
            await restoration.stop()
        }
        try? Self.blocking { await engine.drain(within: limit - Timestamp.monotonic()) }
        let left = engine.runningCount
        backends.stop()
        stores.stop()
        notifications?.stop(within: limit - Timestamp.monotonic())
        if answered && left == 0 { database.close() }
        log.info("stopped", metadata: ["operations_left": "\(left)"])
        sink.flush()
        _exit(0)
    }
}
