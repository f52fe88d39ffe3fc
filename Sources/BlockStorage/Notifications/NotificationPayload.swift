import Database
import JSON

/// What a notification says of its subject: the members of Cinder's payloads, as JSON text. What attachments know of their hosts' connections
/// holds secrets, and is never a part of it.
struct NotificationPayload {
    let text: String
    /// The volume that it is about, so that what is said of it, its snapshots and its backups keeps its order.
    let volumeID: String
    /// `node@backend`, where there is one.
    let host: String?

    /// As the subject is now; nil if there is none.
    static func of(
        _ subject: NotificationRule.Subject, _ id: String, in connection: any Connection
    ) throws -> NotificationPayload? {
        switch subject {
        case .volume: try ofVolume(id, in: connection)
        case .snapshot: try ofSnapshot(id, in: connection)
        case .backup: try ofBackup(id, in: connection)
        }
    }

    private static let volumeSQL = SQL(
        """
        SELECT project_id, host, user_id, availability_zone, volume_type_id, name, launched_at, created_at, status, snapshot_id, size,
            replication_status, metadata, image_metadata FROM volumes WHERE id = ?
        """)
    private static let attachmentsSQL = SQL(
        """
        SELECT id, instance_id, attached_host, mountpoint, attached_at, detached_at, attach_status, attach_mode, project_id FROM attachments
            WHERE volume_id = ? ORDER BY created_at, id
        """)

    private static func ofVolume(_ id: String, in connection: any Connection) throws -> NotificationPayload? {
        var host: String?
        var writer = JSONWriter(capacity: 1024)
        var isFound = false
        var imageMetadata = "{}"
        try connection.query(volumeSQL, [.text(id)]) { row in
            isFound = true
            host = row.optionalText(1)
            writer.beginObject()
            writer.member("tenant_id", row.text(0))
            writer.member("host", host)
            writer.member("user_id", row.text(2))
            writer.member("availability_zone", row.optionalText(3))
            writer.member("volume_id", id)
            writer.member("volume_type", row.text(4))
            writer.member("display_name", row.optionalText(5))
            // Cinder says the present where there is no time yet.
            writer.member("launched_at", zoned(row.optionalText(6) ?? row.text(7)))
            writer.member("created_at", zoned(row.text(7)))
            writer.member("status", row.text(8) == "error_managing_deleting" ? "deleting" : row.text(8))
            writer.member("snapshot_id", row.optionalText(9))
            writer.member("size", row.int(10))
            writer.member("replication_status", row.optionalText(11))
            writer.memberNull("replication_extended_status")
            writer.memberNull("replication_driver_data")
            writer.key("metadata")
            try write(items: row.text(12), &writer)
            imageMetadata = row.text(13)
            return false
        }
        guard isFound else { return nil }
        writer.key("volume_attachment")
        writer.beginArray()
        try connection.query(attachmentsSQL, [.text(id)]) { row in
            writer.beginObject()
            writer.member("id", row.text(0))
            writer.member("volume_id", id)
            writer.member("instance_uuid", row.optionalText(1))
            writer.member("attached_host", row.optionalText(2))
            writer.member("mountpoint", row.optionalText(3))
            writer.member("attach_time", row.optionalText(4).map { zoned($0) })
            writer.member("detach_time", row.optionalText(5).map { zoned($0) })
            writer.member("attach_status", row.text(6))
            writer.member("attach_mode", row.optionalText(7))
            writer.member("project_id", row.text(8))
            writer.endObject()
            return true
        }
        writer.endArray()
        if imageMetadata != "{}" {
            writer.key("glance_metadata")
            try write(items: imageMetadata, &writer)
        }
        writer.endObject()
        return NotificationPayload(text: writer.takeString(), volumeID: id, host: host.map { HostName.backend(of: $0) })
    }

    private static let snapshotSQL = SQL(
        """
        SELECT s.project_id, s.user_id, v.availability_zone, s.volume_id, s.size, s.name, s.created_at, s.status, s.metadata, v.host
            FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE s.id = ?
        """)

    private static func ofSnapshot(_ id: String, in connection: any Connection) throws -> NotificationPayload? {
        try connection.first(snapshotSQL, .text(id)) { row in
            var writer = JSONWriter(capacity: 512)
            writer.beginObject()
            writer.member("tenant_id", row.text(0))
            writer.member("user_id", row.text(1))
            writer.member("availability_zone", row.optionalText(2))
            writer.member("volume_id", row.text(3))
            writer.member("volume_size", row.int(4))
            writer.member("snapshot_id", id)
            writer.member("display_name", row.optionalText(5))
            writer.member("created_at", zoned(row.text(6)))
            writer.member("status", row.text(7))
            // Texts, in Cinder too: of nothing, and of a dictionary as Python prints it.
            writer.member("deleted", "")
            writer.member("metadata", try python(row.text(8)))
            writer.endObject()
            return NotificationPayload(
                text: writer.takeString(), volumeID: row.text(3), host: row.optionalText(9).map { HostName.backend(of: $0) })
        }
    }

    private static let backupSQL = SQL(
        """
        SELECT project_id, user_id, availability_zone, host, name, created_at, status, volume_id, size, service_metadata, service, fail_reason,
            parent_id, snapshot_id, (SELECT count(*) FROM backups d WHERE d.parent_id = b.id) FROM backups b WHERE id = ?
        """)

    private static func ofBackup(_ id: String, in connection: any Connection) throws -> NotificationPayload? {
        try connection.first(backupSQL, .text(id)) { row in
            var writer = JSONWriter(capacity: 512)
            writer.beginObject()
            writer.member("tenant_id", row.text(0))
            writer.member("user_id", row.text(1))
            writer.member("availability_zone", row.optionalText(2))
            writer.member("backup_id", id)
            writer.member("host", row.optionalText(3))
            writer.member("display_name", row.optionalText(4))
            writer.member("created_at", zoned(row.text(5)))
            writer.member("status", row.text(6))
            writer.member("volume_id", row.text(7))
            writer.member("size", row.int(8))
            writer.member("service_metadata", row.optionalText(9))
            writer.member("service", row.optionalText(10))
            writer.member("fail_reason", row.optionalText(11))
            writer.member("parent_id", row.optionalText(12))
            writer.member("num_dependent_backups", row.int(14))
            writer.member("snapshot_id", row.optionalText(13))
            writer.endObject()
            return NotificationPayload(text: writer.takeString(), volumeID: row.text(7), host: row.optionalText(3))
        }
    }

    // MARK: forms

    /// With the zone that Python's `isoformat` gives a time of the database.
    private static func zoned(_ time: String) -> String { time + "+00:00" }

    /// An object of texts as a list of objects with `key` and `value`.
    private static func write(items text: String, _ writer: inout JSONWriter) throws {
        writer.beginArray()
        if text != "{}" {
            for (name, value) in (try JSON(parsing: text)).object?.members ?? [] {
                writer.beginObject()
                writer.member("key", name)
                writer.key("value")
                writer.value(value)
                writer.endObject()
            }
        }
        writer.endArray()
    }

    /// An object of texts as Python's `str` of a dictionary; nothing for an empty one.
    private static func python(_ text: String) throws -> String {
        guard text != "{}", let members = (try JSON(parsing: text)).object?.members, !members.isEmpty else { return "" }
        return "{" + members.map { "\(quoted($0.name)): \($0.value.string.map { quoted($0) } ?? "None")" }.joined(separator: ", ") + "}"
    }

    private static func quoted(_ text: String) -> String {
        let mark: Unicode.Scalar = text.unicodeScalars.contains("'") && !text.unicodeScalars.contains("\"") ? "\"" : "'"
        var result = String.UnicodeScalarView([mark])
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result.append(contentsOf: "\\n".unicodeScalars)
            case "\t": result.append(contentsOf: "\\t".unicodeScalars)
            case "\r": result.append(contentsOf: "\\r".unicodeScalars)
            case "\\", mark:
                result.append("\\")
                result.append(scalar)
            default: result.append(scalar)
            }
        }
        result.append(mark)
        return String(result)
    }
}
