import BlockStorage
import Database
import HTTPServer
import JSON
import OpenStack
import Policy
import Primitives

extension VolumeActionResource {
    /// What makes images of volumes, and writes images over them.
    var imaging: [APIOperation] {
        [
            APIOperation(
                "volumes:os-volume_upload_image", "POST", "/volumes/{id}/action", action: Self.uploadKey,
                policies: ["volume_extension:volume_actions:upload_image"],
                bodies: [(0...0, Self.uploadBody(withVisibility: false)), (1...71, Self.uploadBody(withVisibility: true))],
                answers: Self.uploadAnswer, summary: "Make an image of a volume", handler: upload),
            APIOperation(
                "volumes:os-reimage", "POST", "/volumes/{id}/action", action: Self.reimageKey, versions: 68...71,
                policies: ["volume:reimage"],
                body: .action(
                    Self.reimageKey, .object([("image_id", .uuid), ("reimage_reserved", .boolean)], required: ["image_id"])),
                answers: .empty(202), summary: "Write an image over a volume", handler: reimage),
        ]
    }

    private static let uploadKey = "os-volume_upload_image"
    private static let reimageKey = "os-reimage"

    private static func uploadBody(withVisibility: Bool) -> Schema {
        var members: [(name: String, schema: Schema)] = [
            ("image_name", .string(1, 255)), ("force", .boolean),
            ("disk_format", .choice("raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop")),
            ("container_format", .string(nullable: true, format: .description)),
        ]
        if withVisibility {
            members += [("visibility", .choice("community", "public", "private", "shared")), ("protected", .boolean)]
        }
        return .action(uploadKey, .object(members, required: ["image_name"]))
    }

    /// What was made, and of what.
    struct Upload: Sendable {
        let volume: VolumeRows
        let type: JSON
        /// What the Image service says of the image.
        let image: JSON
    }

    private static var uploadAnswer: Reply<Upload> {
        let members: [Shape.Member] = [
            Shape.Member("id", .text), Shape.Member("updated_at", .nullable(.time)), Shape.Member("status", .text),
            Shape.Member("display_description", .nullable(.text)), Shape.Member("size", .integer),
            Shape.Member("volume_type", .map(.any)), Shape.Member("image_id", .text), Shape.Member("container_format", .nullable(.text)),
            Shape.Member("disk_format", .nullable(.text)), Shape.Member("image_name", .nullable(.text)),
            Shape.Member("protected", .boolean, isOptional: true), Shape.Member("visibility", .text, isOptional: true),
        ]
        return Reply(status: 202, shape: { _ in Shape.of(uploadKey, .object(members)) }) { upload, _ in
            let t = VolumeTable.table
            var answer: JSONObject = [:]
            upload.volume.forEach { row, _, _ in
                answer["id"] = .string(row[t.id])
                answer["updated_at"] = JSON(row[t.updatedAt])
                answer["status"] = .string(row[t.status].rawValue)
                answer["display_description"] = JSON(row[t.description])
                answer["size"] = JSON(row[t.size])
            }
            answer["volume_type"] = upload.type
            answer["image_id"] = upload.image["id"]
            for name in ["container_format", "disk_format"] { answer[name] = upload.image[name] ?? .null }
            answer["image_name"] = upload.image["name"] ?? .null
            for name in ["protected", "visibility"] { answer[name] = upload.image[name] }
            let body = answer
            return .json(202) { $0.value(.object([uploadKey: .object(body)])) }
        }
    }

    @Sendable private func upload(_ request: APIRequest) async throws -> Upload {
        let (id, body) = (request.parameters[0], request.body[Self.uploadKey])
        let container = body?["container_format"]?.string ?? "bare"
        let isForced = body?["force"]?.lenientBool ?? false
        var new = NewImage(
            id: UUID.random(), name: body?["image_name"]?.string ?? "", diskFormat: body?["disk_format"]?.string ?? "raw",
            containerFormat: container)
        if request.version >= 1 {
            new.visibility = body?["visibility"]?.string ?? "private"
            new.isProtected = body?["protected"]?.lenientBool ?? false
            if new.visibility == "public" { try request.enforce("volume_extension:volume_actions:upload_public") }
        }
        let image = new
        _ = try await store.read { try Volumes.get(id, for: request.caller, in: $0) }
        // Of many who ask at a time one is served: the others need not make images in vain, which the Image service then may not delete.
        guard sentVolumes.withLock({ $0.insert(id).inserted }) else {
            throw StorageError.invalidVolume("An image is being made of volume \(id) just now.")
        }
        defer { sentVolumes.withLock { _ = $0.remove(id) } }
        let members = try await store.read {
            try requests.checkUpload(of: id, to: image, isForced: isForced, caller: request.caller, in: $0)
            return try requests.description(of: image, from: id, in: $0)
        }
        guard container != "compressed" else {
            throw HTTPError.badRequest("Image compression upload disallowed, but container_format is compressed")
        }
        let glance = try images.requireGlance()
        let made: JSON
        do {
            switch try await glance.create(members, for: request.imageAsker) {
            case .made(let answer): made = answer
            case .refused(_, let words): throw HTTPError.badRequest(words)
            }
        } catch let error as Unavailable { throw ImageFinder.unavailable(error) }
        do {
            return try await store.write { tx in
                try requests.upload(id, to: image, isForced: isForced, caller: request.caller, in: tx)
                let type = try VolumeTypes.get(try Volumes.get(id, for: request.caller, in: tx).volumeTypeID, in: tx)
                return Upload(
                    volume: try Volumes.shown(id, to: request.caller, in: tx), type: Self.shown(type, to: request), image: made)
            }
        } catch {
            // Somebody else was quicker with the volume: an image of which nothing will come.
            _ = try? await glance.deleteUnfinished(image.id, for: request.imageAsker)
            throw error
        }
    }

    /// A type as Cinder's answer has it.
    private static func shown(_ type: VolumeType, to request: APIRequest) -> JSON {
        [
            "id": .string(type.id), "name": .string(type.name), "description": JSON(type.description), "is_public": .bool(type.isPublic),
            "extra_specs": .object(VolumeTypeView.visibleSpecs(of: type, to: request)), "qos_specs_id": JSON(type.qosSpecsID),
            "created_at": .string(type.createdAt), "updated_at": JSON(type.updatedAt), "deleted": false, "deleted_at": nil,
        ]
    }

    @Sendable private func reimage(_ request: APIRequest) async throws {
        let (id, body) = (request.parameters[0], request.body[Self.reimageKey])
        let allowsReserved = body?["reimage_reserved"]?.lenientBool ?? false
        let volume = try await store.read { try Volumes.get(id, for: request.caller, in: $0) }
        if volume.status == .reserved { try request.enforce("volume:reimage_reserved") }
        let image = try await images.image(body?["image_id"]?.string ?? "", for: request)
        try await store.write {
            try requests.reimage(id, from: image, allowsReserved: allowsReserved, caller: request.caller, in: $0)
        }
    }
}
