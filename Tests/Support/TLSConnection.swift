import CGnuTLS
import Glibc

/// A client's TLS connection to 127.0.0.1, blocking.
public final class TLSConnection: @unchecked Sendable {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
        /// The alert that the server sent, if it sent one.
        public let alert: String?
    }

    /// The socket below.
    public let descriptor: Int32
    private let session: gnutls_session_t
    private let name: UnsafeMutablePointer<CChar>?
    private var credentials: gnutls_certificate_credentials_t?

    /// Connects and shakes hands.
    ///
    /// - Parameters:
    ///   - authorities: PEM of those that are trusted.
    ///   - host: the name that the server's certificate must be for.
    ///   - showing: the client's own certificate.
    ///   - priorities: as GnuTLS reads them.
    ///   - spoilsFinished: whether the last message of the handshake is a wrong one, well encrypted.
    public init(
        _ port: UInt16, authorities: String, host: String = "localhost", showing own: TestCertificate? = nil,
        priorities: String = "NORMAL", spoilsFinished: Bool = false
    ) throws {
        descriptor = try Loopback.connect(port)
        // GnuTLS keeps the pointer.
        name = strdup(host)
        var made: gnutls_session_t?
        gnutls_init(&made, UInt32(GNUTLS_CLIENT.rawValue | GNUTLS_NO_SIGNAL.rawValue))
        session = made!
        gnutls_certificate_allocate_credentials(&credentials)
        guard gnutls_priority_set_direct(session, priorities, nil) >= 0 else {
            throw Failure(description: "no such priorities: \(priorities)", alert: nil)
        }
        Self.datum(authorities) { text in gnutls_certificate_set_x509_trust_mem(credentials, text, GNUTLS_X509_FMT_PEM) }
        if let own {
            Self.datum(own.chain) { chain in
                Self.datum(own.privateKey) { key in gnutls_certificate_set_x509_key_mem(credentials, chain, key, GNUTLS_X509_FMT_PEM) }
            }
        }
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials))
        gnutls_session_set_verify_cert(session, name, 0)
        gnutls_transport_set_int2(session, descriptor, descriptor)
        gnutls_handshake_set_timeout(session, 10_000)
        if spoilsFinished {
            gnutls_handshake_set_hook_function(session, UInt32(GNUTLS_HANDSHAKE_FINISHED.rawValue), Int32(GNUTLS_HOOK_PRE)) {
                _, _, _, incoming, message in
                // What is about to be sent; GnuTLS encrypts it afterwards.
                if incoming == 0, let message, message.pointee.size > 0 { message.pointee.data[Int(message.pointee.size) - 1] ^= 1 }
                return 0
            }
        }
        try check(gnutls_handshake(session))
    }

    deinit {
        gnutls_deinit(session)
        gnutls_certificate_free_credentials(credentials)
        free(name)
        close(descriptor)
    }

    private static func datum<T>(_ text: String, _ body: (UnsafePointer<gnutls_datum_t>) -> T) {
        var bytes = Array(text.utf8)
        bytes.withUnsafeMutableBufferPointer { buffer in
            var datum = gnutls_datum_t(data: buffer.baseAddress, size: UInt32(buffer.count))
            _ = body(&datum)
        }
    }

    private func check(_ status: Int32) throws {
        guard status < 0 else { return }
        let alert = status == GNUTLS_E_FATAL_ALERT_RECEIVED ? String(cString: gnutls_alert_get_name(gnutls_alert_get(session))) : nil
        let verdict =
            status == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR
            ? "0x" + String(gnutls_session_get_verify_cert_status(session), radix: 16) : nil
        throw Failure(
            description: String(cString: gnutls_strerror(status)) + ((alert ?? verdict).map { ": " + $0 } ?? ""), alert: alert)
    }

    /// Such as `TLS1.3`.
    public var version: String { String(cString: gnutls_protocol_get_name(gnutls_protocol_get_version(session))) }

    /// The server's certificate, DER.
    public var certificate: [UInt8] {
        var count: UInt32 = 0
        guard let peers = gnutls_certificate_get_peers(session, &count), count > 0 else { return [] }
        return Array(UnsafeBufferPointer(start: peers[0].data, count: Int(peers[0].size)))
    }

    /// Sends everything; false if the other end went first.
    @discardableResult
    public func send(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { gnutls_record_send(session, $0.baseAddress! + sent, bytes.count - sent) }
            if count == Int(GNUTLS_E_INTERRUPTED) || count == Int(GNUTLS_E_AGAIN) { continue }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// Reads until the other end closes or is silent for that many milliseconds; what failed is thrown.
    public func receive(silence: Int, until end: String? = nil) throws -> (text: String, isClosed: Bool) {
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        gnutls_record_set_timeout(session, UInt32(silence))
        while true {
            let count = gnutls_record_recv(session, &buffer, buffer.count)
            if count == Int(GNUTLS_E_INTERRUPTED) { continue }
            if count == Int(GNUTLS_E_TIMEDOUT) || count == Int(GNUTLS_E_AGAIN) { return (String(decoding: received, as: UTF8.self), false) }
            if count < 0 { try check(Int32(count)) }
            if count == 0 { return (String(decoding: received, as: UTF8.self), true) }
            received += buffer[..<count]
            if let end, String(decoding: received, as: UTF8.self).hasSuffix(end) {
                return (String(decoding: received, as: UTF8.self), false)
            }
        }
    }

    /// Asks for new keys as TLS 1.2 allows (renegotiation); what came of it.
    public func renegotiate() -> String {
        gnutls_handshake_set_timeout(session, 3_000)
        let status = gnutls_handshake(session)
        return status == 0 ? "done" : String(cString: gnutls_strerror(status))
    }
}
