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

    /// Notes, before a host hears where the volume is, that it does.
    public static func begin(_ volumeID: String, connector: JSON, in tx: any Transaction) throws {
        try tx.run(beginSQL, .text(volumeID), .text(host(of: connector)), .text(connector.text), .text(tx.now))
    }

    /// Ends the connection of the connector's host; all, where it names no host.
    public static func end(_ volumeID: String, connector: JSON?, in tx: any Transaction) throws {
        let host = host(of: connector)
        if host.isEmpty {
            try tx.delete(from: table, table.volumeID(volumeID))
        } else {
            try tx.delete(from: table, table.volumeID(volumeID), table.host(host))
        }
    }

    /// Who was told, by what connector.
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [(host: String, connector: Secret)] {
        try connection.rows(ofVolumeSQL, .text(id)) { ($0[table.host], $0[table.connector]) }
    }

    static let isConnectedSQL = SQL(
        """
        SELECT 1 FROM attachments WHERE volume_id = ? AND (connection_info IS NOT NULL OR attach_status = 'attached')
        UNION ALL SELECT 1 FROM connections WHERE volume_id = ?
        """)
    /// Whether somebody was told where the volume is and has not let go of it, be it by an attachment or without: he may be writing,
    /// whatever the volume's state says. Asked under a claim of the volume: who is connecting waits for it.
    public static func isConnected(_ volumeID: String, in connection: any Connection) throws -> Bool {
        try connection.exists(isConnectedSQL, .text(volumeID), .text(volumeID))
    }
}
