import BlockStorage
import Database
import DriverHost
public import Logging
public import Observability
import Primitives
public import Settings

/// Reads the packs of all repositories again and again, a part at a time, and marks the backups whose chunks are damaged.
public final class BackupScrub: Sendable {
    private struct Counts {
        var bytes: UInt64 = 0
        var damages = 0
        var failures = 0
        /// By store: when a part that failed is tried again.
        var retries: [String: Double] = [:]
    }

    private let repositories: StoreRepositories
    private let database: any Database
    /// Seconds between two parts; 0: nothing is read.
    private let interval: Int
    private let parts: Int
    private let log: Logger
    private let counts = Guarded(Counts())

    init(_ repositories: StoreRepositories, database: any Database, settings: Settings, log: Logger) {
        self.repositories = repositories
        self.database = database
        interval = settings[Options.flows.scrubInterval]
        parts = settings[Options.flows.scrubParts]
        self.log = log
    }

    /// Seconds between two looks at what is due; nil: never.
    var pause: Double? { interval > 0 ? Double(max(1, min(60, interval))) : nil }

    /// Does what is due.
    func tick() async {
        for store in repositories.storeNames {
            guard !Task.isCancelled, counts.withLock({ ($0.retries[store] ?? 0) <= Timestamp.monotonic() }) else { continue }
            do {
                try await scrub(store)
                _ = counts.withLock { $0.retries.removeValue(forKey: store) }
            } catch {
                guard !Task.isCancelled else { return }
                counts.withLock { counts in
                    counts.failures += 1
                    counts.retries[store] = Timestamp.monotonic() + Double(min(interval, 3600))
                }
                log.error("the repositories of a store cannot be scrubbed: \(error)", metadata: ["store": "\(store)"])
            }
        }
    }

    private func scrub(_ store: String) async throws {
        guard let last = try await database.read({ try BackupScrubs.last(store, in: $0) }) else {
            // What is new has just been written: its time comes.
            return try await database.write { [parts] in try BackupScrubs.finished(parts - 1, of: store, in: $0) }
        }
        let age = Timestamp.seconds() - (Timestamp.read(last.finishedAt) ?? 0)
        // A clock that was set back must not keep it from ever being due.
        guard age >= Double(interval) || age < 0 else { return }
        let part = (last.part + 1) % parts
        let found = try await repositories.scrub(store, part: part, of: parts)
        for (project, verdict, problem) in found {
            if let problem {
                counts.withLock { $0.failures += 1 }
                log.error("a repository cannot be scrubbed: \(problem)", metadata: ["store": "\(store)", "project_id": "\(project)"])
                continue
            }
            counts.withLock { counts in
                counts.bytes += verdict.checkedBytes
                counts.damages += verdict.damages.count
            }
            try await verdict.markUsers(of: project, in: database)
            verdict.log(log, about: ["store": "\(store)", "project_id": "\(project)", "backups": "\(verdict.users.count)"])
        }
        try await database.write { try BackupScrubs.finished(part, of: store, in: $0) }
        log.info(
            "repositories were scrubbed",
            metadata: [
                "store": "\(store)", "part": "\(part + 1)/\(parts)", "repositories": "\(found.count)",
                "bytes": "\(found.reduce(0) { $0 + $1.verdict.checkedBytes })",
            ])
    }

    public func write(into text: inout MetricsText) async throws {
        let counts = counts.withLock { $0 }
        let damaged = try await database.read { try Backups.damagedCount(in: $0) }
        text.family("clinker_backups_damaged", .gauge, "Backups that are known to be damaged.")
        text.sample("clinker_backups_damaged", damaged)
        text.family("clinker_backup_scrubbed_bytes_total", .counter, "Bytes of packs that were read by scrubs.")
        text.sample("clinker_backup_scrubbed_bytes_total", Int(clamping: counts.bytes))
        text.family("clinker_backup_scrub_damages_total", .counter, "Damages that scrubs found.")
        text.sample("clinker_backup_scrub_damages_total", counts.damages)
        text.family("clinker_backup_scrub_failures_total", .counter, "Scrubs that a store did not let end.")
        text.sample("clinker_backup_scrub_failures_total", counts.failures)
    }
}

extension FlowServices {
    /// The scrub of the stores' repositories; nil: there are no stores.
    public func scrub(settings: Settings, log: Logger) -> BackupScrub? {
        repositories.map { BackupScrub($0, database: database, settings: settings, log: log) }
    }
}
