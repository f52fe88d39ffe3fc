public import Database

/// A state under the name by which it is stored and shown. The names that are known are constants; one that is not, written by another
/// release or an administrator, survives.
public protocol Status: RawRepresentable, Hashable, ColumnValue, CustomStringConvertible, ExpressibleByStringLiteral
where RawValue == String {
    init(rawValue: String)
}

extension Status {
    public init(stringLiteral name: String) { self.init(rawValue: name) }
    public var description: String { rawValue }
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
    public static let retyping = Self(rawValue: "retyping"), awaitingTransfer = Self(rawValue: "awaiting-transfer")
    public static let errorRestoring = Self(rawValue: "error_restoring")

    /// Whether the name says that something went wrong.
    var isError: Bool { rawValue.contains("error") }
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
    public static let success = Self(rawValue: "success"), error = Self(rawValue: "error"), deleting = Self(rawValue: "deleting")

    /// Whether the migration is over.
    var isOver: Bool { [.deleting, .error, .success].contains(self) }
}
