import BlockStorage
import HTTPServer
import JSON

/// `/volumes`
enum VolumeOperations {
    static let all: [APIOperation] = [
        APIOperation("volumes:list", "GET", "/volumes", policies: ["volume:get_all"], summary: "List volumes") {
            try await VolumeListing.list($0, detail: false)
        },
        APIOperation("volumes:detail", "GET", "/volumes/detail", policies: ["volume:get_all"], summary: "List volumes in detail") {
            try await VolumeListing.list($0, detail: true)
        },
        APIOperation(
            "volumes:summary", "GET", "/volumes/summary", versions: 12...71, policies: ["volume:get_all"],
            summary: "Number and size of all volumes"
        ) { try await VolumeListing.summary($0) },
        APIOperation("volumes:show", "GET", "/volumes/{id}", policies: ["volume:get"], summary: "Show a volume") { request in
            let volume = try await request.database { try Volumes.shown(request.parameters[0], to: request.caller, in: $0) }
            return HTTPResponse(status: 200, body: .buffer(VolumeView.body(volume, request, extended: true)))
        },
        APIOperation(
            "volumes:create", "POST", "/volumes", policies: ["volume:create"],
            bodies: creationBodies, success: 202, summary: "Create a volume", handler: create),
        APIOperation(
            "volumes:update", "PUT", "/volumes/{id}", policies: ["volume:update"],
            bodies: [(0...52, update(strict: false)), (53...71, update(strict: true))],
            summary: "Change name, description or metadata of a volume",
            handler: update),
        APIOperation(
            "volumes:delete", "DELETE", "/volumes/{id}", policies: ["volume:delete"], success: 202, summary: "Delete a volume",
            handler: delete),
    ]

    // MARK: create

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

    @Sendable private static func create(_ request: APIRequest) async throws -> HTTPResponse {
        let new = try newVolume(request)
        let volume = try await request.change { tx in
            try Volumes.shown(request.service.requests.create(new, caller: request.caller, in: tx), to: request.caller, in: tx)
        }
        return HTTPResponse(status: 202, body: .buffer(VolumeView.body(volume, request, extended: false)))
    }

    /// What the body asks for.
    static func newVolume(_ request: APIRequest) throws(HTTPError) -> NewVolume {
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
        new.imageRef = text("imageRef") ?? text("image_id")
        new.metadata = body?["metadata"]?.object ?? [:]
        new.schedulerHints = (request.body["OS-SCH-HNT:scheduler_hints"] ?? body?["scheduler_hints"])?.object ?? [:]
        return new
    }

    static let creationBodies = [
        (versions: 0...12, schema: creation(groups: false, backups: false, strict: false)),
        (versions: 13...46, schema: creation(groups: true, backups: false, strict: false)),
        (versions: 47...52, schema: creation(groups: true, backups: true, strict: false)),
        (versions: 53...71, schema: creation(groups: true, backups: true, strict: true)),
    ]

    // MARK: update

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

    @Sendable private static func update(_ request: APIRequest) async throws -> HTTPResponse {
        let body = request.body["volume"]
        func text(_ name: String, _ older: String) -> JSON? { (body?[name] ?? body?[older]).map { JSON($0.trimmedString) } }
        let id = request.parameters[0]
        let name = text("name", "display_name")
        let description = text("description", "display_description")
        let metadata = body?["metadata"]
        let volume = try await request.change { tx in
            try Volumes.update(id, name: name, description: description, metadata: metadata, caller: request.caller, in: tx)
            return try Volumes.shown(id, to: request.caller, in: tx)
        }
        return HTTPResponse(status: 200, body: .buffer(VolumeView.body(volume, request, extended: false)))
    }

    // MARK: delete

    @Sendable private static func delete(_ request: APIRequest) async throws -> HTTPResponse {
        let cascade = try request.flag("cascade")
        let force = request.version >= 23 ? try request.flag("force") : false
        if force { try request.enforce("volume:force_delete") }
        try await request.change { tx in
            try request.service.requests.delete(request.parameters[0], force: force, cascade: cascade, caller: request.caller, in: tx)
        }
        return HTTPResponse(status: 202, contentType: "text/html; charset=UTF-8")
    }
}
