import BlockStorage
public import Database
import DriverHost
import JSON
public import Logging
public import Primitives
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
    private let report = Guarded<Report?>(nil)
    private let downSince = Guarded<Double?>(nil)
    /// Seconds for which a backend that went down is still placed on: its host is being started again.
    private static let grace = 30.0

    struct Report: Sendable {
        let pools: [DriverValue]
        let description: Backend.Description
        let timestamp: String
        let readAt = Timestamp.monotonic()
    }

    /// Seconds since the capacity was read; nil if it never was.
    var reportAge: Double? { report.withLock { $0 }.map { Timestamp.monotonic() - $0.readAt } }

    func changed(isUp: Bool) { downSince.withLock { $0 = isUp ? nil : Timestamp.monotonic() } }

    init(
        host: String, zone: String, backendName: String, backend: Backend, reservedPercentage: Int, maxOverSubscription: String,
        statsInterval: Int, copyLimit: Int
    ) {
        self.host = host
        self.zone = zone
        self.backendName = backendName
        self.backend = backend
        self.reservedPercentage = reservedPercentage
        self.maxOverSubscription = maxOverSubscription
        self.statsInterval = statsInterval
        self.copyLimit = copyLimit
    }

    var hasReported: Bool { report.withLock { $0 != nil } }

    /// Reads the capacity; a failure keeps the last numbers, whose age shows.
    func refresh(_ log: Logger) async {
        do {
            let stats = try await backend.call(.stats, .object([]))
            guard let description = backend.description else { return }
            let pools = stats["pools"]?.list ?? []
            report.withLock { $0 = Report(pools: pools, description: description, timestamp: Timestamp.now()) }
        } catch {
            log.warning("the capacity of a backend cannot be read: \(error)", metadata: ["backend": "\(backend.name)"])
        }
    }

    /// The pools as placement sees them; none when the backend has been down for more than a moment.
    func pools(_ allocations: [String: Pools.Allocation]) -> [PoolState] {
        guard let report = report.withLock({ $0 }) else { return [] }
        if let since = downSince.withLock({ $0 }), Timestamp.monotonic() - since > Self.grace { return [] }
        let description = report.description
        func flag(_ name: String) -> Bool { description.capabilities[name]?.boolean ?? false }
        return report.pools.map { pool in
            let host = "\(self.host)#\(pool["name"]?.string ?? backendName)"
            let allocation = allocations[host] ?? Pools.Allocation()
            func capacity(_ name: String) -> Double? { pool[name]?.real.flatMap { $0 < 0 ? nil : $0 } }
            let reserved = pool["reserved_percentage"]?.integer ?? Int64(reservedPercentage)
            let ratio = pool["max_over_subscription_ratio"]?.string ?? maxOverSubscription
            let provisioned = capacity("provisioned_capacity_gb") ?? Double(allocation.gigabytes)
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
            capabilities["provisioned_capacity_gb"] = .real(provisioned)
            capabilities["max_over_subscription_ratio"] = Double(ratio).map { .real($0) } ?? .string(ratio)
            capabilities["allocated_capacity_gb"] = JSON(allocation.gigabytes)
            capabilities["filter_function"] = .null
            capabilities["goodness_function"] = .null
            capabilities["timestamp"] = .string(report.timestamp)
            return PoolState(
                host: host, zone: zone, capabilities: capabilities, totalGB: capacity("total_capacity_gb"),
                freeGB: capacity("free_capacity_gb"), provisionedGB: provisioned, allocatedGB: Double(allocation.gigabytes),
                volumes: allocation.volumes, reservedPercentage: Double(reserved), maxOverSubscriptionRatio: ratio,
                isThin: flag("thin_provisioning_support"), isThick: flag("thick_provisioning_support"), timestamp: report.timestamp)
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
public final class Backends: Sendable {
    public let entries: [BackendEntry]
    private let byHost: [String: BackendEntry]
    private let log: Logger
    private let startedAt = Timestamp.monotonic()
    /// Finds the plugins of the enabled backends. `onUp` is called whenever a backend came up. Throws what is wrong with the configuration.
    public init(
        _ settings: Settings, node: String, stateDirectory: String, inherited: [(source: Int32, target: Int32)], log: Logger,
        onUp: @escaping @Sendable (_ host: String, _ zone: String) -> Void = { _, _ in }
    ) throws(SettingsError) {
        self.log = log
        let directory = settings[Options.pluginDirectory]
        var entries: [BackendEntry] = []
        var problems: [String] = []
        for name in settings[Options.enabledBackends] {
            do {
                let driver = settings[Options.volumeDriver, backend: name]
                guard !driver.isEmpty else { throw SettingsError(["[\(name)] volume_driver is not set"]) }
                let path = try Plugin.path(for: driver, in: directory.isEmpty ? Plugin.defaultDirectory() : directory)
                var options = settings.backendOptions(name).map { DriverValue.Member($0.name, .string($0.value)) }
                options.append(DriverValue.Member("backend", .string(name)))
                options.append(DriverValue.Member("state_dir", .string(stateDirectory)))
                let zone = settings[Options.backendZone, backend: name]
                let displayName = settings[Options.volumeBackendName, backend: name]
                let host = "\(node)@\(name)"
                let started = Guarded<BackendEntry?>(nil)
                let backend = Backend(
                    Backend.Configuration(
                        name: name, pluginPath: path, options: .object(options), threads: settings[Options.backendThreads, backend: name],
                        callTimeout: Double(settings[Options.callTimeout, backend: name]),
                        openTimeout: Double(settings[Options.openTimeout, backend: name]), inherited: inherited),
                    log: log,
                    onChange: { isUp in
                        guard let entry = started.withLock({ $0 }) else { return }
                        entry.changed(isUp: isUp)
                        guard isUp else { return }
                        Task { await entry.refresh(log) }
                        onUp(entry.host, entry.zone)
                    })
                let entry = BackendEntry(
                    host: host, zone: zone.isEmpty ? settings[Options.storageZone] : zone,
                    backendName: displayName.isEmpty ? name : displayName,
                    backend: backend, reservedPercentage: settings[Options.reservedPercentage, backend: name],
                    maxOverSubscription: settings[Options.maxOverSubscription, backend: name],
                    statsInterval: settings[Options.statsInterval, backend: name],
                    copyLimit: settings[Options.copyLimit, backend: name])
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
    func waitForReports() async {
        while entries.contains(where: { !$0.hasReported }), Timestamp.monotonic() - startedAt < 30 {
            try? await Task.sleep(nanoseconds: 5_000_000)
        }
    }

    /// Writes which backends are up, what they do, and what their pools hold.
    public func write(into text: inout MetricsText, in connection: any Connection) throws {
        text.family("clinker_backend_up", .gauge, "1 while the backend's driver answers.")
        for entry in entries { text.sample("clinker_backend_up", entry.backend.description == nil ? 0 : 1, ["backend": entry.host]) }
        text.family("clinker_backend_restarts_total", .counter, "Starts of the backend's driver host after the first.")
        for entry in entries { text.sample("clinker_backend_restarts_total", entry.backend.restarts, ["backend": entry.host]) }
        text.family("clinker_backend_calls", .gauge, "Driver calls under way.")
        for entry in entries { text.sample("clinker_backend_calls", entry.backend.callCount, ["backend": entry.host]) }
        text.family("clinker_backend_report_age_seconds", .gauge, "Age of what is known of the backend's capacity.")
        for entry in entries {
            guard let age = entry.reportAge else { continue }
            text.sample("clinker_backend_report_age_seconds", age, ["backend": entry.host])
        }
        let pools = try pools(in: connection)
        text.family("clinker_pool_total_gigabytes", .gauge, "Capacity of a pool in GiB.")
        for pool in pools { if let total = pool.totalGB { text.sample("clinker_pool_total_gigabytes", total, ["pool": pool.host]) } }
        text.family("clinker_pool_free_gigabytes", .gauge, "Free capacity of a pool in GiB.")
        for pool in pools { if let free = pool.freeGB { text.sample("clinker_pool_free_gigabytes", free, ["pool": pool.host]) } }
        text.family("clinker_pool_allocated_gigabytes", .gauge, "GiB promised to volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_allocated_gigabytes", pool.allocatedGB, ["pool": pool.host]) }
        text.family("clinker_pool_volumes", .gauge, "Volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_volumes", pool.volumes, ["pool": pool.host]) }
    }

    /// All pools, with what is promised of them.
    public func pools(in connection: any Connection) throws -> [PoolState] {
        let allocations = try Pools.allocations(in: connection)
        return entries.flatMap { $0.pools(allocations) }
    }
}
