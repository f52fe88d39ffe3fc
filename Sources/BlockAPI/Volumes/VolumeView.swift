import BlockStorage
import Database
import JSON

/// Volumes as clients see them, written from the row's bytes straight into the answer.
enum VolumeView {
    /// A volume's row with its attachments.
    struct Source {
        let row: any Row
        let attachments: [Attachment]
    }

    static func summary(_ row: any Row, _ request: APIRequest, _ writer: inout JSONWriter) {
        guard let id = row.bytes(.id) else { return }
        writer.beginObject()
        writer.member("id", id)
        writer.member("name", row.bytes(.name))
        request.links.write("volumes/", id, &writer)
        writer.endObject()
    }

    /// `extended`: with the fields of the extensions, as in show and detail.
    static func detail(_ source: Source, _ request: APIRequest, extended: Bool, _ writer: inout JSONWriter) {
        let row = source.row
        guard let id = row.bytes(.id) else { return }
        let version = request.version
        writer.beginObject()
        writer.member("id", id)
        status(row, &writer)
        writer.member("size", row.integer(.size))
        writer.member("availability_zone", row.bytes(.availabilityZone))
        writer.member("created_at", row.bytes(.createdAt))
        writer.member("updated_at", row.bytes(.updatedAt))
        writer.member("name", row.bytes(.name))
        writer.member("description", row.bytes(.description))
        writer.member("volume_type", row.bytes(.typeName))
        writer.member("snapshot_id", row.bytes(.snapshotID))
        writer.member("source_volid", row.bytes(.sourceVolumeID))
        metadata(row, &writer)
        request.links.write("volumes/", id, &writer)
        writer.member("user_id", row.bytes(.userID))
        writer.member("bootable", row.bool(.bootable) ? "true" : "false")
        writer.member("encrypted", !row.isNull(.encryptionKeyID))
        writer.member("replication_status", row.bytes(.replicationStatus))
        writer.memberNull("consistencygroup_id")
        writer.member("multiattach", row.bool(.multiattach))
        attachments(source, request, &writer)
        if request.identity.isAdmin { writer.member("migration_status", row.bytes(.migrationStatus)) }
        if version >= 13 { writer.member("group_id", row.bytes(.groupID)) }
        if version >= 21, request.identity.isAdmin { writer.member("provider_id", row.bytes(.providerID)) }
        if version >= 48 {
            // Null is a driver's third answer, which clients understand since 3.69.
            if !row.isNull(.sharedTargets) {
                writer.member("shared_targets", row.bool(.sharedTargets))
            } else if version >= 69 {
                writer.memberNull("shared_targets")
            } else {
                writer.member("shared_targets", true)
            }
            writer.member("service_uuid", row.bytes(.serviceID))
        }
        if version >= 61, request.identity.isAdmin { writer.member("cluster_name", row.bytes(.clusterName)) }
        if version >= 63 { writer.member("volume_type_id", row.bytes(.volumeTypeID)) }
        if version >= 64, let key = row.bytes(.encryptionKeyID) { writer.member("encryption_key_id", key) }
        if version >= 65 { writer.member("consumes_quota", row.bool(.consumesQuota)) }
        if extended { for fields in request.service.volumeFields { fields(source, request, &writer) } }
        writer.endObject()
    }

    private static func status(_ row: any Row, _ writer: inout JSONWriter) {
        guard let bytes = row.bytes(.status) else { return }
        // The few states with another name outside contain "managing".
        if bytes.count >= 8, bytes.last == UInt8(ascii: "g"), let first = bytes.first,
            first == UInt8(ascii: "m") || first == UInt8(ascii: "e")
        {
            writer.member("status", VolumeStatus.shown(row.text(.status)))
        } else {
            writer.member("status", bytes)
        }
    }

    /// The user's metadata, with the administrator's that users may see.
    private static func metadata(_ row: any Row, _ writer: inout JSONWriter) {
        writer.key("metadata")
        guard let text = row.bytes(.metadata), let admin = row.bytes(.adminMetadata) else { return writer.null() }
        if admin.count == 2 { return writer.raw(text) }
        var merged = (try? JSON(parsing: row.text(.metadata)))?.object ?? [:]
        let visible = (try? JSON(parsing: row.text(.adminMetadata)))?.object ?? [:]
        for name in ["readonly", "attached_mode"] where visible[name] != nil { merged[name] = visible[name] }
        writer.value(.object(merged))
    }

    private static func attachments(_ source: Source, _ request: APIRequest, _ writer: inout JSONWriter) {
        writer.key("attachments")
        writer.beginArray()
        for attachment in source.attachments where attachment.status == "attached" {
            writer.beginObject()
            writer.member("id", attachment.volumeID)
            writer.member("attachment_id", attachment.id)
            writer.member("volume_id", attachment.volumeID)
            writer.member("server_id", attachment.instanceID)
            writer.member("host_name", request.identity.isAdmin ? attachment.attachedHost : nil)
            writer.member("device", attachment.mountpoint)
            writer.member("attached_at", attachment.attachedAt)
            writer.endObject()
        }
        writer.endArray()
    }

    /// `{"volume": {...}}` of one volume.
    static func body(_ volume: VolumeRows, _ request: APIRequest, extended: Bool) -> JSONWriter.Buffer {
        var writer = JSONWriter(capacity: 2048)
        writer.beginObject()
        volume.forEach { row, attachments in
            writer.key("volume")
            detail(Source(row: row, attachments: attachments), request, extended: extended, &writer)
        }
        writer.endObject()
        return writer.take()
    }
}
