public import Database
public import JSON
import Primitives

/// Hosts that os-initialize_connection told where a volume is, until os-terminate_connection: such a connection has no attachment of its
/// own. With the attachments these are all who may be writing to a volume.
public enum HostConnections {
    static let beginSQL = SQL(
        """
        INSERT INTO connections (volume_id, host, connector, created_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (volume_id, host) DO UPDATE SET connector = excluded.connector
        """)
    static let ofVolumeSQL = SQL("SELECT host, connector FROM connections WHERE volume_id = ? ORDER BY created_at, host")
    static let endSQL = SQL("DELETE FROM connections WHERE volume_id = ? AND host = ?")
    static let endAllSQL = SQL("DELETE FROM connections WHERE volume_id = ?")

    /// The host that a connector is of; empty if it names none.
    public static func host(of connector: JSON?) -> String { connector?["host"]?.string ?? "" }

    /// Notes, before a host hears where the volume is, that it does.
    public static func begin(_ volumeID: String, connector: JSON, in tx: any Transaction) throws {
        try tx.run(beginSQL, .text(volumeID), .text(host(of: connector)), .text(connector.text), .text(tx.now))
    }

    /// Ends the connection of the connector's host; all, where it names no host.
    public static func end(_ volumeID: String, connector: JSON?, in tx: any Transaction) throws {
        let host = host(of: connector)
        if host.isEmpty { try tx.run(endAllSQL, .text(volumeID)) } else { try tx.run(endSQL, .text(volumeID), .text(host)) }
    }

    /// Who was told, by what connector.
    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [(host: String, connector: Secret)] {
        try connection.rows(ofVolumeSQL, .text(id)) { ($0.text(0), Secret($0.text(1))) }
    }

    static let isConnectedSQL = SQL(
        """
        SELECT 1 FROM attachments WHERE volume_id = ?1 AND (connection_info IS NOT NULL OR attach_status = 'attached')
        UNION ALL SELECT 1 FROM connections WHERE volume_id = ?1
        """)
    /// Whether somebody was told where the volume is and has not let go of it, be it by an attachment or without: he may be writing,
    /// whatever the volume's state says. Asked under a claim of the volume: who is connecting waits for it.
    public static func isConnected(_ volumeID: String, in connection: any Connection) throws -> Bool {
        try connection.exists(isConnectedSQL, .text(volumeID))
    }
}
