public import Calendar

/// When the runs of a policy come.
public struct BackupSchedule: Sendable {
    /// A run's two times, in seconds since 1970.
    public struct Occurrence: Sendable, Equatable {
        /// As the expression says: what tells one run from another.
        public let time: Int
        /// Moved by the policy's share of the jitter, and into the window.
        public let start: Int
    }

    let expression: CronExpression
    let zone: TimeZone
    let delay: Int
    let window: DailyWindow?

    /// `jitter`: the most seconds by which a policy's runs are late. Each policy has its share, always the same, that follows from its id.
    public init(_ expression: CronExpression, in zone: TimeZone, jitter: Int, window: DailyWindow?, policyID: String) {
        self.expression = expression
        self.zone = zone
        delay = Self.share(of: jitter, policyID)
        self.window = window
    }

    /// FNV-1a of the id: spread evenly, and the same in every release.
    static func share(of jitter: Int, _ id: String) -> Int {
        guard jitter > 0 else { return 0 }
        let hash = id.utf8.reduce(14_695_981_039_346_656_037 as UInt64) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
        // The low bits of a short text are the worst.
        return Int((hash >> 16) % UInt64(jitter + 1))
    }

    /// The runs that start after a moment, each start once: what waits for the same beginning of a window is one run.
    public func occurrences(after time: Int) -> some Sequence<Occurrence> {
        // What the window has moved behind the moment came up to two days before it.
        let times = CronTimes(expression, in: zone, after: time - delay - (window == nil ? 0 : 172_800))
        var last = time
        return times.lazy.map { [delay, window, zone] moment in
            Occurrence(time: moment, start: window?.admitted(moment + delay, in: zone) ?? moment + delay)
        }.filter {
            guard $0.start > last else { return false }
            last = $0.start
            return true
        }
    }

    public func next(after time: Int) -> Occurrence? { occurrences(after: time).first { _ in true } }

    /// Whether a run that starts at the moment may still begin something.
    public func isOpen(at time: Int) -> Bool { window?.contains(time, in: zone) ?? true }
}

extension BackupSchedule {
    /// What became of the runs that were due.
    public struct Due: Sendable, Equatable {
        /// The one that was due last.
        public let latest: Occurrence
        /// How many were due before it and were never begun.
        public let missed: Int
        /// There were more of them than were counted.
        public let isMore: Bool
        /// Whether the latest is so late that it was missed too.
        public let isLate: Bool
    }

    /// How late a run may begin and still be itself.
    static let patience = 300
    private static let mostCounted = 1000

    /// `first`: the run that was to be begun next. nil: it is not due yet.
    public func due(from first: Occurrence, at now: Int) -> Due? {
        guard first.start <= now else { return nil }
        var latest = first
        var missed = 0
        var isMore = false
        for occurrence in occurrences(after: first.start) {
            guard occurrence.start <= now else { break }
            guard missed < Self.mostCounted else {
                isMore = true
                break
            }
            missed += 1
            latest = occurrence
        }
        return Due(latest: latest, missed: missed, isMore: isMore, isLate: isMore || now - latest.start > Self.patience)
    }
}
