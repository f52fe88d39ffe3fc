import Database
import JSON
import Logging
import Primitives
import Settings
import TestSupport
import Testing

@testable import BlockStorage
@testable import Flows

/// Runs of policies over a real database, in which the test does what flows and clocks would.
@Suite("The scheduler of backup policies")
struct BackupPolicySchedulerTests {
    /// Seconds. The service beats once, however long a test takes on a busy machine.
    private static let serviceDownTime = 86_400
    private let database: SQLiteDatabase
    private let requests: VolumeRequests
    private let scheduler: BackupPolicyScheduler
    private let caller = Caller(userID: "u", projectID: "p", isAdmin: false, requestID: "req-test")
    private let log = Logger(label: "policies") { _ in SwiftLogNoOpLogHandler() }

    init() async throws {
        database = try SQLiteDatabase(path: temporaryDirectory("policies") + "/db")
        requests = VolumeRequests(try Settings(text: "[DEFAULT]\nquota_backups = 12\nquota_volumes = -1\n"))
        try await database.migrate(Schema.migrations)
        try await database.write {
            try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0)
            try Services.beat(binary: "cinder-backup", host: "node", zone: "nova", backendState: "up", in: $0)
        }
        scheduler = BackupPolicyScheduler(database: database, requests: requests, serviceDownTime: Self.serviceDownTime, log: log)
    }

    private func restarted() -> BackupPolicyScheduler {
        BackupPolicyScheduler(database: database, requests: requests, serviceDownTime: Self.serviceDownTime, log: log)
    }

    private func volume(_ metadata: JSONObject = [:]) async throws -> String {
        let id = try await database.write { [requests, caller] tx in
            var new = NewVolume()
            new.size = 1
            new.metadata = metadata
            return try requests.create(new, caller: caller, in: tx)
        }
        try await database.write { tx in
            guard let volume = try Volumes.lock(id, in: tx) else { return }
            try Volumes.place(volume, host: "h@b#p", serviceID: nil, zone: "nova", in: tx)
            try Volumes.setStatus(.available, of: volume, in: tx)
        }
        try await settle()
        return id
    }

    /// Ends what was begun: new copies are there, deleted ones are gone, what was cancelled had no effect. `fails`: backups of these volumes
    /// fail.
    private func settle(failing fails: Set<String> = [], damaged: Set<String> = [], format: String = "cinder") async throws {
        for operation in try await database.read({ try Operations.runnable(in: $0) }) {
            try await database.write { tx in
                if operation.isCancelled { return try Operations.finish(operation, state: .failed, error: "cancelled", in: tx) }
                if let backup = try Backups.lock(operation.resourceID, in: tx) {
                    switch operation.flow.name {
                    case "backup.create" where fails.contains(backup.volumeID):
                        try Backups.setStatus(.error, of: backup, failReason: "the store is on fire", in: tx)
                    case "backup.create":
                        try Backups.place(
                            backup, at: Backups.Place(store: "store", format: format, service: "service", host: "node"), in: tx)
                        try Backups.made(backup, objectCount: 1, in: tx)
                    case "backup.delete": try Backups.remove(backup, in: tx)
                    case "backup.verify":
                        try Backups.verified(backup, damaged.contains(backup.id) ? [BackupDamage("object 7 is gone")] : [], in: tx)
                    default: break
                    }
                }
                try Operations.finish(operation, state: .done, error: nil, in: tx)
            }
        }
    }

    private func policy(_ name: String, _ change: @Sendable (inout BackupPolicySettings) -> Void = { _ in }) async throws -> String {
        var settings = BackupPolicySettings()
        settings.name = name
        change(&settings)
        let asked = settings
        return try await database.write { [caller] in try BackupPolicies.create(asked, caller: caller, in: $0).id }
    }

    private func find(_ id: String) throws -> BackupPolicy {
        try #require(try database.readBlocking { try BackupPolicies.find(id, in: $0) })
    }

    private func run(_ policy: String) async throws -> BackupPolicyRun {
        try await database.write { [caller] in try BackupPolicyRuns.begin(policy, caller: caller, in: $0) }
    }

    private func runs(of policy: String) throws -> [BackupPolicyRun] {
        var query = BackupPolicyRunQuery(projectID: nil, limit: 100)
        query.policyID = policy
        return try database.readBlocking { [query] in try query.page(in: $0) }
    }

    private func items(_ run: String) throws -> [BackupPolicyItem] {
        try database.readBlocking { try BackupPolicyRuns.items(of: run, limit: 100, in: $0) }
    }

    private static let backupsSQL = SQL("SELECT id, volume_id, policy_id FROM backups ORDER BY created_at, id")
    private func backups() throws -> [(id: String, volume: String, policy: String?)] {
        try database.readBlocking { try $0.rows(Self.backupsSQL) { ($0.text(0), $0.text(1), $0.optionalText(2)) } }
    }

    /// Looks and settles until no run is going on.
    private func finishAll(failing fails: Set<String> = [], format: String = "cinder") async throws {
        for _ in 0..<100 {
            guard try await scheduler.lookOnce() else { return }
            try await settle(failing: fails, format: format)
        }
        Issue.record("a run does not end")
    }

    private static let nextSQL = SQL("UPDATE backup_policies SET next_run_at = ?, next_occurrence_at = ? WHERE id = ?")
    /// As if the schedule had been looked at long ago: the next run is due since then.
    private func setNext(_ seconds: Double, of policy: String) async throws {
        let time = Timestamp.format(seconds: Int(Timestamp.seconds() + seconds) / 60 * 60, microseconds: 0)
        try await database.write { _ = try $0.run(Self.nextSQL, .text(time), .text(time), .text(policy)) }
    }

    @Test("a run makes one backup of every volume that has the policy, no more at a time than it may, and tells how it went")
    func wholeRun() async throws {
        for _ in 0..<3 { _ = try await volume(["backup_policy": "gold"]) }
        _ = try await volume()
        let id = try await policy("gold") { $0.maxParallel = 2 }
        let run = try await run(id)
        _ = try await scheduler.lookOnce()
        #expect(try backups().count == 2)
        // Nothing more is begun, however often it looks and whoever does.
        _ = try await scheduler.lookOnce()
        _ = try await restarted().lookOnce()
        #expect(try backups().count == 2)
        try await finishAll()
        #expect(try backups().count == 3 && Set(try backups().map(\.volume)).count == 3)
        #expect(try backups().allSatisfy { $0.policy == id })
        #expect(try items(run.id).allSatisfy { $0.status == .done && $0.copyID != nil })
        let ended = try #require(try runs(of: id).first)
        #expect(ended.status == .success && ended.finishedAt != nil)
        #expect(try find(id).lastStatus == "success")
    }

    @Test("a request that is refused and a backup that fails are items of the run with their messages, and the others are made")
    func partial() async throws {
        let (good, bad, busy) = (
            try await volume(["backup_policy": "gold"]), try await volume(["backup_policy": "gold"]),
            try await volume(["backup_policy": "gold"])
        )
        try await database.write { tx in
            if let volume = try Volumes.lock(busy, in: tx) { try Volumes.setStatus(.error, of: volume, in: tx) }
        }
        let id = try await policy("gold")
        let run = try await run(id)
        try await finishAll(failing: [bad])
        let items = Dictionary(uniqueKeysWithValues: try items(run.id).map { ($0.volumeID, $0) })
        #expect(items[good]?.status == .done)
        #expect(items[bad]?.status == .failed && items[bad]?.message == "the store is on fire")
        #expect(
            items[busy]?.message
                == "Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"error\".")
        #expect(try runs(of: id).first?.status == .partial)
    }

    @Test("a quota that is full fails the items behind it, and nothing of them stays")
    func quota() async throws {
        for _ in 0..<14 { _ = try await volume(["backup_policy": "gold"]) }
        let id = try await policy("gold") { $0.maxParallel = 100 }
        let run = try await run(id)
        try await finishAll()
        let failed = try items(run.id).filter { $0.status == .failed }
        #expect(failed.count == 2 && failed.allSatisfy { $0.message?.contains("Maximum number of backups allowed (12) exceeded") == true })
        #expect(try backups().count == 12)
    }

    @Test("older backups are deleted after a run, chains as a whole and the newest first")
    func retention() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") {
            $0.keepLast = 2
            $0.fullEvery = 2
        }
        var most = 0
        for _ in 0..<7 {
            _ = try await run(id)
            try await finishAll()
            most = max(most, try backups().count)
        }
        // Chains of two, and one of them that is being made.
        let left = try backups().count
        #expect(most <= 4 && (2...3).contains(left), "\(most), \(left)")
        #expect(try runs(of: id).allSatisfy { $0.status == .success })
        let incremental = try database.readBlocking { try $0.rows(SQL("SELECT parent_id FROM backups")) { $0.optionalText(0) } }
        #expect(incremental.contains { $0 != nil })
    }

    @Test("what somebody else made of the volume stays, and a failed newest backup keeps all others")
    func keptBackups() async throws {
        let volume = try await volume(["backup_policy": "gold"])
        let own = try await database.write { [requests, caller] in
            try requests.createBackup(of: volume, NewBackup(), downAfter: Self.serviceDownTime, caller: caller, in: $0)
        }
        try await settle()
        let id = try await policy("gold") { ($0.keepLast, $0.incremental) = (1, .never) }
        for _ in 0..<3 {
            _ = try await run(id)
            try await finishAll()
        }
        #expect(try backups().count == 2 && backups().contains { $0.id == own })
        _ = try await run(id)
        try await finishAll(failing: [volume])
        #expect(try backups().count == 3)
        _ = try await run(id)
        try await finishAll()
        #expect(try backups().count == 2)
    }

    @Test("a run that was due while nobody was there is made once and tells how many were missed")
    func missedOnce() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.schedule = "0 * * * *" }
        try await setNext(-60 * 86_400, of: id)
        try await finishAll()
        let runs = try runs(of: id)
        #expect(runs.count == 1 && runs[0].status == .success)
        #expect(runs[0].message?.hasPrefix("more than 1001 runs were missed from ") == true, "\(runs[0].message ?? "")")
        #expect(try backups().count == 1)
        #expect(try #require(try find(id).nextRunAt) > Timestamp.now())
        // Looked at again, also by another process: not once more.
        _ = try await restarted().lookOnce()
        #expect(try self.runs(of: id).count == 1)
    }

    @Test("where missed runs are skipped they are told, and none is made")
    func missedSkipped() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.schedule, $0.missed) = ("0 3 1 1 *", .skip) }
        try await setNext(-3600, of: id)
        try await finishAll()
        #expect(try runs(of: id).map(\.status) == [.missed])
        #expect(try runs(of: id).first?.message?.hasPrefix("1 run was missed from ") == true)
        #expect(try backups().isEmpty && find(id).lastStatus == "missed")
    }

    @Test("a run whose time comes while the one before it goes on is told and not begun")
    func overlapping() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.schedule = "0 3 1 1 *" }
        _ = try await run(id)
        _ = try await scheduler.lookOnce()
        try await setNext(-10, of: id)
        _ = try await scheduler.lookOnce()
        #expect(try runs(of: id).map(\.status).contains(.skipped))
        try await finishAll()
        #expect(try backups().count == 1)
    }

    @Test("a time that a run was for is not run again when the clock is set back, and times without a run are not lost")
    func clockSetBack() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.schedule = "* * * * *" }
        // As a clock that was a day ahead has left it: a run for the next minute, and the next one planned for tomorrow.
        let planned = try #require(try find(id).nextOccurrenceAt)
        _ = try await database.write { tx in
            try tx.run(
                text: "INSERT INTO backup_policy_runs (id, policy_id, occurrence_at, status, request_id, created_at, finished_at) "
                    + "VALUES ('r', ?, ?, 'success', 'req', ?, ?)", [.text(id), .text(planned), .text(tx.now), .text(tx.now)])
        }
        try await setNext(86_400, of: id)
        _ = try await restarted().lookOnce()
        let next = try #require(try find(id).nextOccurrenceAt)
        #expect(next > planned)
        let (first, second) = (try #require(Timestamp.parse(planned)), try #require(Timestamp.parse(next)))
        #expect((60...120).contains(second - first))
    }

    @Test("a policy that is paused begins nothing more, in a run that goes on too, and resumes behind now")
    func pause() async throws {
        for _ in 0..<2 { _ = try await volume(["backup_policy": "gold"]) }
        let id = try await policy("gold") { ($0.maxParallel, $0.schedule) = (1, "0 3 1 1 *") }
        let run = try await run(id)
        _ = try await scheduler.lookOnce()
        try await database.write { [caller] in try BackupPolicies.setEnabled(false, of: id, caller: caller, in: $0) }
        #expect(try find(id).nextRunAt == nil)
        try await finishAll()
        #expect(try items(run.id).map(\.status.rawValue).sorted() == ["done", "skipped"])
        #expect(try runs(of: id).first?.status == .partial)
        await #expect(throws: StorageError(.conflict, "Backup policy \(id) is paused: it is run again when it was resumed.")) {
            _ = try await self.run(id)
        }
        try await database.write { [caller] in try BackupPolicies.setEnabled(true, of: id, caller: caller, in: $0) }
        #expect(try #require(try find(id).nextRunAt) > Timestamp.now())
    }

    @Test("a volume that is gone when its turn comes is skipped, and one that was given away is not touched")
    func goneVolume() async throws {
        let (first, second) = (try await volume(["backup_policy": "gold"]), try await volume(["backup_policy": "gold"]))
        let id = try await policy("gold")
        let run = try await run(id)
        let prepared = try await database.read { try BackupPolicyRuns.volumes(of: run, in: $0) }
        try await database.write { tx in
            try BackupPolicyRuns.prepare(run, try #require(prepared), in: tx)
            if let volume = try Volumes.lock(first, in: tx) { try Volumes.erase(volume, in: tx) }
            try tx.run(text: "UPDATE volumes SET project_id = 'other' WHERE id = ?", [.text(second)])
        }
        try await finishAll()
        #expect(try items(run.id).allSatisfy { $0.status == .skipped && $0.message?.hasSuffix("could not be found.") == true })
        #expect(try backups().isEmpty && runs(of: id).first?.status == .skipped)
    }

    @Test("while the service that keeps backups is not up, a run waits for it")
    func serviceAway() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold")
        _ = try await database.write { try $0.run(text: "UPDATE services SET updated_at = '2020-01-01T00:00:00.000000'", []) }
        let run = try await run(id)
        for _ in 0..<3 { #expect(try await scheduler.lookOnce()) }
        #expect(try items(run.id).map(\.status) == [.pending])
        try await database.write {
            try Services.beat(binary: "cinder-backup", host: "node", zone: "nova", backendState: "up", in: $0)
        }
        try await finishAll()
        #expect(try items(run.id).map(\.status) == [.done])
    }

    @Test("snapshots are made and deleted the same way")
    func snapshots() async throws {
        let volume = try await volume(["backup_policy": "often"])
        let id = try await policy("often") { ($0.action, $0.keepLast) = (.snapshot, 2) }
        for _ in 0..<4 {
            let run = try await run(id)
            for _ in 0..<20 where try items(run.id).contains(where: { ![.done, .failed].contains($0.status) }) || items(run.id).isEmpty {
                _ = try await scheduler.lookOnce()
                for snapshot in try await database.read({ try Snapshots.ofVolume(volume, in: $0) }) {
                    try await database.write { tx in
                        guard let locked = try Snapshots.lock(snapshot.id, in: tx) else { return }
                        if snapshot.status == .creating { try Snapshots.made(locked, driverData: nil, in: tx) }
                        if snapshot.status == .deleting { try Snapshots.remove(locked, chargesGigabytes: true, in: tx) }
                    }
                }
                try await settle()
            }
        }
        let left = try database.readBlocking { try Snapshots.ofVolume(volume, in: $0) }
        #expect(left.filter { $0.status == .available }.count == 2 && left.allSatisfy { $0.policyID == id })
    }

    /// Makes a run, and looks at it twice before anything that it began has ended.
    private func runSlowly(_ policy: String, format: String = "cinder") async throws {
        _ = try await run(policy)
        for _ in 0..<100 {
            guard try await scheduler.lookOnce() else { return }
            _ = try await scheduler.lookOnce()
            try await settle(format: format)
        }
        Issue.record("a run does not end")
    }

    @Test("a chain that is kept no longer goes in one run, though each deletion takes its time")
    func wholeChain() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.keepLast, $0.fullEvery) = (1, 4) }
        for _ in 0..<4 { try await runSlowly(id) }
        #expect(try backups().count == 4)
        try await runSlowly(id)
        // The last deletion is waited for by nobody.
        try await settle()
        #expect(try backups().count == 1)
        #expect(try runs(of: id).allSatisfy { $0.status == .success && $0.message == nil })
    }

    @Test("in a repository a backup goes without those that were made on top of it, and nothing needs to be made anew")
    func anyOfRepository() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.keepLast = 2 }
        for number in 1...5 {
            try await runSlowly(id, format: "repository")
            try await settle()
            #expect(try backups().count == min(number, 2))
        }
        let parents = try database.readBlocking { try $0.rows(SQL("SELECT parent_id FROM backups")) { $0.optionalText(0) } }
        #expect(parents.allSatisfy { $0 != nil })
        // They are read without what is gone.
        for backup in try backups() {
            let chain = try database.readBlocking { try Backups.chain(backup.id, in: $0) }
            #expect(chain.last?.id == backup.id && (1...2).contains(chain.count) && chain.allSatisfy(\.standsAlone))
        }
    }

    @Test("an increment that failed before it had a store goes after the next good one, though the chain that it was to go on with is kept")
    func failedIncrement() async throws {
        let volume = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.keepLast, $0.incremental) = (5, .always) }
        _ = try await run(id)
        try await finishAll()
        _ = try await run(id)
        try await finishAll(failing: [volume])
        let failed = try #require(try backups().last?.id)
        #expect(try database.readBlocking { try Backups.find(failed, in: $0)?.parentID } == backups().first?.id)
        _ = try await run(id)
        try await finishAll()
        try await settle()
        #expect(try backups().count == 2 && !backups().map(\.id).contains(failed))
        #expect(try runs(of: id).map(\.message) == [nil, nil, nil])
    }

    @Test("an increment of a user's that failed before it had a store keeps no chain, and does not keep its parent from being deleted")
    func failedIncrementOfUser() async throws {
        let volume = try await volume()
        func backup(failing: Set<String> = [], incremental: Bool) async throws -> String {
            let id = try await database.write { [requests, caller] tx in
                var new = NewBackup()
                new.isIncremental = incremental
                return try requests.createBackup(of: volume, new, downAfter: 60, caller: caller, in: tx)
            }
            try await settle(failing: failing)
            return id
        }
        let full = try await backup(incremental: false)
        let failed = try await backup(failing: [volume], incremental: true)
        let found = try #require(try database.readBlocking { try Backups.find(failed, in: $0) })
        #expect(found.status == .error && found.parentID == full && found.format == nil)
        #expect(try database.readBlocking { try Backups.find(full, in: $0)?.hasDependents } == false)
        // One that is there counts.
        let good = try await backup(incremental: true)
        #expect(try database.readBlocking { try Backups.find(full, in: $0)?.hasDependents } == true)
        for id in [good, full, failed] {
            try await database.write { [requests, caller] in try requests.deleteBackup(id, force: false, caller: caller, in: $0) }
            try await settle()
        }
        #expect(try backups().isEmpty)
    }

    @Test("a copy that was found to be kept no longer is looked at again before it is deleted")
    func changedMeanwhile() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.keepLast, $0.incremental) = (2, .never) }
        for _ in 0..<2 {
            _ = try await run(id)
            try await finishAll()
        }
        func keep(_ count: Int) async throws {
            _ = try await database.write { [caller] in try BackupPolicies.update(id, caller: caller, in: $0) { $0.keepLast = count } }
        }
        try await keep(1)
        let run = try #require(try runs(of: id).first)
        let item = try #require(try items(run.id).first)
        let expired = try await database.read { [requests] in try requests.expired(after: item, of: run, in: $0) }
        #expect(expired.count == 1)
        try await keep(5)
        for copy in expired { try await database.write { [requests] in try requests.delete(copy.id, after: item, of: run, in: $0) } }
        let statuses = try database.readBlocking { try $0.rows(SQL("SELECT status FROM backups")) { $0.text(0) } }
        #expect(statuses == ["available", "available"])
    }

    @Test("runs that are too many go, the oldest first: of a policy, of a project, and of how many volumes they tell")
    func excess() async throws {
        let (first, second) = (try await policy("first"), try await policy("second"))
        let insert = SQL(
            "INSERT INTO backup_policy_runs (id, policy_id, occurrence_at, status, volumes, request_id, created_at, finished_at) "
                + "VALUES (?, ?, ?, 'success', 3, 'req', ?, ?)")
        let insertItem = SQL(
            "INSERT INTO backup_policy_items (run_id, volume_id, project_id, status, updated_at) VALUES (?, ?, 'p', 'done', 'now')")
        for (policy, count) in [(first, 150), (second, 60)] {
            try await database.write { [caller] tx in
                for number in 1000..<1000 + count {
                    let (run, time) = ("\(policy) \(number)", "2026-01-01T00:00:00.00\(number)")
                    _ = try tx.run(insert, .text(run), .text(policy), .text(time), .text(time), .text(time))
                    for volume in 0..<3 { _ = try tx.run(insertItem, .text(run), .text("v\(volume)")) }
                }
                try BackupPolicies.append(
                    "backup_policy.test", try #require(try BackupPolicies.find(policy, in: tx)), caller: caller, in: tx)
            }
        }
        func counts() throws -> [Int] {
            try [first, second].map { id in
                try database.readBlocking {
                    try $0.rows(SQL("SELECT count(*) FROM backup_policy_runs WHERE policy_id = ?"), .text(id)) { $0.int(0) }[0]
                }
            }
        }
        func apply(_ options: String) async throws {
            await HistoryRetention(database: database, settings: try Settings(text: "[DEFAULT]\n" + options), log: log).apply()
        }
        // Younger than what the days of history say.
        let days = "operation_retention_days = 3650\n"
        try await apply(days + "backup_policy_run_limit = 100")
        #expect(try counts() == [90, 60])
        #expect(try runs(of: first).first?.id == "\(first) 1149")
        try await apply(days + "backup_policy_run_limit_per_project = 120")
        // The oldest of the project's, whichever policy's.
        #expect(try counts().reduce(0, +) == 108)
        try await apply(days + "backup_policy_item_limit_per_project = 1000\nbackup_policy_run_limit_per_project = 100")
        #expect(try counts().reduce(0, +) == 90)
        let items = try database.readBlocking { try $0.rows(SQL("SELECT count(*) FROM backup_policy_items")) { $0.int(0) } }
        #expect(items == [270])
    }

    @Test("a policy with a long past is deleted in steps, and begins nothing meanwhile")
    func stepwiseDeletion() async throws {
        let id = try await policy("gold") { $0.schedule = "* * * * *" }
        let insert = SQL(
            "INSERT INTO backup_policy_items (run_id, volume_id, project_id, status, updated_at) VALUES (?, ?, 'p', 'done', 'now')")
        let run = try await run(id)
        try await database.write { tx in
            for number in 0..<12_000 { _ = try tx.run(insert, .text(run.id), .text("v\(number)")) }
        }
        func step() async throws -> Bool { try await database.write { [caller] in try BackupPolicies.delete(id, caller: caller, in: $0) } }
        #expect(try await !step())
        #expect(try !find(id).settings.enabled && find(id).nextRunAt == nil)
        var steps = 1
        while try await !step() { steps += 1 }
        #expect(steps == 3)
        #expect(try database.readBlocking { try BackupPolicies.find(id, in: $0) } == nil)
        #expect(try database.readBlocking { try $0.rows(SQL("SELECT count(*) FROM backup_policy_items")) { $0.int(0) } } == [0])
    }

    // MARK: verification and protection

    @Test(
        "where copies are verified when they were made, a damaged one fails its item, and nothing older is deleted for it",
        arguments: [false, true])
    func verifiedAfter(isDamaged: Bool) async throws {
        let volume = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.verifyAfter, $0.keepLast, $0.incremental) = (true, 1, .never) }
        _ = try await run(id)
        try await finishAll()
        let old = try #require(try backups().first?.id)
        #expect(try database.readBlocking { try Backups.find(old, in: $0)?.verifyStatus } == .good)
        let run = try await run(id)
        for _ in 0..<100 {
            guard try await scheduler.lookOnce() else { break }
            try await settle(damaged: isDamaged ? Set(try backups().map(\.id)) : [])
        }
        let item = try #require(try items(run.id).first { $0.volumeID == volume })
        #expect(item.status == (isDamaged ? .failed : .done))
        #expect(item.message == (isDamaged ? "made, but its verification found: object 7 is gone" : nil))
        try await settle()
        #expect(try backups().map(\.id).contains(old) == isDamaged)
    }

    @Test("no more of a project's copies are verified at once than anybody's, and all are in the end")
    func manyVerified() async throws {
        for _ in 0..<5 { _ = try await volume(["backup_policy": "gold"]) }
        let id = try await policy("gold") { ($0.verifyAfter, $0.maxParallel) = (true, 10) }
        _ = try await run(id)
        for _ in 0..<100 {
            guard try await scheduler.lookOnce() else { break }
            let verifying = try await database.read { try Operations.runnable(in: $0).count { $0.flow.name == "backup.verify" } }
            #expect(verifying <= 2)
            try await settle()
        }
        #expect(try runs(of: id).first?.status == .success)
        #expect(
            try database.readBlocking { try $0.rows(SQL("SELECT count(*) FROM backups WHERE verify_status = 'good'")) { $0.int(0) } } == [5]
        )
    }

    private func verifications() throws -> [BlockStorage.Operation] {
        try database.readBlocking { try Operations.runnable(in: $0).filter { $0.flow.name == "backup.verify" } }
    }

    private func setStatus(_ status: BackupStatus, of backup: String) async throws {
        try await database.write { if let locked = try Backups.lock(backup, in: $0) { try Backups.setStatus(status, of: locked, in: $0) } }
    }

    /// A run whose only copy is to be verified next.
    private func madeToVerify() async throws -> (run: BackupPolicyRun, policy: String, backup: String) {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.verifyAfter = true }
        let run = try await run(id)
        _ = try await scheduler.lookOnce()
        try await settle()
        _ = try await scheduler.lookOnce()
        #expect(try items(run.id).map(\.status) == [.verifying])
        return (run, id, try #require(try backups().first?.id))
    }

    @Test("a restoration does not wait for a verification that a policy began, which is begun again when the restoration has ended")
    func restoredWhileVerified() async throws {
        let target = try await volume()
        let (run, _, backup) = try await madeToVerify()
        _ = try await scheduler.lookOnce()
        #expect(try verifications().map(\.isCancelled) == [false])
        try await database.write { [requests, caller] in
            _ = try requests.restore(backup, to: target, name: nil, downAfter: Self.serviceDownTime, caller: caller, in: $0)
        }
        _ = try await scheduler.lookOnce()
        #expect(try verifications().map(\.isCancelled) == [true])
        // The verification ends, and then the restoration.
        try await settle()
        #expect(try verifications().isEmpty)
        _ = try await scheduler.lookOnce()
        #expect(try verifications().isEmpty && items(run.id).map(\.status) == [.verifying])
        try await settle()
        try await setStatus(.available, of: backup)
        _ = try await scheduler.lookOnce()
        #expect(try verifications().map(\.isCancelled) == [false])
        try await finishAll()
        #expect(try items(run.id).map(\.status) == [.done])
    }

    @Test("a verification that somebody asked for is left to him, though a restoration waits for it")
    func restoredWhileVerifiedByOthers() async throws {
        let target = try await volume()
        let (_, _, backup) = try await madeToVerify()
        try await database.write { [requests, caller] in
            try requests.verifyBackup(backup, caller: caller, in: $0)
        }
        try await database.write { [requests, caller] in
            _ = try requests.restore(backup, to: target, name: nil, downAfter: Self.serviceDownTime, caller: caller, in: $0)
        }
        _ = try await scheduler.lookOnce()
        #expect(try verifications().map(\.isCancelled) == [false])
    }

    @Test("a backup that is being restored when its verification should begin is verified afterwards")
    func verifiedAfterRestoration() async throws {
        let (run, _, backup) = try await madeToVerify()
        try await setStatus(.restoring, of: backup)
        for _ in 0..<2 { #expect(try await scheduler.lookOnce()) }
        // Also where the restoration began a moment after the look.
        let item = try #require(try items(run.id).first)
        try await database.write { [requests] in try requests.beginVerification(of: item, of: run, in: $0) }
        #expect(try items(run.id).map(\.status) == [.verifying] && verifications().isEmpty)
        try await setStatus(.available, of: backup)
        try await finishAll()
        #expect(try items(run.id).map(\.status) == [.done])
    }

    @Test("a verification that failed fails its item, whatever else was done about the backup since")
    func failedVerification() async throws {
        let (run, _, backup) = try await madeToVerify()
        _ = try await scheduler.lookOnce()
        let verification = try #require(try verifications().first)
        try await database.write { tx in
            try Operations.finish(verification, state: .failed, error: "the store is on fire", in: tx)
            _ = try Operations.create(
                RemoveBackupSnapshotArguments(volumeID: "v", snapshotID: "s", data: nil), resourceType: "backup", resourceID: backup,
                projectID: "p", caller: .service(requestID: "req"), claims: [.exclusive(new: "s")], in: tx)
        }
        _ = try await scheduler.lookOnce()
        #expect(try items(run.id).map(\.message) == ["made, but it could not be verified: the store is on fire"])
        #expect(try verifications().isEmpty)
    }

    @Test("copies that are verified keep no others waiting")
    func madeWhileVerified() async throws {
        for _ in 0..<3 { _ = try await volume(["backup_policy": "gold"]) }
        let id = try await policy("gold") { ($0.verifyAfter, $0.maxParallel) = (true, 1) }
        let run = try await run(id)
        for made in 1...3 {
            // Begun, made, and begun to be verified; nothing of that ends here.
            for _ in 0..<3 { _ = try await scheduler.lookOnce() }
            #expect(try backups().count == made)
            for backup in try backups() {
                try await database.write { tx in
                    if let backup = try Backups.lock(backup.id, in: tx), backup.status == .creating {
                        try Backups.made(backup, objectCount: 1, in: tx)
                    }
                }
            }
        }
        for _ in 0..<2 { _ = try await scheduler.lookOnce() }
        #expect(try items(run.id).map(\.status) == [.verifying, .verifying, .verifying])
        try await finishAll()
        #expect(try items(run.id).map(\.status) == [.done, .done, .done])
    }

    @Test("a run waits for verifications no longer than until the next day's, but for each one a while")
    func slowVerification() async throws {
        let (run, policy, backup) = try await madeToVerify()
        _ = try await scheduler.lookOnce()
        func make(_ table: String, _ member: String, hoursOld: Double) async throws {
            let time = Timestamp.format(Timestamp.seconds() - hoursOld * 3600)
            _ = try await database.write { try $0.run(text: "UPDATE \(table) SET \(member) = ?", [.text(time)]) }
        }
        try await make("backup_policy_runs", "created_at", hoursOld: 22)
        #expect(try await scheduler.lookOnce())
        try await make("backup_policy_runs", "created_at", hoursOld: 24)
        #expect(try await scheduler.lookOnce())
        #expect(try items(run.id).map(\.status) == [.verifying])
        try await make("backup_policy_items", "updated_at", hoursOld: 2)
        _ = try await scheduler.lookOnce()
        #expect(try items(run.id).map(\.message) == ["made; the run has not waited any longer for its verification."])
        #expect(try await !scheduler.lookOnce())
        #expect(try runs(of: policy).map(\.status) == [.failed])
        // It goes on, and tells of the backup what it finds.
        try await settle()
        #expect(try database.readBlocking { try Backups.find(backup, in: $0)?.verifyStatus } == .good)
    }

    @Test("a run waits no longer than until the next day's for older copies to be gone")
    func slowDeletion() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.keepLast, $0.fullEvery) = (1, 3) }
        for _ in 0..<3 { try await runSlowly(id) }
        let run = try await run(id)
        _ = try await scheduler.lookOnce()
        try await settle()
        // The newest of the old chain is being deleted, and is not gone.
        for _ in 0..<3 { #expect(try await scheduler.lookOnce()) }
        #expect(try items(run.id).map(\.status) == [.retaining])
        let time = Timestamp.format(Timestamp.seconds() - 86_400)
        _ = try await database.write {
            try $0.run(text: "UPDATE backup_policy_runs SET created_at = ? WHERE id = ?", [.text(time), .text(run.id)])
        }
        _ = try await scheduler.lookOnce()
        #expect(try items(run.id).map(\.status) == [.done])
        #expect(try items(run.id).first?.message?.hasPrefix("made; not all older copies were deleted: ") == true)
    }

    @Test("a verification that goes on is looked at without a change of the database")
    func readOnlyLooks() async throws {
        let (_, _, _) = try await madeToVerify()
        _ = try await scheduler.lookOnce()
        let observed = ObservedDatabase(database)
        let scheduler = BackupPolicyScheduler(database: observed, requests: requests, serviceDownTime: Self.serviceDownTime, log: log)
        _ = try await scheduler.lookOnce()
        let before = observed.writes
        for _ in 0..<5 { #expect(try await scheduler.lookOnce()) }
        #expect(observed.writes == before)
    }

    @Test(
        "what was verified too long ago is verified again, the longest ago first; a policy that is paused, and its closed window, begin nothing"
    )
    func verifiedEvery() async throws {
        let volume = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.verifyEvery, $0.incremental) = ("P7D", .never) }
        for _ in 0..<4 {
            _ = try await run(id)
            try await finishAll()
        }
        let verifications = PolicyVerifications(database: database, requests: requests, log: log)
        func going() async throws -> [String] {
            try await database.read { try Operations.runnable(in: $0).filter { $0.flow.name == "backup.verify" }.map(\.resourceID) }
        }
        await verifications.begin(isDue: true)
        #expect(try await going().isEmpty, "they are new")
        let ids = try backups().map(\.id)
        for (index, days) in [20.0, 30, 10, 1].enumerated() {
            let time = Timestamp.format(Timestamp.seconds() - days * 86_400)
            _ = try await database.write {
                try $0.run(text: "UPDATE backups SET created_at = ? WHERE id = ?", [.text(time), .text(ids[index])])
            }
        }
        try await database.write { [caller] in try BackupPolicies.setEnabled(false, of: id, caller: caller, in: $0) }
        await verifications.begin(isDue: true)
        #expect(try await going().isEmpty)
        try await database.write { [caller] in try BackupPolicies.setEnabled(true, of: id, caller: caller, in: $0) }
        await verifications.begin(isDue: true)
        #expect(try await Set(going()) == [ids[0], ids[1]])
        try await settle()
        await verifications.begin(isDue: true)
        #expect(try await going() == [ids[2]])
        try await settle()
        await verifications.begin(isDue: true)
        #expect(try await going().isEmpty)
        _ = volume
    }

    @Test("a project with many backups that are to be verified again keeps no other one waiting")
    func verifiedForEveryProject() async throws {
        let volume = try await volume()
        let id = try await policy("gold") { $0.verifyEvery = "P7D" }
        let requests = VolumeRequests(try Settings(text: "[DEFAULT]\nquota_backups = -1\nquota_backup_gigabytes = -1\n"))
        for _ in 0..<25 {
            _ = try await database.write { [caller] tx in
                var new = NewBackup()
                new.policyID = id
                return try requests.createBackup(of: volume, new, downAfter: Self.serviceDownTime, caller: caller, in: tx)
            }
        }
        try await settle()
        let ids = try backups().map(\.id)
        let last = try #require(ids.last)
        _ = try await database.write { tx in
            try tx.run(text: "UPDATE backups SET created_at = '2020'", [])
            // Of another project, and the one whose turn comes last.
            return try tx.run(text: "UPDATE backups SET project_id = 'q', created_at = '2021' WHERE id = ?", [.text(last)])
        }
        let scheduled = PolicyVerifications(database: database, requests: requests, log: log)
        await scheduled.begin(isDue: true)
        #expect(try Dictionary(grouping: verifications(), by: \.projectID).mapValues(\.count) == ["p": 2, "q": 1])
        // All have their turn, each once.
        var verified: [String] = []
        for _ in 0..<20 {
            verified += try verifications().map(\.resourceID)
            try await settle()
            await scheduled.begin(isDue: true)
        }
        #expect(verified.count == 25 && Set(verified) == Set(ids))
    }

    @Test("a protected copy is deleted by nobody before its time, by its policy neither")
    func protected() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.protectDays, $0.keepLast, $0.incremental) = (3, 1, .never) }
        for _ in 0..<3 {
            _ = try await run(id)
            try await finishAll()
        }
        #expect(try backups().count == 3)
        let oldest = try #require(try backups().first?.id)
        let until = try #require(try database.readBlocking { try Backups.find(oldest, in: $0)?.protectedUntil })
        let admin = Caller(userID: "a", projectID: "a", isAdmin: true, requestID: "req-admin")
        for status in [BackupStatus.available, .error] {
            try await database.write { tx in
                if let backup = try Backups.lock(oldest, in: tx) { try Backups.setStatus(status, of: backup, in: tx) }
            }
            for (caller, force) in [(caller, false), (admin, true)] {
                await #expect(throws: StorageError.invalidBackup("Backup is protected until \(until.prefix(19)) UTC.")) {
                    try await database.write { [requests] in try requests.deleteBackup(oldest, force: force, caller: caller, in: $0) }
                }
            }
        }
        _ = try await database.write { try $0.run(text: "UPDATE backups SET protected_until = '2020', status = 'available'", []) }
        _ = try await run(id)
        try await finishAll()
        try await settle()
        // The one just made is protected, and kept.
        #expect(try backups().count == 1)
    }

    @Test("a preview tells of no deletion of what is protected then")
    func previewOfProtected() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.schedule, $0.keepLast, $0.incremental, $0.protectDays) = ("0 3 * * *", 1, .never, 3) }
        let preview = try await database.read { [caller] in try Self.preview(id, days: 10, caller: caller, in: $0) }
        #expect(preview.runs.count == 10)
        for deletion in preview.deletions {
            let (made, gone) = (try #require(Timestamp.parse(deletion.madeAt)), try #require(Timestamp.parse(deletion.at)))
            #expect(gone - made >= 3 * 86_400)
        }
        #expect(preview.deletions.count == 7)
    }

    private static func preview(_ id: String, days: Int, format: String = "cinder", caller: Caller, in connection: any Connection) throws
        -> PolicyPreview
    {
        try PolicyPreview(id, days: days, mostProtectDays: 36_500, format: { _ in format }, caller: caller, in: connection)
    }

    @Test(
        "a preview of a policy without any backup knows whether increments will rest on one another", arguments: ["cinder", "repository"])
    func previewOfNothing(format: String) async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { ($0.schedule, $0.keepLast, $0.incremental) = ("0 3 * * *", 3, .always) }
        let preview = try await database.read { [caller] in try Self.preview(id, days: 10, format: format, caller: caller, in: $0) }
        // A chain is kept whole as long as one of it is.
        #expect(preview.deletions.count == (format == "repository" ? 7 : 0))
    }

    @Test("a policy that is older than the limit of days of protection protects for as long as is permitted, and who administers ends it")
    func limitOfProtection() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let id = try await policy("gold") { $0.protectDays = 30 }
        let limited = VolumeRequests(try Settings(text: "[DEFAULT]\nbackup_policy_max_protect_days = 2\n"))
        #expect(limited.mostProtectDays == 2)
        let scheduler = BackupPolicyScheduler(database: database, requests: limited, serviceDownTime: 60, log: log)
        _ = try await run(id)
        while try await scheduler.lookOnce() { try await settle() }
        let made = try #require(try backups().first?.id)
        let until = try #require(try database.readBlocking { try Backups.find(made, in: $0)?.protectedUntil.flatMap(Timestamp.parse) })
        #expect((86_400...2 * 86_400).contains(until - Timestamp.seconds()))
        let admin = Caller(userID: "a", projectID: "p", isAdmin: true, requestID: "req-admin")
        try await database.write { try Backups.unprotect(made, caller: admin, in: $0) }
        try await database.write { [requests, caller] in try requests.deleteBackup(made, force: false, caller: caller, in: $0) }
        try await settle()
        #expect(try backups().isEmpty)
    }

    @Test("copies of a run share the policy's bandwidth, and have names that a user could give")
    func limits() async throws {
        _ = try await volume(["backup_policy": "gold"])
        let name = String(repeating: "n", count: 250)
        let id = try await policy(name) { ($0.maxBytesPerSecond, $0.maxParallel) = (1_000_000, 4) }
        let run = try await run(id)
        try await database.write { tx in
            let volume = try #require(try tx.rows(SQL("SELECT id FROM volumes")) { $0.text(0) }.first)
            _ = try tx.run(
                text:
                    "INSERT INTO backup_policy_items (run_id, volume_id, project_id, status, updated_at) VALUES (?, ?, 'p', 'pending', 'now')",
                [.text(run.id), .text(volume)])
            try tx.run(text: "UPDATE backup_policy_runs SET status = 'running'", [])
        }
        try await finishAll()
        let made = try #require(try backups().first?.id)
        try database.readBlocking {
            let backup = try #require(try Backups.find(made, in: $0))
            #expect(backup.name?.count == 255)
            #expect(try BackupPolicies.bytesPerSecond(of: backup, in: $0) == 250_000)
        }
    }

    @Test("the past of runs is removed, the last run of each policy never")
    func purge() async throws {
        let id = try await policy("gold")
        for _ in 0..<3 {
            _ = try await run(id)
            try await finishAll()
        }
        let removed = try await database.write { try BackupPolicyRuns.purge(before: "9999", in: $0) }
        #expect(removed == 2)
        #expect(try runs(of: id).count == 1)
    }
}

/// Counts the changes of a database.
private final class ObservedDatabase: Database {
    private let database: SQLiteDatabase
    private let count = Guarded(0)
    var writes: Int { count.withLock { $0 } }

    init(_ database: SQLiteDatabase) { self.database = database }

    nonisolated(nonsending) func read<T: Sendable>(_ limit: ReadLimit, _ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await database.read(limit, body)
    }
    func readBlocking<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T { try database.readBlocking(limit, body) }
    nonisolated(nonsending) func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        count.withLock { $0 += 1 }
        return try await database.write(body)
    }
    func listen(to topic: Topic, _ listener: @escaping @Sendable (_ subject: String) -> Void) { database.listen(to: topic, listener) }
    func migrate(_ migrations: [Migration]) async throws { try await database.migrate(migrations) }
    func close() { database.close() }
}
