import BlockStorage
import HTTPServer
import JSON

/// What creates and changes volumes: the bodies' schemas, and what a checked body asks for.
enum VolumeBodies {
    // MARK: create

    static let creation = [
        (versions: 0...12, schema: creation(groups: false, backups: false, strict: false)),
        (versions: 13...46, schema: creation(groups: true, backups: false, strict: false)),
        (versions: 47...52, schema: creation(groups: true, backups: true, strict: false)),
        (versions: 53...71, schema: creation(groups: true, backups: true, strict: true)),
    ]

    private static func creation(groups: Bool, backups: Bool, strict: Bool) -> Schema {
        var properties: [(name: String, schema: Schema)] = [
            ("name", .string(nullable: true, format: .name)), ("description", .string(nullable: true, format: .description)),
            ("display_name", .string(nullable: true, format: .name)),
            ("display_description", .string(nullable: true, format: .description)),
            ("volume_type", .string(0, 255, nullable: true)), ("metadata", .metadata(nullable: true)), ("snapshot_id", .optionalUUID),
            ("source_volid", .optionalUUID), ("consistencygroup_id", .optionalUUID), ("size", .size(nullable: true)),
            ("availability_zone", .string(1, 255, nullable: true)), ("multiattach", .optionalBoolean),
            ("image_id", .string(0, 255, nullable: true)),
            ("imageRef", .string(0, 255, nullable: true)),
        ]
        if groups { properties.append(("group_id", .string(0, 255, nullable: true))) }
        if backups { properties.append(("backup_id", .optionalUUID)) }
        return .object([("volume", .object(properties, others: !strict))], required: ["volume"])
    }

    /// What the body asks for, with what was found of the image that it names.
    static func newVolume(_ request: APIRequest, _ images: ImageFinder) async throws -> NewVolume {
        var new = try newVolume(request)
        let body = request.body["volume"]
        func text(_ name: String) -> String? { body?[name]?.string.flatMap { $0.isEmpty ? nil : $0 } }
        guard let reference = text("imageRef") ?? text("image_id") else { return new }
        try request.enforce("volume:create_from_image")
        new.image = try await images.finding(reference, for: request)
        // The snapshot in whose place the image stands has the content.
        if case .found(let image)? = new.image, let snapshot = image.snapshotID, new.snapshotID == nil {
            (new.image, new.snapshotID) = (nil, snapshot)
        }
        return new
    }

    private static func newVolume(_ request: APIRequest) throws(HTTPError) -> NewVolume {
        let body = request.body["volume"]
        var new = NewVolume()
        func text(_ name: String) -> String? { body?[name]?.string.flatMap { $0.isEmpty ? nil : $0 } }
        // Looked up whatever the schema of the version says of them: what does not exist is told so.
        func id(_ name: String) -> String? { body?[name].flatMap { $0.isNull ? nil : PythonText.str($0) } }
        if body?["multiattach"]?.isNull == true { throw APIRequest.noBoolean("multiattach", "None") }
        if body?["multiattach"]?.lenientBool == true {
            throw HTTPError.badRequest(
                "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. "
                    + "Contact your administrator to create a multiattach enabled volume type and use it to create multiattach volumes.")
        }
        new.name = (body?["name"] ?? body?["display_name"])?.trimmedString
        new.description = (body?["description"] ?? body?["display_description"])?.trimmedString
        new.size = body?["size"]?.lenientInteger
        if let text = body?["size"]?.string, let size = new.size, text != String(size) {
            throw HTTPError.badRequest(
                "Invalid input received: Invalid volume size provided for create request: \(text) (size argument must be an integer "
                    + "(or string representation of an integer) and greater than zero).")
        }
        new.typeName = text("volume_type")
        new.zone = body?["availability_zone"]?.string
        new.snapshotID = text("snapshot_id")
        new.sourceVolumeID = text("source_volid")
        new.groupID = id("consistencygroup_id") ?? id("group_id")
        new.backupID = body?["backup_id"].flatMap { PythonText.isTrue($0) ? PythonText.str($0) : nil }
        new.metadata = body?["metadata"]?.object ?? [:]
        new.schedulerHints = (request.body["OS-SCH-HNT:scheduler_hints"] ?? body?["scheduler_hints"])?.object ?? [:]
        return new
    }

    // MARK: update

    static let update = [(versions: 0...52, schema: update(strict: false)), (versions: 53...71, schema: update(strict: true))]

    private static func update(strict: Bool) -> Schema {
        var volume = Schema.object([
            ("name", .string(nullable: true, format: .name)), ("description", .string(nullable: true, format: .description)),
            ("display_name", .string(nullable: true, format: .name)),
            ("display_description", .string(nullable: true, format: .description)),
            ("metadata", .metadata()),
        ])
        if strict { volume.anyRequired = ["name", "description", "display_name", "display_description", "metadata"] }
        return .object([("volume", volume)], required: ["volume"])
    }
}
