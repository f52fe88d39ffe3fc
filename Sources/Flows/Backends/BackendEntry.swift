import BlockStorage
import Database
import DriverHost
import JSON
import Logging
import Primitives
import Settings
import Transfers

/// A backend with its place in the cloud.
public final class BackendEntry: StorageBackend {
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
    let keepsBackupSnapshots: Bool
    let imageCacheLimits: ImageCache.Limits?
    /// The operator's expressions; empty: the driver's.
    let filterFunction, goodnessFunction: String
    private let report = Guarded<CapacityReport?>(nil)
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

    private struct Reading {
        let begunAt: Double
        let task: Task<Void, Never>
    }

    // MARK: calls

    var capabilities: DriverValue? { backend.description?.capabilities }

    func call(
        _ method: DriverMethod, _ arguments: DriverValue, requestID: String, onProgress: @escaping @Sendable (UInt64, UInt64) -> Void
    ) async throws -> DriverValue {
        try await backend.call(method, arguments, requestID: requestID, onProgress: onProgress)
    }

    func waitUntilUp(within seconds: Double) async -> Bool { await backend.waitUntilUp(within: seconds) }

    func waitForOldTransfers() async throws { try await backend.waitForOldTransfers() }

    func transferEnd(_ object: DriverValue) -> Transfer.End { Transfer.End(backend.configuration, object: object) }

    // MARK: reports

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
        keepsBackupSnapshots = settings[Options.backend.keepsBackupSnapshots, backend: name]
        imageCacheLimits =
            settings[Options.backend.imageCache, backend: name]
            ? ImageCache.Limits(
                gigabytes: settings[Options.backend.imageCacheGigabytes, backend: name],
                count: settings[Options.backend.imageCacheCount, backend: name]) : nil
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
    func isReportPending(since moment: Double) -> Bool {
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
                $0 = CapacityReport(
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

    private func pool(_ pool: DriverValue, _ description: Backend.Description, _ timestamp: String) -> CapacityReport.Pool {
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
        return CapacityReport.Pool(
            host: "\(host)#\(pool["name"]?.string ?? backendName)", capabilities: capabilities, total: capacity("total_capacity_gb"),
            free: capacity("free_capacity_gb"), provisioned: capacity("provisioned_capacity_gb"), reserved: reserved, ratio: ratio)
    }

    /// The pools as placement sees them; none when the backend has been down for more than a moment.
    func pools(_ allocations: [String: Pools.Allocation]) -> [PoolState] {
        let known: CapacityReport? = report.withLock { report in
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
