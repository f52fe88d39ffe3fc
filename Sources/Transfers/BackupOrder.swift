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
        public init() {}

        fileprivate var value: DriverValue {
            .members([
                "id": .string(id), "project_id": .string(projectID), "volume_id": .string(volumeID), "name": .optional(name),
                "description": .optional(description), "container": .string(container), "service_metadata": .string(serviceMetadata),
                "created_at": .string(createdAt),
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
    /// What is read is a snapshot that can stay in the backend: whether its driver will tell what changed since is found out.
    public var keepsSnapshot = false
    /// Of the volume that it is restored to: it reads as zeroes wherever it was not written.
    public var targetIsZero = false
    /// The format's options, by name.
    public var options: DriverValue = .object([])

    public init(format: String, backup: Item) {
        self.format = format
        self.backup = backup
    }

    var value: DriverValue {
        .members([
            "format": .string(format), "backup": backup.value, "parents": .list(parents.map(\.value)),
            "base": base ?? .null, "keeps_snapshot": .boolean(keepsSnapshot), "volume_metadata": .string(volumeMetadata),
            "target_is_zero": .boolean(targetIsZero), "options": options,
        ])
    }

    init(_ value: DriverValue) {
        self.init(format: value["format"]?.string ?? "", backup: Item(value["backup"] ?? .null))
        parents = (value["parents"]?.list ?? []).map { Item($0) }
        base = value["base"].flatMap { $0 == .null ? nil : $0 }
        keepsSnapshot = value["keeps_snapshot"]?.boolean ?? false
        volumeMetadata = value["volume_metadata"]?.string ?? ""
        targetIsZero = value["target_is_zero"]?.boolean ?? false
        options = value["options"] ?? .object([])
    }
}
