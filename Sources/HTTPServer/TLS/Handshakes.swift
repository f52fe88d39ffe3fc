import CGnuTLS
import Primitives

/// The handshakes of servers that are under way. GnuTLS's function is everybody's in this process: a session whose pointer is none of
/// these records is a client's, or another library's.
enum Handshakes {
    private static let underWay = Guarded<Set<UnsafeMutableRawPointer>>([])

    /// The record lives as long as the connection, and handshakes are made by its thread alone.
    static func begin(_ session: gnutls_session_t, of connection: Connections.Connection) {
        let record = Unmanaged.passUnretained(connection).toOpaque()
        gnutls_session_set_ptr(session, record)
        underWay.withLock { _ = $0.insert(record) }
    }

    static func finished(_ session: gnutls_session_t) {
        guard let record = gnutls_session_get_ptr(session), underWay.withLock({ $0.remove(record) }) != nil else { return }
        Unmanaged<Connections.Connection>.fromOpaque(record).takeUnretainedValue().finishHandshake()
    }

    /// The connection ends: its record is no longer to be touched.
    static func forget(_ connection: Connections.Connection) {
        underWay.withLock { _ = $0.remove(Unmanaged.passUnretained(connection).toOpaque()) }
    }
}
