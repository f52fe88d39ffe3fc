import BlockStorage
import Database
import HTTPServer
import JSON

/// Volumes as clients see them, written from the row's bytes straight into the answer.
enum VolumeView {
    /// A volume's row with its type and its attachments.
    struct Source {
        let row: CopiedRow
        /// nil: the row has it.
        let type: ShownType?

        var isOfEncryptedType: Bool { type?.isEncrypted ?? row[VolumeTable.table.isOfEncryptedType] }
        let attachments: [Attachment]
    }

    static let view = View<Source>(
        "volume", "volumes", row: { $0.row.cells }, own + related + later + extensions + [ImageMetadataResource.member])

    private typealias Member = Field<Source>
    private static let t = VolumeTable.table

    /// The fields of every microversion.
    private static let own: [Field<Source>] = [
        Member.column("id", .text, t.id),
        Member.written("status", .text) { source, _, writer in writeStatus(source.row, &writer) }.part(.detail),
        Member.column("size", .integer, t.size).part(.detail),
        Member.column("availability_zone", .nullable(.text), t.availabilityZone).part(.detail),
        Member.column("created_at", .time, t.createdAt).part(.detail),
        Member.column("updated_at", .nullable(.time), t.updatedAt).part(.detail),
        Member.column("name", .nullable(.text), t.name),
        Member.column("description", .nullable(.text), t.description).part(.detail),
        Member.written("volume_type", .nullable(.text)) { source, _, writer in
            if let type = source.type { writer.string(type.name) } else { writer.string(source.row[t.typeName]) }
        }.part(.detail),
    ]

    /// What it is of, and what belongs to it.
    private static let related: [Field<Source>] = [
        Member.column("snapshot_id", .nullable(.text), t.snapshotID).part(.detail),
        Member.column("source_volid", .nullable(.text), t.sourceVolumeID).part(.detail),
        Member.written("metadata", .map(.text)) { source, _, writer in writeMetadata(source.row, &writer) }.part(.detail),
        Member.links("volumes/") { source, write in if let id = source.row.bytes(t.id) { write(id) } },
        Member.column("user_id", .text, t.userID).part(.detail),
        Member.choice("bootable", ["true", "false"]) { $0.row[t.bootable] ? "true" : "false" }.part(.detail),
        Member.flag("encrypted") { $0.isOfEncryptedType || !$0.row.isNull(t.encryptionKeyID) }.part(.detail),
        Member.column("replication_status", .nullable(.text), t.replicationStatus).part(.detail),
        Member.null("consistencygroup_id").part(.detail),
        Member.column("multiattach", .boolean, t.multiattach).part(.detail),
        Member.written("attachments", .list(attachment.shape(.whole, version: 0))) { source, request, writer in
            writer.beginArray()
            if !source.attachments.isEmpty {
                let plan = attachment.plan(.whole, for: request)
                for attached in source.attachments where attached.status == .attached { plan.write(attached, &writer) }
            }
            writer.endArray()
        }.part(.detail),
        Member.column("migration_status", .nullable(.text), t.migrationStatus).part(.detail).forAdministrators(),
    ]

    /// What came with microversions.
    private static let later: [Field<Source>] = [
        Member.column("group_id", .nullable(.text), t.groupID).part(.detail).since(13),
        Member.column("provider_id", .nullable(.text), t.providerID).part(.detail).since(21).forAdministrators(),
        Member.written("shared_targets", .nullable(.boolean)) { source, request, writer in
            // Null is a driver's third answer, which clients understand since 3.69.
            let isUnknown = source.row.isNull(t.sharedTargets)
            if isUnknown, request.version >= 69 { writer.null() } else { writer.bool(source.row[t.sharedTargets] ?? true) }
        }.part(.detail).since(48),
        Member.column("service_uuid", .nullable(.text), t.serviceID).part(.detail).since(48),
        Member.column("cluster_name", .nullable(.text), t.clusterName).part(.detail).since(61).forAdministrators(),
        Member.column("volume_type_id", .text, t.volumeTypeID).part(.detail).since(63),
        Member.column("encryption_key_id", .text, t.encryptionKeyID).part(.detail).since(64)
            .when(t.encryptionKeyID, isLongerThan: 0),
        Member.column("consumes_quota", .boolean, t.consumesQuota).part(.detail).since(65),
    ]

    /// What the extensions os-vol-tenant-attr, os-vol-mig-status-attr and os-vol-host-attr add.
    private static let extensions: [Field<Source>] = [
        Member.column("os-vol-tenant-attr:tenant_id", .text, t.projectID).part(.extensions)
            .rule("volume_extension:volume_tenant_attribute"),
        Member.column("os-vol-mig-status-attr:migstat", .nullable(.text), t.migrationStatus).part(.extensions)
            .rule("volume_extension:volume_mig_status_attribute"),
        Member.column("os-vol-mig-status-attr:name_id", .nullable(.text), t.nameID).part(.extensions)
            .rule("volume_extension:volume_mig_status_attribute"),
        Member.column("os-vol-host-attr:host", .nullable(.text), t.host).part(.extensions)
            .rule("volume_extension:volume_host_attribute"),
    ]

    /// An attachment inside its volume.
    private static let attachment = View<Attachment>(
        "attachment", "attachments", describedAs: "VolumeAttachment",
        [
            .text("id") { $0.volumeID },
            .text("attachment_id") { $0.id },
            .text("volume_id") { $0.volumeID },
            .optionalText("server_id") { $0.instanceID },
            .written("host_name", .nullable(.text)) { attachment, request, writer in
                if request.identity.isAdmin, let host = attachment.attachedHost { writer.string(host) } else { writer.null() }
            },
            .optionalText("device") { $0.mountpoint },
            .optionalTime("attached_at") { $0.attachedAt },
        ])

    private static func writeStatus(_ row: CopiedRow, _ writer: inout JSONWriter) {
        guard let bytes = row.bytes(t.status) else { return writer.null() }
        // The few states with another name outside contain "managing".
        if bytes.count >= 8, bytes.last == UInt8(ascii: "g"), let first = bytes.first,
            first == UInt8(ascii: "m") || first == UInt8(ascii: "e")
        {
            writer.string(row[t.status].shown.rawValue)
        } else {
            writer.string(bytes)
        }
    }

    /// The user's metadata, with the administrator's that users may see.
    private static func writeMetadata(_ row: CopiedRow, _ writer: inout JSONWriter) {
        guard let text = row.bytes(t.metadata), let admin = row.bytes(t.adminMetadata) else { return writer.null() }
        if admin.count == 2 { return writer.raw(text) }
        var merged = (try? JSON(parsing: row[t.metadata]))?.object ?? [:]
        let visible = (try? JSON(parsing: row[t.adminMetadata]))?.object ?? [:]
        for name in ["readonly", "attached_mode"] where visible[name] != nil { merged[name] = visible[name] }
        writer.value(.object(merged))
    }
}

extension Reply where Output == VolumeRows {
    /// One volume.
    static func volume(_ parts: Parts, status: Int = 200) -> Reply {
        let view = VolumeView.view
        return Reply(status: status, shape: { Shape.of("\(view.name)", view.shape(parts, version: $0)) }) { rows, request in
            let plan = view.plan(parts, for: request)
            return .json(status, capacity: 2048) { writer in
                writer.beginObject()
                rows.forEach { row, type, attachments in
                    writer.key(view.name)
                    plan.write(VolumeView.Source(row: row, type: type, attachments: attachments), &writer)
                }
                writer.endObject()
            }
        }
    }
}
