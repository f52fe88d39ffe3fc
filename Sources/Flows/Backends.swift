public import BlockStorage
public import Database
import DriverHost
public import JSON
public import Logging
import Observability
import Primitives
import Settings

/// A backend with its place in the cloud.
public final class BackendEntry: Sendable {
    /// `host@backend`
    public let host: String
    public let zone: String
    /// What types ask for as `volume_backend_name`.
    public let backendName: String
    public let backend: Backend
    let reservedPercentage: Int
    let maxOverSubscription: String
    let statsInterval: Int
    /// Bytes in a second; 0: no limit.
    let copyLimit: Int
    /// The operator's expressions; empty: the driver's.
    let filterFunction, goodnessFunction: String
    private let report = Guarded<Report?>(nil)
    private let firstReportedAt = Guarded<Double?>(nil)
    /// The reading of the capacity that is under way.
    private let reading = Guarded<Reading?>(nil)
    /// When the last reading began that the driver answered, if only with an error.
    private let answered = Guarded(-Double.infinity)
    /// What the operator says of its pools beside, or instead of, what the driver says.
    private let extraCapabilities: JSONObject
    /// What of the storage does not answer, as the driver said; and whether nothing of it does.
    private let trouble = Guarded<(problems: [String], isWhole: Bool)>(([], false))
    /// Since when it is up, or down.
    private let presence = Guarded<(isUp: Bool, since: Double)>((isUp: true, since: -.infinity))
    /// Seconds for which a backend that went down is still placed on: its host is being started again. And for which its capacity is
    /// waited for before a placement is refused: a driver may be busy.
    private static let grace = 30.0

    struct Report: Sendable {
        let pools: [Pool]
        let isThin, isThick: Bool
        let timestamp: String
        let readAt: Double
        /// What was promised of each pool when the report was first used: what came since is in none of its numbers.
        var baseline: [String: Pools.Allocation]?
    }

    private struct Reading {
        let begunAt: Double
        let task: Task<Void, Never>
    }

    /// A pool as the driver reported it.
    struct Pool: Sendable {
        let host: String
        /// Everything that does not change with what is promised.
        let capabilities: JSONObject
        let total, free, provisioned: Double?
        let reserved: Int64
        let ratio: String
    }

    /// Seconds since the capacity was read; nil if it never was.
    var reportAge: Double? { report.withLock { $0 }.map { Timestamp.monotonic() - $0.readAt } }

    /// Parts of the storage that do not answer, each with why. Empty if all is well.
    var problems: [String] { trouble.withLock { $0.problems } }
    /// Whether the storage, or the part of it that answers, can be worked with.
    var isAnswering: Bool { trouble.withLock { !$0.isWhole } }

    private func note(_ problems: [String], isWhole: Bool, _ log: Logger) {
        let before = trouble.withLock { trouble in
            defer { trouble = (problems, isWhole) }
            return trouble.problems
        }
        for problem in problems where !before.contains(problem) {
            log.error("storage of a backend does not answer: \(problem)", metadata: ["backend": "\(backend.name)"])
        }
        if problems.isEmpty, !before.isEmpty {
            log.info("the storage of a backend answers again", metadata: ["backend": "\(backend.name)"])
        }
    }

    func changed(isUp: Bool) { presence.withLock { $0 = (isUp, Timestamp.monotonic()) } }

    init(host: String, zone: String, backendName: String, backend: Backend, settings: Settings) throws(SettingsError) {
        let name = backend.name
        self.host = host
        self.zone = zone
        self.backendName = backendName
        self.backend = backend
        reservedPercentage = settings[Options.backend.reservedPercentage, backend: name]
        maxOverSubscription = settings[Options.backend.maxOverSubscription, backend: name]
        statsInterval = settings[Options.backend.statsInterval, backend: name]
        copyLimit = settings[Options.backend.copyLimit, backend: name]
        filterFunction = settings[Options.backend.filterFunction, backend: name]
        goodnessFunction = settings[Options.backend.goodnessFunction, backend: name]
        let extra = settings[Options.backend.extraCapabilities, backend: name]
        guard let object = try? JSON(parsing: extra).object else {
            throw SettingsError(["[\(name)] extra_capabilities must be a JSON object, not \(extra)"])
        }
        extraCapabilities = object
        for (option, text) in [(Options.backend.filterFunction, filterFunction), (Options.backend.goodnessFunction, goodnessFunction)]
        where !text.isEmpty {
            do throws(Expression.Problem) { _ = try Expression(parsing: text) } catch {
                throw SettingsError(["[\(name)] \(option.declaration.name) is no expression: \(error)"])
            }
        }
    }

    var hasReported: Bool { firstReportedAt.withLock { $0 != nil } }

    func hasReported(by moment: Double) -> Bool { firstReportedAt.withLock { $0.map { $0 <= moment } ?? false } }

    /// Whether what the backend holds at `moment`, or later, is still to be reported, and may be soon: by a driver that died as long as
    /// it is placed on, by the next one, or one that is up, within as much time.
    func owesReport(since moment: Double) -> Bool {
        guard hasReported, answered.withLock({ $0 }) < moment else { return false }
        let (isUp, since) = presence.withLock { $0 }
        return Timestamp.monotonic() < (isUp ? max(moment, since) : since) + Self.grace
    }

    /// Reads the capacity as it is now or later. One reading at a time, for all who ask; a failure keeps the last numbers, whose age shows.
    func refresh(_ log: Logger) async {
        let asked = Timestamp.monotonic()
        while true {
            let current = reading.withLock { reading in
                if let reading { return reading }
                let begunAt = Timestamp.monotonic()
                let task = Task {
                    await read(log, begunAt)
                    self.reading.withLock { $0 = nil }
                }
                let begun = Reading(begunAt: begunAt, task: task)
                reading = begun
                return begun
            }
            await current.task.value
            if current.begunAt >= asked { return }
        }
    }

    private func read(_ log: Logger, _ begunAt: Double) async {
        do {
            let stats = try await backend.call(.stats, .object([]))
            guard let description = backend.description else { return }
            func flag(_ name: String) -> Bool { description.capabilities[name]?.boolean ?? false }
            let timestamp = Timestamp.now()
            let pools = (stats["pools"]?.list ?? []).map { pool($0, description, timestamp) }
            report.withLock {
                $0 = Report(
                    pools: pools, isThin: flag("thin_provisioning_support"), isThick: flag("thick_provisioning_support"),
                    timestamp: timestamp, readAt: begunAt)
            }
            firstReportedAt.withLock { $0 = $0 ?? Timestamp.monotonic() }
            note(stats["problems"]?.list?.compactMap(\.string) ?? [], isWhole: false, log)
        } catch {
            log.warning("the capacity of a backend cannot be read: \(error)", metadata: ["backend": "\(backend.name)"])
            // Of a host that is gone the next one is asked.
            let failure = error as? DriverFailure
            if let failure, [.hostDied, .unavailable].contains(failure.code) { return }
            note([failure?.message ?? "\(error)"], isWhole: true, log)
        }
        answered.withLock { $0 = begunAt }
    }

    private func pool(_ pool: DriverValue, _ description: Backend.Description, _ timestamp: String) -> Pool {
        func capacity(_ name: String) -> Double? { pool[name]?.real.flatMap { $0 < 0 ? nil : $0 } }
        let reserved = pool["reserved_percentage"]?.integer ?? Int64(reservedPercentage)
        let ratio = pool["max_over_subscription_ratio"]?.string ?? maxOverSubscription
        var capabilities: JSONObject = [
            "volume_backend_name": .string(backendName), "vendor_name": .string(description.vendor),
            "driver_version": .string(description.version),
        ]
        if case .object(let members) = description.capabilities {
            for member in members { capabilities[member.name] = member.value.json }
        }
        capabilities["total_capacity_gb"] = capacity("total_capacity_gb").map { .real($0) } ?? "unknown"
        capabilities["free_capacity_gb"] = capacity("free_capacity_gb").map { .real($0) } ?? "unknown"
        capabilities["reserved_percentage"] = .integer(reserved)
        capabilities["QoS_support"] = capabilities["QoS_support"] ?? false
        capabilities["max_over_subscription_ratio"] = Double(ratio).map { .real($0) } ?? .string(ratio)
        // The operator's word wins over the driver's.
        for (name, own) in [("filter_function", filterFunction), ("goodness_function", goodnessFunction)] {
            capabilities[name] = JSON(own.isEmpty ? pool[name]?.string : own)
        }
        for member in extraCapabilities.members { capabilities[member.name] = member.value }
        capabilities["timestamp"] = .string(timestamp)
        return Pool(
            host: "\(host)#\(pool["name"]?.string ?? backendName)", capabilities: capabilities, total: capacity("total_capacity_gb"),
            free: capacity("free_capacity_gb"), provisioned: capacity("provisioned_capacity_gb"), reserved: reserved, ratio: ratio)
    }

    /// The pools as placement sees them; none when the backend has been down for more than a moment.
    func pools(_ allocations: [String: Pools.Allocation]) -> [PoolState] {
        let known: Report? = report.withLock { report in
            if report?.baseline == nil { report?.baseline = allocations }
            return report
        }
        guard let report = known else { return [] }
        let (isUp, since) = presence.withLock { $0 }
        if !isUp, Timestamp.monotonic() - since > Self.grace { return [] }
        return report.pools.map { pool in
            let allocation = allocations[pool.host] ?? Pools.Allocation()
            // What was promised since the driver looked is in none of its numbers.
            let since = Double(allocation.gigabytes - (report.baseline?[pool.host]?.gigabytes ?? 0))
            let provisioned = pool.provisioned.map { max(0, $0 + since) } ?? Double(allocation.gigabytes)
            let free = pool.free.map { max(0, $0 - max(0, since)) }
            return PoolState(
                host: pool.host, zone: zone, capabilities: pool.capabilities, totalGB: pool.total, freeGB: free, provisionedGB: provisioned,
                allocatedGB: Double(allocation.gigabytes), volumes: allocation.volumes, reservedPercentage: Double(pool.reserved),
                maxOverSubscriptionRatio: pool.ratio, isThin: report.isThin, isThick: report.isThick, timestamp: report.timestamp)
        }
    }
}

extension DriverValue {
    /// As JSON, secrets in the clear: for the client that the value is for.
    var json: JSON {
        switch self {
        case .null: .null
        case .boolean(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .real(let value): .real(value)
        case .string(let value), .secret(let value): .string(value)
        case .list(let items): .array(items.map(\.json))
        case .object(let members): .object(JSONObject(members.map { (name: $0.name, value: $0.value.json) }))
        }
    }

    init(_ json: JSON) {
        switch json {
        case .null: self = .null
        case .bool(let value): self = .boolean(value)
        case .integer(let value): self = .integer(value)
        case .real(let value): self = .real(value)
        case .string(let value): self = .string(value)
        case .array(let items): self = .list(items.map { DriverValue($0) })
        case .object(let object): self = .object(object.members.map { Member($0.name, DriverValue($0.value)) })
        }
    }
}

/// The backends of this node.
public final class Backends: BackendInventory {
    public let entries: [BackendEntry]
    private let byHost: [String: BackendEntry]
    private let log: Logger
    private let startedAt = Guarded(Double.infinity)
    /// Seconds that a client waits for a listing.
    private let responseTimeout: Double
    /// Finds the plugins of the enabled backends. `onUp` is called whenever a backend came up. Throws what is wrong with the configuration.
    public init(
        _ settings: Settings, node: String, stateDirectory: String, log: Logger,
        onUp: @escaping @Sendable (_ host: String, _ zone: String) -> Void = { _, _ in }
    ) throws(SettingsError) {
        self.log = log
        responseTimeout = Double(settings[Options.rpcResponseTimeout])
        let directory = settings[Options.pluginDirectory]
        var entries: [BackendEntry] = []
        var problems: [String] = []
        for name in settings[Options.service.enabledBackends] {
            do {
                let driver = settings[Options.backend.driver, backend: name]
                guard !driver.isEmpty else { throw SettingsError(["[\(name)] volume_driver is not set"]) }
                let path = try Plugin.path(for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory)
                var options = settings.backendOptions(name).map { DriverValue.Member($0.name, .string($0.value)) }
                options.append(DriverValue.Member("backend", .string(name)))
                options.append(DriverValue.Member("state_dir", .string(StateDirectory.path(of: name, in: stateDirectory))))
                // How the service's own objects are told from others' in the same storage.
                for option in [Options.storage.volumeNameTemplate, Options.storage.snapshotNameTemplate] {
                    let name = option.declaration.name
                    options.removeAll { $0.name == name }
                    options.append(DriverValue.Member(name, .string(settings[option])))
                }
                let zone = settings[Options.backend.zone, backend: name]
                let displayName = settings[Options.backend.name, backend: name]
                let standIn = settings[Options.backend.host, backend: name]
                let host = "\(standIn.isEmpty ? node : standIn)@\(name)"
                let started = Guarded<BackendEntry?>(nil)
                // What its section says in vain is told once.
                let isExamined = Guarded(false)
                var configuration = Backend.Configuration(
                    name: name, pluginPath: path, options: .object(options), threads: settings[Options.backend.threads, backend: name],
                    callTimeout: Double(settings[Options.backend.callTimeout, backend: name]),
                    openTimeout: Double(settings[Options.backend.openTimeout, backend: name]), notesDirectory: stateDirectory + "/processes"
                )
                configuration.memoryLimit = settings[Options.backend.memoryLimit, backend: name] << 20
                let backend = Backend(
                    configuration, log: log,
                    onChange: { isUp in
                        guard let entry = started.withLock({ $0 }) else { return }
                        entry.changed(isUp: isUp)
                        guard isUp else { return }
                        Task { await entry.refresh(log) }
                        onUp(entry.host, entry.zone)
                        if let description = entry.backend.description,
                            !isExamined.withLock({
                                let was = $0; $0 = true; return was
                            })
                        {
                            for line in settings.notRead(
                                ofBackend: name, by: description.driver, reading: description.options, unused: description.unused)
                            {
                                log.warning("\(line)", metadata: ["backend": "\(name)"])
                            }
                        }
                    })
                let entry = try BackendEntry(
                    host: host, zone: zone.isEmpty ? settings[Options.storage.storageZone] : zone,
                    backendName: displayName.isEmpty ? name : displayName, backend: backend, settings: settings)
                started.withLock { $0 = entry }
                entries.append(entry)
            } catch let error as SettingsError {
                problems += error.problems
            } catch {
                problems.append("[\(name)] \(error)")
            }
        }
        guard problems.isEmpty else { throw SettingsError(problems) }
        self.entries = entries
        byHost = Dictionary(entries.map { ($0.host, $0) }, uniquingKeysWith: { first, _ in first })
    }

    public func entry(_ host: String) -> BackendEntry? { byHost[host] }

    public func start() {
        startedAt.withLock { $0 = Timestamp.monotonic() }
        for entry in entries {
            entry.backend.start()
            Task { [log] in
                while true {
                    try? await Task.sleep(nanoseconds: UInt64(entry.statsInterval) * 1_000_000_000)
                    if entry.backend.description != nil { await entry.refresh(log) }
                }
            }
        }
    }

    public func stop() { for entry in entries { entry.backend.stop() } }

    /// Right after the start, waits until every backend has reported once (at most 30 s): a volume must not fail because
    /// its backend is a moment late.
    public func waitForReports() async { await waitForReports { !$0.backend.isHeldUp } }

    /// The same for some of the backends.
    func waitForReports(of isWanted: (BackendEntry) -> Bool) async {
        await wait { !$0.hasReported && isWanted($0) && !isLate(Timestamp.monotonic()) }
    }

    /// Whether at a moment every backend had reported, or was not waited for any more.
    func areKnown(by moment: Double = Timestamp.monotonic()) -> Bool {
        isLate(moment) || entries.allSatisfy { $0.hasReported(by: moment) }
    }

    /// Whether a first report is not waited for any more.
    private func isLate(_ moment: Double) -> Bool { moment - startedAt.withLock { $0 } >= 30 }

    /// Reads the capacities again.
    public func readCapacity() async {
        let asked = Timestamp.monotonic()
        for entry in entries where entry.backend.description != nil { Task { [log] in await entry.refresh(log) } }
        await wait { $0.owesReport(since: asked) }
    }

    private func wait(while isAwaited: (BackendEntry) -> Bool) async {
        while entries.contains(where: isAwaited), !Task.isCancelled { try? await Task.sleep(nanoseconds: 5_000_000) }
    }

    public func list(_ host: String, requestID: String) async throws -> JSON {
        guard let entry = entry(host) else { throw StorageError(.unavailable, "No node that runs serves \(host).") }
        do {
            let promise = Promise()
            let call = Task {
                do { promise.fulfil(.success(try await entry.backend.call(.listVolumes, .object([]), requestID: requestID))) } catch {
                    promise.fulfil(.failure(error))
                }
            }
            return try await promise.value(within: responseTimeout) { call.cancel() }.json
        } catch let failure as DriverFailure {
            switch failure.code {
            case .unsupported: throw StorageError(.invalid, "The driver of \(host) cannot list what its storage holds.")
            default:
                log.error(
                    "what a backend holds could not be listed: \(failure)", metadata: ["backend": "\(host)", "request_id": "\(requestID)"])
                throw StorageError(.unavailable, "The backend \(host) could not be asked.")
            }
        }
    }

    /// Writes which backends are up, what they do, and what their pools hold with what is allocated of them.
    public func write(into text: inout MetricsText, _ allocations: [String: Pools.Allocation]) {
        text.family("clinker_backend_up", .gauge, "1 while the backend's driver answers.")
        for entry in entries { text.sample("clinker_backend_up", entry.backend.description == nil ? 0 : 1, ["backend": entry.host]) }
        text.family("clinker_backend_restarts_total", .counter, "Starts of the backend's driver host after the first.")
        for entry in entries { text.sample("clinker_backend_restarts_total", entry.backend.restarts, ["backend": entry.host]) }
        text.family("clinker_backend_problems", .gauge, "Parts of the backend's storage that do not answer.")
        for entry in entries { text.sample("clinker_backend_problems", entry.problems.count, ["backend": entry.host]) }
        text.family("clinker_backend_memory_bytes", .gauge, "Resident memory of the backend's driver host.")
        for entry in entries { text.sample("clinker_backend_memory_bytes", entry.backend.memory, ["backend": entry.host]) }
        text.family("clinker_backend_calls", .gauge, "Driver calls under way.")
        for entry in entries { text.sample("clinker_backend_calls", entry.backend.callCount, ["backend": entry.host]) }
        text.family("clinker_backend_report_age_seconds", .gauge, "Age of what is known of the backend's capacity.")
        for entry in entries {
            guard let age = entry.reportAge else { continue }
            text.sample("clinker_backend_report_age_seconds", age, ["backend": entry.host])
        }
        let pools = entries.flatMap { $0.pools(allocations) }
        text.family("clinker_pool_total_gigabytes", .gauge, "Capacity of a pool in GiB.")
        for pool in pools { if let total = pool.totalGB { text.sample("clinker_pool_total_gigabytes", total, ["pool": pool.host]) } }
        text.family("clinker_pool_free_gigabytes", .gauge, "Free capacity of a pool in GiB.")
        for pool in pools { if let free = pool.freeGB { text.sample("clinker_pool_free_gigabytes", free, ["pool": pool.host]) } }
        text.family("clinker_pool_allocated_gigabytes", .gauge, "GiB promised to volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_allocated_gigabytes", pool.allocatedGB, ["pool": pool.host]) }
        text.family("clinker_pool_volumes", .gauge, "Volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_volumes", pool.volumes, ["pool": pool.host]) }
    }

    public func pools(in connection: any Connection) throws -> [PoolState] { try pools(in: connection) { _ in true } }

    /// The pools of the backends for which `isWanted`, with what is promised of them.
    func pools(in connection: any Connection, of isWanted: (_ host: String) -> Bool) throws -> [PoolState] {
        let allocations = try Pools.allocations(in: connection)
        return entries.flatMap { isWanted($0.host) ? $0.pools(allocations) : [] }
    }
}
