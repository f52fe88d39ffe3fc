import BlockStorage
import Database
import Logging
import Primitives
import Settings

/// Removes what is older than the past is kept, and what is more.
final class HistoryRetention: Sendable {
    private let database: any Database
    private let days: Int
    private let limits: HistoryLimits
    private let policyLimits: BackupPolicyHistoryLimits
    private let log: Logger
    /// Up to this event the past is known not to be too much.
    private let surveyedUntil = Guarded<Int64>(-1)
    /// The last event when runs of policies were counted.
    private let runsKnownAt = Guarded<Int64>(-1)

    init(database: any Database, settings: Settings, log: Logger) {
        self.database = database
        self.log = log
        days = settings[Options.flows.operationRetention]
        limits = HistoryLimits(
            perProject: settings[Options.flows.projectHistoryLimit], total: settings[Options.flows.historyLimit])
        policyLimits = BackupPolicyHistoryLimits(
            runsOfPolicy: settings[Options.flows.policyRunLimit], runsOfProject: settings[Options.flows.projectPolicyRunLimit],
            itemsOfProject: settings[Options.flows.projectPolicyItemLimit])
    }

    func apply() async {
        do {
            try await removeOld()
            try await removeExcessRuns()
            try await removeExcess()
        } catch { log.error("old history could not be removed: \(error)") }
    }

    private func removeOld() async throws {
        let limit = Timestamp.format(Timestamp.seconds() - Double(days) * 86_400)
        var removed = 1
        while removed > 0 {
            removed = try await database.write {
                try Events.purge(before: limit, in: $0) + Operations.purge(before: limit, in: $0) + Messages.purge(in: $0)
                    + BackupPolicyRuns.purge(before: limit, in: $0)
            }
        }
    }

    /// Before the events are surveyed: where there is none that is new, there is no new run.
    private func removeExcessRuns() async throws {
        let (known, limits) = (runsKnownAt.withLock { $0 }, policyLimits)
        let last = try await database.read { try Events.last(in: $0) }
        guard last > known else { return }
        while case var excess = try await database.read({ try BackupPolicyRuns.excess(limits, in: $0) }), !excess.isEmpty {
            log.info("more runs of backup policies than are kept were removed", metadata: ["rows": "\(excess.count)"])
            while case let ids = excess, !ids.isEmpty { excess = try await database.write { try BackupPolicyRuns.trim(ids, in: $0) } }
        }
        runsKnownAt.withLock { $0 = last }
    }

    private func removeExcess() async throws {
        let (known, limits) = (surveyedUntil.withLock { $0 }, limits)
        let survey = try await database.read { try Events.last(in: $0) <= known ? nil : History.survey(limits, in: $0) }
        guard let survey else { return }
        for excess in survey.excess {
            var removed = 0
            while case let count = try await database.write({ try History.trim(excess, in: $0) }), count > 0 { removed += count }
            log.info("more history than is kept was removed", metadata: ["table": "\(excess.table)", "rows": "\(removed)"])
        }
        surveyedUntil.withLock { $0 = survey.isTrueUntil }
    }
}
