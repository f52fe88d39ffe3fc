/// The volume's state machine as data: for each action the states it may start in, what else must hold, and the state it
/// leads to at once. Guards are checked by the UPDATE itself, so that of two callers one wins.
public struct VolumeTransition: Sendable {
    public enum Condition: String, Sendable {
        case detached = "attach_status <> 'attached'"
        case attached = "attach_status = 'attached'"
        case notMigrating = "(migration_status IS NULL OR migration_status IN ('deleting', 'error', 'success'))"
        case notReplicated = "(replication_status IS NULL OR replication_status IN ('disabled', 'not-capable'))"
        case ungrouped = "group_id IS NULL"
        case withoutSnapshots = "NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.volume_id = volumes.id)"
        /// Reservations, and attachments that failed or have not come to be, do not count: they go with the volume.
        case unattached = "NOT EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = volumes.id AND a.attach_status = 'attached')"
    }

    public let name: String
    /// nil: any.
    public let from: [String]?
    public let conditions: [Condition]
    /// nil: the state stays.
    public let to: String?
    /// Whether the state left is kept in `previous_status`, for the way back.
    public let remembers: Bool
    /// Also allowed from `in-use` when the volume is multiattach.
    public let allowsMultiattach: Bool

    init(
        _ name: String, from: [String]?, _ conditions: [Condition] = [], to: String?, remembers: Bool = false,
        allowsMultiattach: Bool = false
    ) {
        self.name = name
        self.from = from
        self.conditions = conditions
        self.to = to
        self.remembers = remembers
        self.allowsMultiattach = allowsMultiattach
    }

    public static let leavable = ["available", "error", "error_restoring", "error_extending", "error_managing"]
    /// What failed to be deleted can be tried again.
    public static let deletable = leavable + ["error_deleting"]
    private static let idle: [Condition] = [.detached, .notMigrating, .ungrouped, .unattached]

    public static let delete = VolumeTransition(
        "delete", from: deletable, idle + [.withoutSnapshots], to: "deleting", remembers: true)
    public static let forceDelete = VolumeTransition(
        "force delete", from: nil, idle + [.withoutSnapshots], to: "deleting",
        remembers: true)
    public static let unmanage = VolumeTransition(
        "unmanage", from: leavable, idle + [.withoutSnapshots], to: "unmanaging",
        remembers: true)
    /// With all its snapshots.
    public static let cascade = VolumeTransition(
        "cascade", from: deletable, idle, to: "deleting", remembers: true)
    public static let forceCascade = VolumeTransition(
        "force cascade", from: nil, idle, to: "deleting", remembers: true)
    public static let revert = VolumeTransition("revert", from: ["available"], to: "reverting", remembers: true)
    public static let extend = VolumeTransition("extend", from: ["available"], to: "extending", remembers: true)
    public static let extendAttached = VolumeTransition("extend", from: ["available", "in-use"], to: "extending", remembers: true)
    public static let reserve = VolumeTransition("reserve", from: ["available"], to: "attaching", allowsMultiattach: true)
    public static let beginDetaching = VolumeTransition(
        "begin detaching", from: ["in-use"], [.attached, .notMigrating], to: "detaching")
    public static let rollDetaching = VolumeTransition("roll detaching", from: ["detaching"], to: "in-use")
    /// Migration keeps the volume's own state, or locks the volume.
    public static let migrate = VolumeTransition(
        "migrate", from: ["available", "in-use"], [.notMigrating, .notReplicated, .ungrouped, .withoutSnapshots], to: nil, remembers: true)
    public static let migrateLocked = VolumeTransition(
        "migrate locked", from: ["available"], [.notMigrating, .notReplicated, .ungrouped, .withoutSnapshots], to: "maintenance",
        remembers: true)
    public static let retype = VolumeTransition(
        "retype", from: ["available", "in-use"], [.notMigrating, .ungrouped], to: "retyping", remembers: true)
    public static let all = [
        migrate, migrateLocked, retype, unmanage, delete, forceDelete, cascade, forceCascade, revert, extend, extendAttached, reserve,
        beginDetaching,
        rollDetaching,
    ]
}

/// States that a volume can be set to by an administrator; the order is the one of Cinder's message.
public enum VolumeStatus {
    public static let settable = [
        "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use", "detaching",
        "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer", "backing-up", "error_backing-up",
        "error_extending", "downloading", "uploading", "retyping", "extending",
    ]
    public static let attachStatuses = ["attached", "detached"]
    public static let migrationStatuses = ["migrating", "error", "success", "completing", "none", "starting"]

    /// The name under which clients see a state.
    public static func shown(_ status: String) -> String {
        switch status {
        case "managing": "creating"
        case "error_managing": "error"
        case "error_managing_deleting": "deleting"
        default: status
        }
    }

    /// What a volume's states are, given those of its attachments: the alphabetically first that is no error decides.
    public static func derived(fromAttachments statuses: [String]) -> (status: String, attachStatus: String) {
        guard let first = statuses.filter({ !$0.hasPrefix("error") && $0 != "detached" && $0 != "deleted" }).min() else {
            return ("available", "detached")
        }
        return (first == "attached" ? "in-use" : first, first)
    }
}
