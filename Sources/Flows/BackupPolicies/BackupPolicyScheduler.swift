import BlockStorage
import Database
import Logging
import Primitives

/// Begins the runs of backup policies when they are due, and carries them on. All that it knows is in the database: whoever dies in the
/// middle of a run is followed by a process that goes on with it.
final class BackupPolicyScheduler: Sendable {
    private let database: any Database
    private let requests: VolumeRequests
    /// Seconds after which a service without a heartbeat is down.
    private let serviceDownTime: Int
    private let verifications: PolicyVerifications
    private let log: Logger
    private let beginning = Timestamp.monotonic()
    /// What the clocks showed when it was looked at them last.
    private let seen = Guarded<(wall: Double, monotonic: Double)?>(nil)

    /// A clock that goes so much otherwise was set.
    private static let clockTolerance = 2.0
    /// Seconds for which a run waits for copies to be gone on which others rested.
    private static let retentionPatience = 600.0
    /// Seconds after its beginning for which a run waits for verifications and deletions that follow on its copies: what is made every day
    /// finds the run of the day before ended.
    private static let runPatience = 82_800.0
    /// Seconds for which a verification is waited for all the same, where the copy was made so late.
    private static let verificationPatience = 3600.0
    /// Seconds for which a run waits for a service that can make its copies.
    private static let servicePatience = 600.0

    init(database: any Database, requests: VolumeRequests, serviceDownTime: Int, log: Logger) {
        self.database = database
        self.requests = requests
        self.serviceDownTime = serviceDownTime
        verifications = PolicyVerifications(database: database, requests: requests, log: log)
        self.log = log
    }

    /// Looks at the schedules, and carries runs on until none is going on.
    func look() async {
        do {
            while try await lookOnce() {
                guard (try? await Task.sleep(nanoseconds: Self.pause)) != nil else { return }
            }
        } catch { log.error("backup policies could not be looked at: \(error)") }
    }

    /// Between looks at runs that are going on.
    private static let pause: UInt64 = 250_000_000

    /// Whether a run is going on.
    func lookOnce() async throws -> Bool {
        if isClockNew() {
            for id in try await database.read({ try BackupPolicyRuns.waiting(in: $0) }) {
                await attempt(id) { tx in
                    try BackupPolicyRuns.replan(id, in: tx)
                    return nil
                }
            }
        }
        for id in try await database.read({ try BackupPolicyRuns.due(in: $0) }) {
            await attempt(id) { tx in try BackupPolicyRuns.beginDue(id, in: tx) }
        }
        await verifications.giveWay()
        await verifications.begin()
        let runs = try await database.read { try BackupPolicyRuns.unfinished(in: $0) }
        for run in runs {
            guard !Task.isCancelled else { return false }
            do { try await carryOn(run) } catch {
                log.error("a run of a backup policy could not be carried on: \(error)", metadata: ["policy": "\(run.policyID)"])
            }
        }
        return !runs.isEmpty
    }

    /// A change for one policy: what goes wrong with it keeps no other one waiting.
    private func attempt(_ policyID: String, _ change: @escaping @Sendable (any Transaction) throws -> BackupPolicyRun.Status?) async {
        do {
            guard let status = try await database.write(change) else { return }
            log.log(
                level: status == .preparing ? .info : .warning, "a run of a backup policy is \(status)", metadata: ["policy": "\(policyID)"]
            )
        } catch { log.error("a backup policy's run could not be begun or planned: \(error)", metadata: ["policy": "\(policyID)"]) }
    }

    /// Whether this is the first look, or the clock was set back since the last one: the next runs are planned anew.
    private func isClockNew() -> Bool {
        let now = (wall: Timestamp.seconds(), monotonic: Timestamp.monotonic())
        return seen.withLock { seen in
            defer { seen = now }
            guard let last = seen else { return true }
            let drift = (now.wall - last.wall) - (now.monotonic - last.monotonic)
            if abs(drift) > Self.clockTolerance { log.warning("the clock was set", metadata: ["seconds": "\(Int(drift))"]) }
            return drift < -Self.clockTolerance
        }
    }

    // MARK: a run

    private func carryOn(_ run: BackupPolicyRun) async throws {
        if run.status == .preparing {
            guard let volumes = try await database.read({ try BackupPolicyRuns.volumes(of: run, in: $0) }) else { return }
            try await database.write { try BackupPolicyRuns.prepare(run, volumes, in: $0) }
        }
        guard let policy = try await database.read({ try BackupPolicies.find(run.policyID, in: $0) }) else { return }
        var isActive = false
        /// Copies that are being made: what follows on one keeps no other one waiting.
        var making = 0
        for status in [BackupPolicyItem.Status.retaining, .verifying, .started] {
            for item in try await items(of: run, status) where try await carryOn(item, of: run, policy) {
                isActive = true
                if status == .started { making += 1 }
            }
        }
        let pending = try await items(of: run, .pending)
        if !pending.isEmpty, let reason = reasonToStop(run, policy) {
            try await database.write { try BackupPolicyRuns.skipRest(of: run, message: reason, in: $0) }
        } else if !pending.isEmpty {
            for item in pending.prefix(max(0, policy.settings.maxParallel - making)) {
                guard try await start(item, of: run) else { break }
            }
            return
        }
        guard !isActive else { return }
        if let status = try await database.write({ try BackupPolicyRuns.finish(run, in: $0) }) {
            log.info("a run of a backup policy has ended: \(status)", metadata: ["policy": "\(run.policyID)", "run": "\(run.id)"])
        }
    }

    private func items(of run: BackupPolicyRun, _ status: BackupPolicyItem.Status) async throws -> [BackupPolicyItem] {
        // More copies are never made at once; of others the rest follows when these have ended.
        try await database.read { try BackupPolicyRuns.items(of: run.id, status, limit: 100, in: $0) }
    }

    /// Why nothing more of a run is begun.
    private func reasonToStop(_ run: BackupPolicyRun, _ policy: BackupPolicy) -> String? {
        if !policy.settings.enabled { return "the policy was paused." }
        // Who asks for a run wants it now.
        guard run.occurrenceAt != nil, let schedule = policy.settings.schedule(of: policy.id) else { return nil }
        return schedule.isOpen(at: Int(Timestamp.seconds())) ? nil : "the policy's window ended before its turn."
    }

    /// false: nothing can be begun yet.
    private func start(_ item: BackupPolicyItem, of run: BackupPolicyRun) async throws -> Bool {
        do {
            try await database.write { [requests, serviceDownTime] in
                try requests.start(item, of: run, downAfter: serviceDownTime, in: $0)
            }
        } catch let refusal as StorageError {
            // The service that keeps backups may not be up again yet.
            if refusal.kind == .unavailable, isWorthWaiting(since: run) { return false }
            // Refused as anybody's request would be: the run tells it, and goes on.
            try await database.write { tx in
                try BackupPolicyRuns.move(
                    item, to: refusal.kind == .notFound ? .skipped : .failed, message: refusal.message, of: run, in: tx)
            }
        }
        return true
    }

    private func isWorthWaiting(since run: BackupPolicyRun) -> Bool {
        isRecent(run.createdAt, Self.servicePatience) || Timestamp.monotonic() - beginning < Self.servicePatience
    }

    /// Whether a time is no longer ago than that. What lies ahead was noted before the clock was set back.
    private func isRecent(_ time: String, _ seconds: Double) -> Bool {
        (0...seconds).contains(Timestamp.seconds() - (Timestamp.parse(time) ?? 0))
    }

    /// Whether nothing that follows on copies is waited for any more.
    private func isOverdue(_ run: BackupPolicyRun) -> Bool { !isRecent(run.createdAt, Self.runPatience) }

    /// Whether the item is still to be waited for.
    private func carryOn(_ item: BackupPolicyItem, of run: BackupPolicyRun, _ policy: BackupPolicy) async throws -> Bool {
        switch item.status {
        case .started:
            let state = try await database.read { [requests] in try requests.state(of: item, in: $0) }
            return try await move(item, of: run, state, next: policy.settings.verifyAfter ? .verifying : Self.end(policy))
        case .verifying:
            // Looked at without a lock: most looks find nothing to be done.
            guard let state = try await database.read({ [requests] in try requests.verification(of: item, in: $0) }) else {
                return try await verify(item, of: run)
            }
            if state == .going, isOverdue(run), !isRecent(item.updatedAt, Self.verificationPatience) {
                return try await move(
                    item, of: run, .failed("made; the run has not waited any longer for its verification."), next: .failed)
            }
            return try await move(item, of: run, state, next: Self.end(policy))
        default: return try await deleteExpired(after: item, of: run)
        }
    }

    /// Begins the verification of an item's backup. Whether the item is still to be waited for.
    private func verify(_ item: BackupPolicyItem, of run: BackupPolicyRun) async throws -> Bool {
        do {
            try await database.write { [requests] in try requests.beginVerification(of: item, of: run, in: $0) }
        } catch let refusal as StorageError {
            // Somebody else of the project was faster: as many as may be verified at once are.
            if refusal.kind == .conflict { return true }
            return try await move(item, of: run, .failed("made, but not verified: " + refusal.message), next: .failed)
        }
        return true
    }

    /// What follows on a copy that is there.
    private static func end(_ policy: BackupPolicy) -> BackupPolicyItem.Status { policy.settings.retention.isLimited ? .retaining : .done }

    private func move(
        _ item: BackupPolicyItem, of run: BackupPolicyRun, _ state: VolumeRequests.CopyState, next: BackupPolicyItem.Status
    ) async throws -> Bool {
        switch state {
        case .going: return true
        case .failed(let reason):
            try await database.write { try BackupPolicyRuns.move(item, to: .failed, message: reason, of: run, in: $0) }
            return false
        case .made:
            // What is next is done when it is looked at next time.
            try await database.write { try BackupPolicyRuns.move(item, to: next, of: run, in: $0) }
            return next != .done
        }
    }

    /// Deletes what is kept no longer. Whether the item is still to be waited for.
    private func deleteExpired(after item: BackupPolicyItem, of run: BackupPolicyRun) async throws -> Bool {
        let expired = try await database.read { [requests] in try requests.expired(after: item, of: run, in: $0) }
        var problem: String?
        for copy in expired where copy.mayGo {
            do {
                try await database.write { [requests] in try requests.delete(copy.id, after: item, of: run, in: $0) }
            } catch let refusal as StorageError { problem = refusal.message }
        }
        if problem == nil, !expired.isEmpty {
            if !isOverdue(run), isRecent(item.updatedAt, Self.retentionPatience) { return true }
            problem = "older copies that others rested on are not gone yet: the next run deletes them."
        }
        let message = problem.map { "made; not all older copies were deleted: " + $0 }
        try await database.write { try BackupPolicyRuns.move(item, to: .done, message: message, of: run, in: $0) }
        return false
    }
}
