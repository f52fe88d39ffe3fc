import DriverHost
public import Logging
import Primitives
public import Settings

/// The backends of this node.
public final class Backends: Sendable {
    public let entries: [BackendEntry]
    private let byHost: [String: BackendEntry]
    let log: Logger
    private let startedAt = Guarded(Double.infinity)
    /// Seconds that a client waits for a listing.
    let responseTimeout: Double

    /// Finds the plugins of the enabled backends. `onUp` is called whenever a backend came up. Throws what is wrong with the configuration.
    public init(
        _ settings: Settings, node: String, stateDirectory: String, log: Logger,
        onUp: @escaping @Sendable (_ host: String, _ zone: String) -> Void = { _, _ in }
    ) throws(SettingsError) {
        self.log = log
        responseTimeout = Double(settings[Options.service.rpcResponseTimeout])
        let directory = settings[Options.service.pluginDirectory]
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
    public func waitForReports() async { await waitForReports { !$0.backend.isWaitingForOldProcesses } }

    func waitForReports(isPatient: Bool, or host: String?) async {
        await waitForReports { isPatient || !$0.backend.isWaitingForOldProcesses || $0.host == host }
    }

    func waitForReport(of host: String) async { await waitForReports { $0.host == host } }

    private func waitForReports(of isWanted: (BackendEntry) -> Bool) async {
        await wait { !$0.hasReported && isWanted($0) && !isLate(Timestamp.monotonic()) }
    }

    func areKnown(by moment: Double) -> Bool {
        isLate(moment) || entries.allSatisfy { $0.hasReported(by: moment) }
    }

    /// Whether a first report is not waited for any more.
    private func isLate(_ moment: Double) -> Bool { moment - startedAt.withLock { $0 } >= 30 }

    func readCapacity() async {
        let asked = Timestamp.monotonic()
        for entry in entries where entry.backend.description != nil { Task { [log] in await entry.refresh(log) } }
        await wait { $0.isReportPending(since: asked) }
    }

    private func wait(while isAwaited: (BackendEntry) -> Bool) async {
        while entries.contains(where: isAwaited), !Task.isCancelled { try? await Task.sleep(nanoseconds: 5_000_000) }
    }
}
