public import Database
import Primitives

/// What a policy would do in the next days: its runs, and the copies that it would delete after each.
public struct PolicyPreview: Sendable {
    public struct Deletion: Sendable {
        /// After the run of that time.
        public let at: String
        public let volumeID: String
        /// nil: a copy that a run of the preview makes.
        public let copyID: String?
        public let madeAt: String
    }

    public let days: Int
    /// How many volumes have the policy now.
    public let volumes: Int
    public private(set) var runs: [String] = []
    public private(set) var deletions: [Deletion] = []
    /// Whether there are more runs, volumes or deletions than are told.
    public private(set) var isTruncated = false

    static let mostRuns = 400
    static let mostVolumes = 10
    static let mostDeletions = 5000
    /// Copies that are looked at, those of one run after those of the other: a tenth of a second.
    static let mostLooks = 100_000
    private var looks = 0

    /// Supposes that every run makes a copy of each volume that has the policy now.
    /// - Parameters:
    ///   - mostProtectDays: as `VolumeRequests` has it.
    ///   - format: that of new backups by availability zone.
    public init(
        _ policyID: String, days: Int, mostProtectDays: Int, format: (_ zone: String?) -> String?, caller: Caller,
        in connection: any Connection
    ) throws {
        let policy = try BackupPolicies.get(policyID, for: caller, in: connection)
        try BackupPolicies.requireOwn(policy, caller)
        self.days = days
        let now = Int(connection.time)
        let end = now + days * 86_400
        var starts: [Int] = []
        if policy.settings.enabled, let schedule = policy.settings.schedule(of: policyID) {
            for occurrence in schedule.occurrences(after: max(now, (policy.next?.start ?? now) - 1)) {
                guard occurrence.start <= end else { break }
                guard starts.count < Self.mostRuns else {
                    isTruncated = true
                    break
                }
                starts.append(occurrence.start)
            }
        }
        runs = starts.map(Self.shown)
        let covered = try BackupPolicies.volumes(of: policy, in: connection)
        volumes = covered.count
        if covered.count > Self.mostVolumes { isTruncated = true }
        for volume in covered.prefix(Self.mostVolumes) {
            let copies = try BackupPolicies.copies(
                ofVolume: volume.id, project: volume.projectID, of: policy, triedSince: nil, in: connection)
            // Increments are in the format of what they are made on top of.
            let last = copies.filter { $0.condition == .good }.max { ($0.time, $0.order) < ($1.time, $1.order) }
            let needsParent = last?.needsParent ?? (format(policy.settings.availabilityZone) != Backup.repositoryFormat)
            simulate(copies, of: volume.id, policy.settings, starts, newest: last?.id, needsParent: needsParent, mostProtectDays)
        }
        deletions.sort { ($0.at, $0.volumeID, $0.madeAt) < ($1.at, $1.volumeID, $1.madeAt) }
    }

    private static func shown(_ time: Int) -> String { Timestamp.format(seconds: time, microseconds: 0) }

    private mutating func simulate(
        _ existing: [Retention.Copy], of volume: String, _ settings: BackupPolicySettings, _ starts: [Int], newest last: String?,
        needsParent: Bool, _ mostProtectDays: Int
    ) {
        let (retention, zone) = (settings.retention, settings.zone)
        var copies = existing
        var newest = last
        let known = Set(existing.map(\.id))
        for (number, start) in starts.enumerated() {
            looks += copies.count
            guard looks <= Self.mostLooks else {
                isTruncated = true
                return
            }
            let isFull =
                settings.action == .snapshot
                || retention.wantsFull(settings.incremental ?? .auto, fullEvery: settings.fullEvery, after: copies, in: zone)
            let made = Retention.Copy(
                id: "#\(number)", time: start, condition: .good, parent: isFull ? nil : newest, needsParent: needsParent,
                protectedUntil: settings.protection(from: start, most: mostProtectDays))
            copies.append(made)
            newest = made.id
            let expired = Set(retention.expired(copies, in: zone, at: start))
            guard !expired.isEmpty else { continue }
            for copy in copies where expired.contains(copy.id) {
                guard deletions.count < Self.mostDeletions else {
                    isTruncated = true
                    return
                }
                deletions.append(
                    Deletion(
                        at: Self.shown(start), volumeID: volume, copyID: known.contains(copy.id) ? copy.id : nil,
                        madeAt: Self.shown(copy.time)))
            }
            copies.removeAll { expired.contains($0.id) }
        }
    }
}
