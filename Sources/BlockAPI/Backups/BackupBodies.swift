import BlockStorage
import HTTPServer
import JSON

/// What creates and changes backups: the bodies' schemas, and what a checked body asks for.
enum BackupBodies {
    static let creation = [
        (versions: 0...42, schema: creation(metadata: false, zone: false)),
        (versions: 43...50, schema: creation(metadata: true, zone: false)),
        (versions: 51...71, schema: creation(metadata: true, zone: true)),
    ]

    private static func creation(metadata: Bool, zone: Bool) -> Schema {
        var properties: [(name: String, schema: Schema)] = [
            ("volume_id", .uuid), ("container", .string(0, 255, nullable: true)),
            ("description", .string(0, 255, nullable: true, format: .printable)), ("incremental", .boolean), ("force", .boolean),
            ("name", .string(0, 255, nullable: true)), ("snapshot_id", .optionalUUID),
        ]
        if metadata { properties.append(("metadata", .metadata(nullable: true))) }
        if zone { properties.append(("availability_zone", .string(0, 255, nullable: true))) }
        return .object([("backup", .object(properties, required: ["volume_id"]))], required: ["backup"])
    }

    static func newBackup(_ request: APIRequest) -> NewBackup {
        let body = request.body["backup"]
        var new = NewBackup()
        new.name = body?["name"]?.trimmedString
        new.description = body?["description"]?.trimmedString
        new.container = body?["container"]?.string
        new.snapshotID = body?["snapshot_id"]?.string
        new.isIncremental = body?["incremental"]?.lenientBool ?? false
        new.force = body?["force"]?.lenientBool ?? false
        new.metadata = body?["metadata"]?.object ?? [:]
        new.zone = body?["availability_zone"]?.string
        return new
    }

    static let update = [(versions: 9...42, schema: update(metadata: false)), (versions: 43...71, schema: update(metadata: true))]

    private static func update(metadata: Bool) -> Schema {
        var properties: [(name: String, schema: Schema)] = [
            ("name", .string(0, 255, nullable: true)), ("description", .string(0, 255, nullable: true, format: .printable)),
        ]
        if metadata { properties.append(("metadata", .metadata())) }
        return .object([("backup", .object(properties, nullable: true))], required: ["backup"])
    }

    /// What a body is about. Schemas name null among its types, as Cinder's do; it is refused here, where Cinder fails inside.
    static func object(_ name: String, of request: APIRequest) throws(HTTPError) -> JSON {
        guard let object = request.body[name], object != .null else {
            throw .badRequest("Invalid input for field/attribute \(name). Value: None. None is not of type 'object'")
        }
        return object
    }

    static let restoration = Schema.object(
        [("restore", .object([("name", .string(0, 255, nullable: true)), ("volume_id", .optionalUUID)], nullable: true))],
        required: ["restore"])

    static let serving = Schema.object(
        [("seconds", Schema(kinds: [.integer], minimum: 1, maximum: 604_800))], nullable: true)

    static let record = Schema.object(
        [
            (
                "backup-record",
                .object(
                    [("backup_service", .string(0, 255)), ("backup_url", .string(1, format: .base64))],
                    required: ["backup_service", "backup_url"])
            )
        ], required: ["backup-record"])

    static let status: Schema = {
        let known = BackupStatus.settable.map(\.rawValue)
        let shown = "[" + known.map { "'\($0)'" }.joined(separator: ", ") + "]"
        return .object(
            [("status", Schema(kinds: [.string], format: .state("Backup status", known, shown: shown, isNeeded: true)))],
            required: ["status"])
    }()
}
