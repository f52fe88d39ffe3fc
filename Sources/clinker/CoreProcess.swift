import BlockAPI
import BlockStorage
import Database
import DriverHost
import Flows
import Glibc
import HTTPServer
import JSON
import Logging
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
    private let settings: Settings
    private let stateDirectory: String
    private let sink: LogSink
    private let log: Logger
    private let restarts: Int
    private let policies: PolicyWatch
    private let server = Guarded<HTTPServer?>(nil)

    init(_ options: ConfigurationOptions, restarts: Int) throws {
        self.options = options
        self.restarts = restarts
        settings = try options.settings()
        stateDirectory = try options.openStateDirectory(settings)
        sink = try Self.logSink(settings)
        sink.isDebug = settings[Options.service.debug]
        log = sink.logger("core")
        policies = try PolicyWatch(settings, files: options.files, log: sink.logger("policy"))
        for descriptor in [Self.socketDescriptor, Self.controlDescriptor, Self.lockDescriptor] {
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
    }

    /// The log as oslo.log places it: to all that is asked for, and to the standard error output if nothing is.
    static func logSink(_ settings: Settings) throws -> LogSink {
        let format = LogSink.Format(rawValue: settings[Options.service.logFormat]) ?? .keyValue
        let facility = LogFacility(settings[Options.service.logFacility]) ?? .user
        var destinations: [LogDestination] = []
        var file = settings[Options.service.logFile]
        let directory = settings[Options.service.logDirectory]
        if !directory.isEmpty, !file.hasPrefix("/") { file = directory + "/" + (file.isEmpty ? "clinker.log" : file) }
        if !file.isEmpty { destinations.append(.file(file)) }
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
            onUp: { host, zone in PeriodicTasks.beat(host, zone: zone, database: database) })
        let defaultType = settings[Options.storage.defaultVolumeType]
        try Self.blocking {
            try await database.migrate(Schema.migrations)
            try await database.write { try VolumeTypes.ensureDefault(named: defaultType, in: $0) }
        }
        try tellWhatIsMissing(database, backends)
        let keystone = settings[Options.service.authStrategy] == "keystone" ? try Keystone(settings, log: sink.logger("keystone")) : nil
        let services = try FlowServices(
            database: database, backends: backends, settings: settings, instances: try instanceLocator(keystone),
            log: sink.logger("flows"))
        let engine = FlowEngine(services)
        engine.listen()
        let unfinished = try Self.blocking { try await engine.unfinishedOperations() }
        let periodic = PeriodicTasks(database: database, backends: backends, settings: settings, node: node, log: sink.logger("periodic"))
        // After a restart of the core the rows of the services exist already; requests are served without waiting for the disk.
        if restarts == 0 { try Self.blocking { await periodic.beat() } }
        let events = EventHub(database: database, limitPerOwner: settings[Options.api.streamsPerUser], log: sink.logger("events"))
        let patience = Double(settings[Options.service.queryTimeout])
        // Pages cost little each: of them many may wait.
        let reads = Reads(
            long: LongReads(database, patience: patience),
            page: LongReads(database, name: "page", limit: 2048, limitPerOwner: 1024, patience: patience))
        let (server, control) = try startServers(database, reads, engine, backends, services, events, keystone)
        periodic.start()
        policies.start()
        log.info("serving", metadata: ["address": "\(Self.address())", "state": "\(stateDirectory)", "pid": "\(getpid())"])
        backends.start()
        engine.resume(unfinished)
        let restoration = ExportRestoration(services, backends: backends)
        try Self.blocking { try await restoration.start() }
        waitForEnd()
        events.close()
        reads.long.close()
        reads.page.close()
        stop([server, control], periodic, restoration, engine, backends, database)
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
        let services = try FlowServices(database: database, backends: backends, settings: settings, log: sink.logger("doctor"))
        // Operations that a repair creates are run by the next start of the service.
        let requests = VolumeRequests(settings)
        let doctor = Doctor(services, backends: backends, engine: FlowEngine(services), requests: requests, settings: settings)
        let report = try blocking {
            try await database.migrate(Schema.migrations)
            return try await doctor.examine(repair: repair)
        }
        backends.stop()
        database.close()
        return report
    }

    // MARK: start

    private func openDatabase() throws -> SQLiteDatabase {
        return try SQLiteDatabase(path: ConfigurationOptions.databasePath(settings, stateDirectory: stateDirectory))
    }

    private func metrics(
        _ database: SQLiteDatabase, _ reads: Reads, _ engine: FlowEngine, _ backends: Backends, _ api: BlockAPI
    ) async throws -> String {
        var text = MetricsText()
        text.family("clinker_build_info", .gauge, "The running release.")
        text.sample("clinker_build_info", 1, ["version": Clinker.version])
        text.family("clinker_core_restarts_total", .counter, "Starts of the core after the first.")
        text.sample("clinker_core_restarts_total", restarts)
        Route.write(api.routes + [Route.none, HealthcheckMiddleware.route, MetricsMiddleware.route], into: &text)
        server.withLock { $0 }?.write(into: &text)
        try await engine.write(into: &text)
        let allocations = try await database.read { try Pools.allocations(in: $0) }
        backends.write(into: &text, allocations)
        database.write(into: &text)
        reads.long.write(into: &text)
        reads.page.write(into: &text)
        ProcessMetrics.write(into: &text)
        text.family("clinker_log_lines_dropped_total", .counter, "Lines of the log that syslog or the journal did not take in time.")
        text.sample("clinker_log_lines_dropped_total", sink.lost)
        return text.text
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

    /// Creates the public server and the one of the control socket.
    private func startServers(
        _ database: SQLiteDatabase, _ reads: Reads, _ engine: FlowEngine, _ backends: Backends, _ services: FlowServices,
        _ events: EventHub, _ keystone: Keystone?
    ) throws
        -> (HTTPServer, HTTPServer)
    {
        let requests = VolumeRequests(settings)
        let doctor = Doctor(services, backends: backends, engine: engine, requests: requests, settings: settings)
        let authenticator = try authenticator(keystone)
        let tickets = StreamTickets()
        var doors = BlockAPIServices(
            database: database, requests: requests, outcomes: engine, pools: backends, inventory: backends, examination: doctor,
            policies: { [policies] in policies.current }, scheduler: services.scheduler, logLevels: sink.levels, events: events,
            tickets: tickets, longReads: reads.long, pageReads: reads.page)
        doors.standing = { $0.standing ?? authenticator.standing(of: $0) }
        if let keystone {
            let authenticator = KeystoneAuthenticator(keystone)
            let nova = Nova(settings, keystone: keystone)
            let log = sink.logger("nova")
            doors.projectExists = { try await authenticator.knowsProject($0, token: $1) }
            doors.attachmentInUse = { instance, volume, token in
                do { return try await nova.attachment(ofInstance: instance, volume: volume, token: token) } catch {
                    log.error("whether an instance uses a volume could not be found out: \(error)")
                    throw HTTPError(
                        503, "Whether instance \(instance) uses the volume cannot be found out now: detach it using the Compute API.",
                        headers: [(name: "Retry-After", value: "30")])
                }
            }
        }
        let api = try BlockAPI(doors, settings: settings)
        let health = HealthcheckMiddleware(
            disablingFile: settings[Options.service.disableByFile], trouble: { [stateDirectory] in Self.trouble(stateDirectory) })
        let inner: [any Middleware] =
            [health]
            + (settings[Options.service.serveMetrics]
                ? [MetricsMiddleware { [self] in try await metrics(database, reads, engine, backends, api) }] : [])
        let workers = settings[Options.service.workers]
        let server = try HTTPServer(
            HTTPServer.Configuration(
                socket: Self.socketDescriptor, threads: workers > 0 ? workers : max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
                bodyLimit: settings[Options.service.maxBody], connectionLimit: connectionLimit(),
                connectionLimitPerAddress: settings[Options.service.connectionLimitPerAddress],
                requestTimeout: settings[Options.service.requestTimeout],
                idleTimeout: settings[Options.service.connectionTimeout]),
            log: sink,
            responder: (outerChain(publicChecks(api)) + inner
                + [AuthMiddleware(TicketAuthenticator(tickets, opens: { api.isForStream($0) }, else: authenticator))])
                .chain(to: { try api.answer($0) }))
        self.server.withLock { $0 = server }
        let control = try HTTPServer(
            HTTPServer.Configuration(
                socket: ControlSocket.listen(stateDirectory), threads: 1, bodyLimit: settings[Options.service.maxBody], connectionLimit: 64,
                idleTimeout: 900),
            log: sink,
            responder: (outerChain([]) + inner + [AuthMiddleware(OperatorAuthenticator())]).chain(to: { try api.answer($0) }))
        return (server, control)
    }

    /// The first middleware of both servers.
    private func outerChain(_ checks: [any RequestCheck]) -> [any Middleware] {
        [
            RequestIDMiddleware(), CORSMiddleware(allowedOrigins: settings[Options.service.allowedOrigin]),
            FaultMiddleware(log: sink.logger("api"), translate: BlockAPI.translate),
            BodyLimitMiddleware(limit: settings[Options.service.maxBody], checks: checks),
        ]
    }

    /// Additional checks of the public server.
    private func publicChecks(_ api: BlockAPI) -> [any RequestCheck] {
        var checks: [any RequestCheck] = []
        if settings[Options.service.authStrategy] == "noauth" {
            checks.append(
                OwnPages(
                    publicEndpoint: settings[Options.api.publicEndpoint], allowedOrigins: settings[Options.service.allowedOrigin],
                    changesByGet: { api.changesByGet($0) }))
        }
        if settings[Options.service.proxyHeaders] { checks.append(ProxyHeaders()) }
        return checks
    }

    /// Access to Nova, if a scheduler filter needs the hosts of instances.
    private func instanceLocator(_ keystone: Keystone?) throws(SettingsError) -> (any InstanceLocator)? {
        guard Scheduler.asksForInstances(settings) else { return nil }
        do throws(SettingsError) {
            let own = if let keystone { keystone } else { try Keystone(settings, log: sink.logger("keystone")) }
            return NovaLocator(nova: Nova(settings, keystone: own), log: sink.logger("nova"))
        } catch {
            throw SettingsError(
                error.problems.map { $0 + " (scheduler_default_filters: InstanceLocalityFilter asks Nova with Clinker's own account)" })
        }
    }

    private func authenticator(_ keystone: Keystone?) throws -> any Authenticator {
        if let keystone { return KeystoneAuthenticator(keystone) }
        return switch settings[Options.service.authStrategy] {
        case "http_basic": BasicAuthenticator(try BasicUsers(settings, log: sink.logger("users")))
        default: NoAuthenticator()
        }
    }

    /// The configured connection limit, reduced to what the descriptor limit allows.
    private func connectionLimit() -> Int {
        let wanted = settings[Options.service.connectionLimit]
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return wanted }
        // Descriptors for the database, the backends and the log are reserved.
        let possible = max(16, Int(clamping: limit.rlim_cur) - 128)
        if possible < wanted {
            log.warning("http_connection_limit is \(wanted), but the limit of open files allows \(possible): raise it (LimitNOFILE=)")
        }
        return min(wanted, possible)
    }

    /// The address of the listening socket, for the log; with port 0 the system has chosen the port.
    private static func address() -> String {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: 32)
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> Int32 in
                guard getsockname(socketDescriptor, address, &length) == 0 else { return -1 }
                return getnameinfo(
                    address, length, &host, socklen_t(host.count), &port, socklen_t(port.count), NI_NUMERICHOST | NI_NUMERICSERV)
            }
        }
        guard status == 0 else { return "?" }
        func text(_ buffer: [CChar]) -> String { buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) } }
        return "http://\(text(host).contains(":") ? "[\(text(host))]" : text(host)):\(text(port))"
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

    /// Why no change can be stored (state directory gone, disk full); nil if it can.
    private static func trouble(_ stateDirectory: String) -> String? {
        var info = statvfs()
        guard statvfs(stateDirectory, &info) == 0 else { return "STATE DIRECTORY GONE" }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize) < 16 << 20 ? "DISK FULL" : nil
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
        _ database: SQLiteDatabase
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
        if answered && left == 0 { database.close() }
        log.info("stopped", metadata: ["operations_left": "\(left)"])
        sink.flush()
        _exit(0)
    }
}

/// Reads on threads of their own, so that they delay nobody but the client that asked.
private struct Reads {
    let long: LongReads
    let page: LongReads
}

/// Adapts Nova to the scheduler's protocol.
private struct NovaLocator: InstanceLocator {
    let nova: Nova
    let log: Logger

    func place(ofInstance id: String) async -> InstancePlace {
        do throws(Unavailable) {
            guard let host = try await nova.host(ofInstance: id) else { return .unknown(reason: "there is no instance \(id)") }
            return .host(host)
        } catch {
            log.error("an instance's host could not be found out: \(error)")
            return .unknown(reason: "the host of instance \(id) could not be found out: \(error)")
        }
    }
}
