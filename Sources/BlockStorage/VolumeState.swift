import Database

/// The volume's state machine: for each action the states it may start in, what else must hold, and the state it leads to at once.
/// Guards are checked by the UPDATE itself, so that of two callers one wins.
public enum VolumeTransition: Int, CaseIterable, Sendable {
    case delete, forceDelete
    /// With all its snapshots.
    case cascade, forceCascade
    case unmanage, revert, extend, extendAttached, reserve, beginDetaching, rollDetaching
    /// Migration keeps the volume's own state, or locks the volume.
    case migrate, migrateLocked
    case retype
    /// To other projects, and back.
    case offer, withdraw
    /// Its content is replaced by a backup's.
    case restore
    /// An image is made of it.
    case upload
    /// The same, whoever uses it.
    case uploadAttached
    /// Its content is replaced by an image's.
    case reimage, reimageReserved

    public enum Condition: Sendable {
        case detached, attached, notMigrating, notReplicated, ungrouped, withoutSnapshots
        /// Reservations, and attachments that failed or have not come to be, do not count: they go with the volume.
        case unattached
        /// No backup is being made of it: of that it has a snapshot meanwhile, which has no row.
        case notBackedUp

        var sql: String {
            let attached = AttachmentStatus.attached.sql
            return switch self {
            case .detached: "attach_status <> \(attached)"
            case .attached: "attach_status = \(attached)"
            case .notMigrating: "(migration_status IS NULL OR migration_status IN \(MigrationStatus.over.sql))"
            case .notReplicated:
                "(replication_status IS NULL OR replication_status IN \([ReplicationStatus.disabled, .notCapable].sql))"
            case .ungrouped: "group_id IS NULL"
            case .withoutSnapshots: "NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.volume_id = volumes.id)"
            case .unattached: "NOT EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = volumes.id AND a.attach_status = \(attached))"
            case .notBackedUp:
                "NOT EXISTS (SELECT 1 FROM backups b WHERE b.volume_id = volumes.id AND b.status = \(BackupStatus.creating.sql) "
                    + "AND b.temp_snapshot_id IS NOT NULL)"
            }
        }
    }

    /// What a transition asks for and does.
    public struct Rule: Sendable {
        /// nil: any.
        public var from: [VolumeStatus]?
        public var conditions: [Condition] = []
        /// nil: the state stays.
        public var to: VolumeStatus?
        /// Whether the state left is kept in `previous_status`, for the way back.
        public var remembers = false
        /// Also allowed from `in-use` when the volume is multiattach.
        public var allowsMultiattach = false

        init(
            _ from: [VolumeStatus]?, _ conditions: [Condition] = [], to: VolumeStatus?, remembers: Bool = false,
            allowsMultiattach: Bool = false
        ) {
            self.from = from
            self.conditions = conditions
            self.to = to
            self.remembers = remembers
            self.allowsMultiattach = allowsMultiattach
        }

        var sql: String {
            var conditions = conditions.map(\.sql)
            if let from {
                var states = "status IN \(from.sql)"
                if allowsMultiattach { states = "(\(states) OR (status = \(VolumeStatus.inUse.sql) AND multiattach = 1))" }
                conditions.append(states)
            }
            let previous = remembers ? "previous_status = status, " : ""
            return "UPDATE volumes SET \(previous)status = \(to?.sql ?? "status"), updated_at = ? WHERE id = ? AND "
                + conditions.joined(separator: " AND ")
        }
    }

    public static let leavable: [VolumeStatus] = [.available, .error, .errorRestoring, .errorExtending, .errorManaging]
    /// What failed to be deleted can be tried again.
    public static let deletable = leavable + [.errorDeleting]
    private static let idle: [Condition] = [.detached, .notMigrating, .ungrouped, .unattached, .notBackedUp]

    public var rule: Rule {
        switch self {
        case .delete: Rule(Self.deletable, Self.idle + [.withoutSnapshots], to: .deleting, remembers: true)
        case .forceDelete: Rule(nil, Self.idle + [.withoutSnapshots], to: .deleting, remembers: true)
        case .cascade: Rule(Self.deletable, Self.idle, to: .deleting, remembers: true)
        case .forceCascade: Rule(nil, Self.idle, to: .deleting, remembers: true)
        case .unmanage: Rule(Self.leavable, Self.idle + [.withoutSnapshots], to: .unmanaging, remembers: true)
        case .revert: Rule([.available], [.notBackedUp], to: .reverting, remembers: true)
        case .extend: Rule([.available], to: .extending, remembers: true)
        case .extendAttached: Rule([.available, .inUse], to: .extending, remembers: true)
        case .reserve: Rule([.available], to: .attaching, allowsMultiattach: true)
        case .beginDetaching: Rule([.inUse], [.attached, .notMigrating], to: .detaching)
        case .rollDetaching: Rule([.detaching], to: .inUse)
        case .migrate:
            Rule(
                [.available, .inUse], [.notMigrating, .notReplicated, .ungrouped, .withoutSnapshots, .notBackedUp], to: nil, remembers: true
            )
        case .migrateLocked:
            Rule(
                [.available], [.notMigrating, .notReplicated, .ungrouped, .withoutSnapshots, .notBackedUp], to: .maintenance,
                remembers: true)
        case .retype: Rule([.available, .inUse], [.notMigrating, .ungrouped, .notBackedUp], to: .retyping, remembers: true)
        case .offer: Rule([.available], [.notMigrating], to: .awaitingTransfer)
        case .withdraw: Rule([.awaitingTransfer], to: .available)
        case .upload: Rule([.available], [.notMigrating, .detached, .unattached], to: .uploading, remembers: true)
        case .uploadAttached: Rule([.available, .inUse], [.notMigrating], to: .uploading, remembers: true)
        case .reimage:
            Rule([.available, .error], [.notMigrating, .detached, .unattached, .notBackedUp], to: .downloading, remembers: true)
        case .reimageReserved:
            Rule(
                [.available, .error, .reserved], [.notMigrating, .detached, .unattached, .notBackedUp], to: .downloading, remembers: true)
        case .restore: Rule([.available], [.notMigrating, .detached, .unattached, .notBackedUp], to: .restoringBackup, remembers: true)
        }
    }

    private static let statements = allCases.map { SQL($0.rule.sql) }
    var statement: SQL { Self.statements[rawValue] }
}

/// States that a volume can be set to by an administrator; the order is the one of Cinder's message.
extension VolumeStatus {
    public static let settable = [
        creating, available, deleting, error, errorDeleting, errorManaging, managing, attaching, inUse, detaching, maintenance,
        restoringBackup, errorRestoring, reserved, awaitingTransfer, backingUp, errorBackingUp, errorExtending, downloading, uploading,
        retyping, extending,
    ]

    /// The name under which clients see a state.
    public var shown: VolumeStatus {
        switch self {
        case .managing: .creating
        case .errorManaging: .error
        case .errorManagingDeleting: .deleting
        default: self
        }
    }

    /// What a volume's states are, given those of its attachments: the alphabetically first that is no error decides.
    public static func derived(fromAttachments statuses: [AttachmentStatus]) -> (status: VolumeStatus, attachStatus: AttachmentStatus) {
        let present = statuses.filter { !$0.isError && $0 != .detached && $0 != .deleted }
        guard let first = present.min(by: { $0.rawValue < $1.rawValue }) else { return (.available, .detached) }
        return (first == .attached ? .inUse : VolumeStatus(rawValue: first.rawValue), first)
    }
}

extension AttachmentStatus {
    /// What an administrator can set for a volume; the order is the one of Cinder's message.
    public static let settable = [attached, detached]
}

extension MigrationStatus {
    /// What an administrator can set for a volume; the order is the one of Cinder's message.
    public static let settable = [migrating, error, success, completing, absent, starting]
}
