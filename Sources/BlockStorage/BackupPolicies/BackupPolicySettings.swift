public import Calendar
public import JSON

/// What users say of a backup policy.
public struct BackupPolicySettings: Sendable {
    public enum Action: String, Sendable, CaseIterable { case backup, snapshot }
    /// What becomes of a run whose time came while nobody was there to begin it.
    public enum Missed: String, Sendable, CaseIterable { case runOnce = "run_once", skip }

    public var name = ""
    public var description: String?
    public var enabled = true, isPublic = false
    public var action = Action.backup
    /// A cron expression; nil: it is only run by hand.
    public var schedule: String?
    public var timezone = "UTC"
    public var jitterSeconds = 0
    public var missed = Missed.runOnce
    public var incremental: Retention.Increments?
    public var fullEvery: Int?
    public var keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly: Int?
    public var keepWithin: String?
    public var minimumKeep = 1
    public var maxParallel = 2
    /// `HH:MM`
    public var windowStart, windowEnd: String?
    public var container, availabilityZone: String?
    /// Every copy is verified when it was made.
    public var verifyAfter = false
    /// A span: what was not verified for so long is verified again.
    public var verifyEvery: String?
    /// Of the copies of a run together.
    public var maxBytesPerSecond: Int?
    /// Days for which a copy cannot be deleted.
    public var protectDays: Int?
    /// What every copy of the policy gets.
    public var metadata: JSONObject = [:]

    public init() {}

    public var retention: Retention {
        var retention = Retention()
        retention.last = keepLast
        retention.hourly = keepHourly
        retention.daily = keepDaily
        retention.weekly = keepWeekly
        retention.monthly = keepMonthly
        retention.yearly = keepYearly
        retention.within = keepWithin.flatMap { CalendarSpan($0) }
        retention.minimum = minimumKeep
        return retention
    }

    public var zone: TimeZone { TimeZone.named(timezone) ?? .utc }

    /// nil: there is none, or it cannot be read any more.
    public func schedule(of policyID: String) -> BackupSchedule? {
        guard let expression = schedule.flatMap({ try? CronExpression($0) }), let zone = TimeZone.named(timezone) else { return nil }
        return BackupSchedule(expression, in: zone, jitter: jitterSeconds, window: window, policyID: policyID)
    }

    /// Up to when what was verified before needs to be verified again, of a moment; nil: never.
    func lastVerification(dueAt time: Int) -> Int? { verifyEvery.flatMap { CalendarSpan($0) }?.before(time, in: zone) }

    /// Of one copy: as many as a run makes at a time share the policy's limit.
    var bytesPerSecondOfCopy: Int? { maxBytesPerSecond.map { max(1, $0 / max(1, maxParallel)) } }

    /// Until when a copy is protected that is made at a moment. `most`: days; the policy may be older than this limit.
    func protection(from time: Int, most: Int) -> Int? {
        protectDays.map { min($0, most) }.flatMap { $0 > 0 ? time + $0 * 86_400 : nil }
    }

    /// Refuses a protection that is longer than the service's limit in days.
    public func checkProtection(most: Int) throws(StorageError) {
        guard let protectDays, protectDays > most else { return }
        throw .invalidInput("protect_days: it is at most \(most) (backup_policy_max_protect_days).")
    }

    private var window: DailyWindow? {
        guard let start = windowStart.flatMap(DailyWindow.seconds), let end = windowEnd.flatMap(DailyWindow.seconds) else { return nil }
        return DailyWindow(start: start, end: end)
    }

    /// Refuses what does not fit together, and what would be without effect.
    func check() throws(StorageError) {
        func refuse(_ member: String, _ rule: String) -> StorageError { .invalidInput("\(member): \(rule).") }
        if name.isEmpty { throw refuse("name", "it may not be empty") }
        if name.utf8.contains(UInt8(ascii: ",")) {
            throw refuse("name", "it may have no comma, which separates names in the property backup_policy of a volume")
        }
        if let schedule {
            do throws(CronExpression.Problem) {
                _ = try CronExpression(schedule)
            } catch { throw refuse("schedule", "'\(schedule)' is no cron expression: \(error.text)") }
        }
        guard TimeZone.named(timezone) != nil else {
            throw refuse("timezone", "'\(timezone)' is no time zone of this machine's database of time zones, such as Europe/Berlin or UTC")
        }
        for (member, time) in [("window_start", windowStart), ("window_end", windowEnd)] {
            if let time, DailyWindow.seconds(time) == nil { throw refuse(member, "'\(time)' is no time of day as HH:MM") }
        }
        guard (windowStart == nil) == (windowEnd == nil) else {
            throw refuse(windowStart == nil ? "window_start" : "window_end", "a window has both a start and an end")
        }
        if let windowStart, windowStart == windowEnd { throw refuse("window_end", "a window that ends where it begins admits nothing") }
        if let keepWithin, CalendarSpan(keepWithin) == nil {
            throw refuse("keep_within", "'\(keepWithin)' is no span of ISO 8601 of up to a hundred years, such as P30D or P1Y6M")
        }
        if let verifyEvery {
            guard let span = CalendarSpan(verifyEvery) else {
                throw refuse("verify_every", "'\(verifyEvery)' is no span of ISO 8601 of up to a hundred years, such as P30D or P1Y6M")
            }
            let day = 86_400
            if 1000 * day - span.before(1000 * day, in: .utc) < 3600 { throw refuse("verify_every", "it is an hour or longer") }
        }
        if schedule == nil {
            if jitterSeconds > 0 { throw refuse("jitter_seconds", "it has no effect without a schedule") }
            if windowStart != nil { throw refuse("window_start", "it has no effect without a schedule") }
        }
        try BackupContainer.check(container)
        if minimumKeep > 1, !retention.isLimited { throw refuse("minimum_keep", "it has no effect without another keep_ member") }
        if fullEvery != nil, incremental == .always || incremental == .never {
            throw refuse("full_every", "it has an effect where incremental is 'auto' only")
        }
        guard action == .snapshot else { return }
        let given: [(String, Bool)] = [
            ("incremental", incremental != nil), ("full_every", fullEvery != nil), ("container", container != nil),
            ("availability_zone", availabilityZone != nil), ("verify_after", verifyAfter), ("verify_every", verifyEvery != nil),
            ("max_bytes_per_second", maxBytesPerSecond != nil), ("protect_days", protectDays != nil),
        ]
        if let member = given.first(where: \.1)?.0 { throw refuse(member, "it has no effect where action is 'snapshot'") }
    }
}
