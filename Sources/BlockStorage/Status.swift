public import Database

/// A state under the name by which it is stored and shown. The names that are known are constants; one that is not, written by another
/// release or an administrator, survives.
public protocol Status: RawRepresentable, Hashable, ColumnValue, CustomStringConvertible
where RawValue == String {
    init(rawValue: String)
}

extension Status {
    public var description: String { rawValue }
    /// As a literal of SQL.
    var sql: String { "'\(rawValue)'" }
    /// Whether the name says that something went wrong.
    var isError: Bool { rawValue.contains("error") }
}

extension Sequence where Element: Status {
    /// As what stands behind IN in SQL.
    var sql: String { "(" + map(\.sql).joined(separator: ", ") + ")" }
}

/// A volume's state.
public struct VolumeStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let creating = Self(rawValue: "creating"), available = Self(rawValue: "available"), inUse = Self(rawValue: "in-use")
    public static let deleting = Self(rawValue: "deleting"), errorDeleting = Self(rawValue: "error_deleting")
    public static let error = Self(rawValue: "error"), maintenance = Self(rawValue: "maintenance")
    public static let attaching = Self(rawValue: "attaching"), detaching = Self(rawValue: "detaching")
    public static let reserved = Self(rawValue: "reserved"), downloading = Self(rawValue: "downloading")
    public static let uploading = Self(rawValue: "uploading"), reverting = Self(rawValue: "reverting")
    public static let extending = Self(rawValue: "extending"), errorExtending = Self(rawValue: "error_extending")
    public static let managing = Self(rawValue: "managing"), errorManaging = Self(rawValue: "error_managing")
    public static let unmanaging = Self(rawValue: "unmanaging"), errorUnmanaging = Self(rawValue: "error_unmanaging")
    public static let errorManagingDeleting = Self(rawValue: "error_managing_deleting")
    public static let retyping = Self(rawValue: "retyping"), awaitingTransfer = Self(rawValue: "awaiting-transfer")
    public static let restoringBackup = Self(rawValue: "restoring-backup"), errorRestoring = Self(rawValue: "error_restoring")
    public static let backingUp = Self(rawValue: "backing-up"), errorBackingUp = Self(rawValue: "error_backing-up")
}

/// The state of an attachment, and of a volume as far as its attachments say it.
public struct AttachmentStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let attached = Self(rawValue: "attached"), detached = Self(rawValue: "detached")
    public static let reserved = Self(rawValue: "reserved"), attaching = Self(rawValue: "attaching")
    public static let detaching = Self(rawValue: "detaching"), deleted = Self(rawValue: "deleted")
    public static let errorAttaching = Self(rawValue: "error_attaching"), errorDetaching = Self(rawValue: "error_detaching")
}

/// How far a volume's last migration got.
public struct MigrationStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let starting = Self(rawValue: "starting"), migrating = Self(rawValue: "migrating")
    public static let completing = Self(rawValue: "completing"), deleting = Self(rawValue: "deleting")
    public static let success = Self(rawValue: "success"), error = Self(rawValue: "error")
    /// What an administrator says for no status.
    public static let absent = Self(rawValue: "none")

    /// Of the copy that a volume is migrated to by the Compute service.
    public static func target(of id: String) -> Self { Self(rawValue: targetPrefix + id) }
    private static let targetPrefix = "target:"
    /// Whether the volume is such a copy.
    public var isTarget: Bool { rawValue.utf8.starts(with: Self.targetPrefix.utf8) }
    /// The volume that such a copy is of.
    var source: String? { isTarget ? String(rawValue.dropFirst(Self.targetPrefix.count)) : nil }
    /// What the status of every copy matches.
    static let targets = targetPrefix + "%"
    /// The condition that a volume is no such copy, by its column; it takes `targets`.
    static func isNoTarget(_ column: String, _ dialect: any Dialect) -> String {
        "(\(column) IS NULL OR NOT \(dialect.matches(column)))"
    }

    static let over: [Self] = [.deleting, .error, .success]
    /// Whether the migration is over.
    var isOver: Bool { Self.over.contains(self) }
}

/// Whether a volume is kept a second time elsewhere, as its driver says.
public struct ReplicationStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let disabled = Self(rawValue: "disabled"), notCapable = Self(rawValue: "not-capable")
}

/// A snapshot's state.
public struct SnapshotStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let creating = Self(rawValue: "creating"), available = Self(rawValue: "available")
    public static let deleting = Self(rawValue: "deleting"), errorDeleting = Self(rawValue: "error_deleting")
    public static let deleted = Self(rawValue: "deleted"), updating = Self(rawValue: "updating")
    public static let error = Self(rawValue: "error"), restoring = Self(rawValue: "restoring")
    public static let unmanaging = Self(rawValue: "unmanaging"), backingUp = Self(rawValue: "backing-up")
}

/// A backup's state.
public struct BackupStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let creating = Self(rawValue: "creating"), available = Self(rawValue: "available")
    public static let deleting = Self(rawValue: "deleting"), errorDeleting = Self(rawValue: "error_deleting")
    public static let deleted = Self(rawValue: "deleted"), error = Self(rawValue: "error")
    public static let restoring = Self(rawValue: "restoring")
}

/// What is known of a backup's objects.
public struct VerifyStatus: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let good = Self(rawValue: "good"), damaged = Self(rawValue: "damaged")
}

/// How far an operation is.
public struct OperationState: Status {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Others are before it on what it claims.
    public static let waiting = Self(rawValue: "waiting")
    public static let running = Self(rawValue: "running")
    public static let done = Self(rawValue: "done"), failed = Self(rawValue: "failed")
}
