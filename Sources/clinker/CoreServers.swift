import BlockAPI
import BlockStorage
import Database
import Flows
import Glibc
import HTTPServer
import Logging
import Notifications
import Observability
import OpenStack
import Primitives
import Settings

/// The HTTP servers of the core: the public one and that of the control socket, with their middleware and what it asks.
extension CoreProcess {
    /// Reads on threads of their own, so that they delay nobody but the client that asked.
    struct Reads {
        let long: LongReads
        let page: LongReads
    }

    /// Creates the public server and the one of the control socket.
    func startServers(
        _ database: SQLiteDatabase, _ reads: Reads, _ engine: FlowEngine, _ backends: Backends, _ stores: BackupStoreHosts,
        _ services: FlowServices, _ scrub: BackupScrub?, _ imageKeys: ImageKeySweep, _ events: EventHub,
        _ keystone: Keystone?, _ notifications: NotificationSender?, _ glance: Glance?
    ) throws
        -> (HTTPServer, HTTPServer)
    {
        let requests = VolumeRequests(settings)
        let notificationStatus = notifications.map { sender in { @Sendable in try await sender.status() } }
        let doctor = Doctor(
            services, backends: backends, engine: engine, requests: requests, settings: settings, notificationStatus: notificationStatus,
            imageKeys: imageKeys)
        let authenticator = try authenticator(keystone)
        let tickets = StreamTickets()
        var doors = BlockAPIServices(
            database: database, requests: requests, outcomes: engine, pools: backends, inventory: backends, examination: doctor,
            policies: { [policies] in policies.current }, scheduler: services.scheduler, logLevels: sink.levels, events: events,
            tickets: tickets, longReads: reads.long, pageReads: reads.page)
        doors.resourceFilters = { [resourceFilters] in resourceFilters.current }
        let node = settings[Options.service.host]
        doors.backupPlace = { stores.place(ofService: $0, node: node) }
        doors.backupFormat = { stores.format(ofZone: $0) }
        if let serving = services.serving { doors.servings = serving }
        if let repositories = services.repositories { doors.repositories = repositories }
        doors.notificationStatus = notificationStatus
        doors.images = glance
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
        let health = try HealthcheckMiddleware(settings) { [stateDirectory] in Self.trouble(stateDirectory) }
        let inner: [any Middleware] =
            [health]
            + (settings[Options.service.serveMetrics]
                ? [MetricsMiddleware { [self] in try await metrics(database, reads, engine, backends, scrub, notifications, api) }] : [])
        let workers = settings[Options.service.workers]
        let audit = AuditLog(
            sink.logger("audit"), form: settings[Options.notifications.auditDriver].isEmpty ? .line : .cadf,
            changesByGet: { [names = api.changingByGet] in names.contains($0.route.name) })
        var configuration = HTTPServer.Configuration(
            socket: Self.socketDescriptor, threads: workers > 0 ? workers : max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
            bodyLimit: settings.maxBody, connectionLimit: connectionLimit(),
            connectionLimitPerAddress: settings[Options.service.connectionLimitPerAddress],
            requestTimeout: settings[Options.service.requestTimeout], idleTimeout: settings[Options.service.connectionTimeout])
        configuration.tls = tls
        configuration.handshakeTimeout = settings[Options.tls.handshakeTimeout]
        configuration.handshakeLimitPerAddress = settings[Options.tls.handshakeLimitPerAddress]
        configuration.audit = audit
        let server = try HTTPServer(
            configuration, log: sink,
            responder: (outerChain(publicChecks(api)) + inner
                + [AuthMiddleware(TicketAuthenticator(tickets, opens: { api.isForStream($0) }, else: authenticator))])
                .chain(to: { try api.answer($0) }))
        self.server.withLock { $0 = server }
        var controlConfiguration = HTTPServer.Configuration(
            socket: try ControlSocket.listen(stateDirectory), threads: 1, bodyLimit: settings.maxBody, connectionLimit: 64,
            idleTimeout: 900)
        controlConfiguration.audit = audit
        let control = try HTTPServer(
            controlConfiguration, log: sink,
            responder: (outerChain([]) + inner + [AuthMiddleware(OperatorAuthenticator())]).chain(to: { try api.answer($0) }))
        return (server, control)
    }

    /// The first middleware of both servers.
    private func outerChain(_ checks: [any RequestCheck]) -> [any Middleware] {
        [
            RequestIDMiddleware(), CORSMiddleware(allowedOrigins: settings[Options.service.allowedOrigin]),
            FaultMiddleware(log: sink.logger("api"), translate: BlockAPI.translate),
            BodyLimitMiddleware(limit: settings.maxBody, checks: checks),
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
        if settings[Options.service.proxyHeaders] || settings[Options.service.proxyAddress] {
            checks.append(ProxyHeaders(takesAddressAlone: !settings[Options.service.proxyHeaders]))
        }
        return checks
    }

    /// Access to Nova, if a scheduler filter needs the hosts of instances.
    func instanceLocator(_ keystone: Keystone?) throws(SettingsError) -> (any InstanceLocator)? {
        guard Scheduler.asksForInstances(settings) else { return nil }
        let problems = Self.problems(ofInstanceLocator: settings)
        guard problems.isEmpty else { throw SettingsError(problems) }
        let own = if let keystone { keystone } else { try Keystone(settings, log: sink.logger("keystone")) }
        return NovaLocator(nova: Nova(settings, keystone: own), log: sink.logger("nova"))
    }

    /// What keeps the scheduler from asking Nova, where it has to and callers are not identified by Keystone.
    static func problems(ofInstanceLocator settings: Settings) -> [String] {
        guard Scheduler.asksForInstances(settings), settings[Options.service.authStrategy] != "keystone" else { return [] }
        return Keystone.problems(settings).map {
            $0 + " (scheduler_default_filters: InstanceLocalityFilter asks Nova with Clinker's own account)"
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
        // A stream over TLS takes two of the others.
        let possible = max(16, (Int(clamping: limit.rlim_cur) - 128) / (tls == nil ? 1 : 2))
        if possible < wanted {
            log.warning("http_connection_limit is \(wanted), but the limit of open files allows \(possible): raise it (LimitNOFILE=)")
        }
        return min(wanted, possible)
    }

    /// The address of the listening socket, for the log; with port 0 the system has chosen the port.
    func address() -> String {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: 32)
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> Int32 in
                guard getsockname(Self.socketDescriptor, address, &length) == 0 else { return -1 }
                return getnameinfo(
                    address, length, &host, socklen_t(host.count), &port, socklen_t(port.count), NI_NUMERICHOST | NI_NUMERICSERV)
            }
        }
        guard status == 0 else { return "?" }
        func text(_ buffer: [CChar]) -> String { buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) } }
        return "\(tls == nil ? "http" : "https")://\(text(host).contains(":") ? "[\(text(host))]" : text(host)):\(text(port))"
    }

    /// Why no change can be stored (state directory gone, disk full); nil if it can.
    private static func trouble(_ stateDirectory: String) -> String? {
        var info = statvfs()
        guard statvfs(stateDirectory, &info) == 0 else { return "STATE DIRECTORY GONE" }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize) < 16 << 20 ? "DISK FULL" : nil
    }

    private func metrics(
        _ database: SQLiteDatabase, _ reads: Reads, _ engine: FlowEngine, _ backends: Backends, _ scrub: BackupScrub?,
        _ notifications: NotificationSender?, _ api: BlockAPI
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
        try await scrub?.write(into: &text)
        try await notifications?.write(into: &text)
        database.write(into: &text)
        reads.long.write(into: &text)
        reads.page.write(into: &text)
        ProcessMetrics.write(into: &text)
        text.family("clinker_log_lines_dropped_total", .counter, "Lines of the log that syslog or the journal did not take in time.")
        text.sample("clinker_log_lines_dropped_total", sink.lost)
        return text.text
    }
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
