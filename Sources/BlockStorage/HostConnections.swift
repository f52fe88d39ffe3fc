public import Database
public import JSON
import Primitives

/// Hosts that os-initialize_connection told where a volume is, until os-terminate_connection: such a connection has no attachment of its
/// own. With the attachments these are all who may be writing to a volume.
public enum HostConnections {
    static let table = ConnectionTable.table
    static let beginSQL = SQL {
        $0.upsert(
            into: "connections", columns: ["volume_id", "host", "connector", "created_at"], key: ["volume_id", "host"],
            changes: [("connector", $0.inserted("connector"))])
    }
    static let ofVolumeSQL = SQL(table.select("WHERE c.volume_id = ? ORDER BY c.created_at, c.host"))

    /// The host that a connector is of; empty if it names none.
    public static func host(of connector: JSON?) -> String { connector?["host"]?.string ?? "" }

    static let othersSQL = SQL("SELECT count(*) FROM connections WHERE volume_id = ? AND host <> ?")

    /// Throws if the volume has as many connections as it may without that of the connector's host.
    public static func checkNumber(_ volumeID: String, connector: JSON, in connection: any Connection) throws {
        let others = try connection.first(othersSQL, .text(volumeID), .text(host(of: connector))) { $0.int(0) } ?? 0
        guard others < Attachments.mostPerVolume else {
            throw StorageError(.conflict, "Volume \(volumeID) is connected to \(others) hosts, the most that it may be.")
        }
    }

    /// Notes, before a host hears where the volume is, that it does.
    public static func begin(_ volume: Locked<Volume>, connector: JSON, in tx: any Transaction) throws {
        try tx.run(beginSQL, .text(volume.id), .text(host(of: connector)), .text(connector.text), .text(tx.now))
    }

    /// Ends the connection of the connector's host; all, where it names no host.
    public static func end(_ volume: Locked<Volume>, connector: JSON?, in tx: any Transaction) throws {
        let host = host(of: connector)
        if host.isEmpty {
            try tx.delete(from: table, table.volumeID(volume.id))
        } else {
            try tx.delete(from: table, table.volumeID(volume.id), table.host(host))
        }
    }

    /// Who was told, by what connector.
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [(host: String, connector: Secret)] {
        try connection.rows(ofVolumeSQL, .text(id)) { ($0[table.host], $0[table.connector]) }
    }

    static let isConnectedSQL = SQL(
        """
        SELECT 1 FROM attachments WHERE volume_id = ? AND (connection_info IS NOT NULL OR attach_status = \(AttachmentStatus.attached.sql))
        UNION ALL SELECT 1 FROM connections WHERE volume_id = ?
        """)
    /// Whether somebody was told where the volume is and has not let go of it, be it by an attachment or without: he may be writing,
    /// whatever the volume's state says. Asked under a claim of the volume: who is connecting waits for it.
    public static func isConnected(_ volumeID: String, in connection: any Connection) throws -> Bool {
        try connection.exists(isConnectedSQL, .text(volumeID), .text(volumeID))
    }

    static let unrestoredSQL = SQL {
        VolumeTable.table.selectLocked(
            """
            WHERE \($0.isWithin("v.host", HostName.poolSeparators))
                AND v.id IN (
                    SELECT a.volume_id FROM attachments a
                    WHERE (a.connector IS NOT NULL OR a.attach_status = \(AttachmentStatus.attached.sql)) AND \($0.rowNumber("a")) <= ?
                    UNION SELECT c.volume_id FROM connections c WHERE \($0.rowNumber("c")) <= ?)
                AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.resource_id = v.id AND o.flow = ? AND o.finished_at IS NULL)
            ORDER BY v.id
            """, $0)
    }
    /// Volumes of a backend with connections from before the mark, whose exports no unfinished operation restores.
    public static func unrestored(of backend: String, upTo last: Mark, in tx: any Transaction) throws -> [Locked<Volume>] {
        let values =
            tx.dialect.prefixValues(backend, HostName.poolSeparators) + [
                .integer(last.attachment), .integer(last.connection), .text(RestoreExportArguments.flow.name),
            ]
        return try tx.lock(Volume.self, unrestoredSQL, values)
    }

    /// A moment: attachments and connections that come later have higher numbers, unless those of then go.
    public struct Mark: Sendable { let attachment, connection: Int64 }

    static let lastSQL = SQL {
        """
        SELECT coalesce(max(\($0.rowNumber("a"))), 0) FROM attachments a
        UNION ALL SELECT coalesce(max(\($0.rowNumber("c"))), 0) FROM connections c
        """
    }
    public static func last(in connection: any Connection) throws -> Mark {
        let last = try connection.rows(lastSQL) { $0.integer(0) }
        return Mark(attachment: last.first ?? 0, connection: last.last ?? 0)
    }

    /// By what connectors, and how, hosts use the volume: those of its attachments, and those that were told without one.
    public static func inUse(_ volume: Volume, in connection: any Connection) throws -> [(connector: Secret, mode: String)] {
        try Attachments.ofVolume(volume.id, in: connection).compactMap { attachment in
            attachment.connectionInfo == nil ? nil : attachment.connector.map { ($0, attachment.mode ?? "rw") }
        } + ofVolume(volume.id, in: connection).map { ($0.connector, mode(of: volume)) }
    }

    /// How a host that has no attachment may use the volume.
    public static func mode(of volume: Volume) -> String { volume.adminMetadata("readonly") == "True" ? "ro" : "rw" }
}
