public import DriverHost

/// What is to be done with one backup, as the transfer process is told of it.
public struct BackupOrder: Sendable {
    /// A backup as a format knows it.
    public struct Item: Sendable, Equatable {
        public var id = ""
        public var projectID = ""
        public var volumeID = ""
        public var name, description: String?
        /// What its objects have in their names.
        public var container = ""
        public var serviceMetadata = ""
        public var createdAt = ""
        /// Of those that depend on others, where they are no part of a chain.
        public var parentID: String?
        /// It is of a snapshot that a user named.
        public var isOfSnapshot = false
        /// Objects that the store has of it: of one that never was whole, 0.
        public var objectCount = 0
        /// Of the backup's row, what brings it back from the store alone: a JSON object.
        public var record = ""
        public init() {}

        fileprivate var value: DriverValue {
            .members([
                "id": .string(id), "project_id": .string(projectID), "volume_id": .string(volumeID), "name": .optional(name),
                "description": .optional(description), "container": .string(container), "service_metadata": .string(serviceMetadata),
                "created_at": .string(createdAt), "parent_id": .optional(parentID), "record": .string(record),
                "is_of_snapshot": .boolean(isOfSnapshot), "object_count": .integer(Int64(objectCount)),
            ])
        }

        fileprivate init(_ value: DriverValue) {
            func text(_ name: String) -> String { value[name]?.string ?? "" }
            id = text("id")
            projectID = text("project_id")
            volumeID = text("volume_id")
            name = value["name"]?.string
            description = value["description"]?.string
            container = text("container")
            serviceMetadata = text("service_metadata")
            createdAt = text("created_at")
            parentID = value["parent_id"]?.string
            record = text("record")
            isOfSnapshot = value["is_of_snapshot"]?.boolean ?? false
            objectCount = value["object_count"]?.integer.map { Int(clamping: $0) } ?? 0
        }
    }

    /// By what it is written and read: `cinder` or `repository`.
    public var format: String
    public var backup: Item
    /// What it rests on, the full one first.
    public var parents: [Item] = []
    /// Of the volume, kept with the backup: Cinder's form, as JSON.
    public var volumeMetadata = ""
    /// What the volume's driver is told of the snapshot that the last of these was made of: only what changed since is read. nil: it is
    /// gone, or is not to be relied on.
    public var base: DriverValue?
    /// Where that is nil: the driver may be asked for what changed since a snapshot of the name that the parent's has in the store, as others
    /// leave one beside the volume.
    public var asksBySnapshotName = false
    /// What is read is a snapshot that can stay in the backend: whether its driver will tell what changed since is found out.
    public var keepsSnapshot = false
    /// Of the volume that it is restored to: it reads as zeroes wherever it was not written.
    public var targetIsZero = false
    /// The format's options, by name.
    public var options: DriverValue = .object([])
    /// Others that share objects with it: what is damaged may be theirs, too.
    public var relatives: [Item] = []
    /// Ids of backups that share objects with it and are of a later moment than it, the latest first.
    public var newer: [String] = []
    /// Ids of the other backups that are whole and lie in the same repository, as far as the database knows.
    public var neighbours: [String] = []
    /// Parts of the volume that cannot be read from what it rests on.
    public var damagedParts: [Range<UInt64>] = []

    public init(format: String, backup: Item) {
        self.format = format
        self.backup = backup
    }

    var value: DriverValue {
        .members([
            "relatives": .list(relatives.map(\.value)), "newer": .list(newer.map { .string($0) }),
            "neighbours": .list(neighbours.map { .string($0) }),
            "damaged_parts": .list(
                damagedParts.map {
                    .list([.integer(Int64(clamping: $0.lowerBound)), .integer(Int64(clamping: $0.upperBound))])
                }),
            "format": .string(format), "backup": backup.value, "parents": .list(parents.map(\.value)),
            "base": base ?? .null, "asks_by_snapshot_name": .boolean(asksBySnapshotName), "keeps_snapshot": .boolean(keepsSnapshot),
            "volume_metadata": .string(volumeMetadata), "target_is_zero": .boolean(targetIsZero), "options": options,
        ])
    }

    init(_ value: DriverValue) {
        self.init(format: value["format"]?.string ?? "", backup: Item(value["backup"] ?? .null))
        parents = (value["parents"]?.list ?? []).map { Item($0) }
        base = value["base"].flatMap { $0 == .null ? nil : $0 }
        asksBySnapshotName = value["asks_by_snapshot_name"]?.boolean ?? false
        keepsSnapshot = value["keeps_snapshot"]?.boolean ?? false
        volumeMetadata = value["volume_metadata"]?.string ?? ""
        targetIsZero = value["target_is_zero"]?.boolean ?? false
        options = value["options"] ?? .object([])
        relatives = (value["relatives"]?.list ?? []).map { Item($0) }
        newer = (value["newer"]?.list ?? []).compactMap(\.string)
        neighbours = (value["neighbours"]?.list ?? []).compactMap(\.string)
        damagedParts = (value["damaged_parts"]?.list ?? []).compactMap { part in
            guard let ends = part.list, ends.count == 2, let start = ends[0].integer, let end = ends[1].integer, 0 <= start, start <= end
            else { return nil }
            return UInt64(start)..<UInt64(end)
        }
    }
}
