import CGnuTLS
import Glibc

/// Replaces GnuTLS's function for libmicrohttpd, which closes the connection of a handshake that failed without telling the client why. It is
/// over when everything that the client sent is verified, and not before.
@c(gnutls_handshake)
public func handshakeOfLibrary(_ session: gnutls_session_t?) -> Int32 {
    let status = shakeHands(session)
    if let session, status < 0, gnutls_error_is_fatal(status) != 0 { gnutls_alert_send_appropriate(session, status) }
    if status == GNUTLS_E_SUCCESS, let session { Handshakes.finished(session) }
    return status
}

private let shakeHands: @convention(c) (gnutls_session_t?) -> Int32 = {
    // RTLD_NEXT
    guard let function = dlsym(UnsafeMutableRawPointer(bitPattern: -1), "gnutls_handshake") else { return { _ in GNUTLS_E_INTERNAL_ERROR } }
    return unsafeBitCast(function, to: (@convention(c) (gnutls_session_t?) -> Int32).self)
}()
