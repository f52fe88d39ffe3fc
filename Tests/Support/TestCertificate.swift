import CGnuTLS
import Glibc

/// A certificate with its key, made on the spot; one of an authority signs others.
public final class TestCertificate: @unchecked Sendable {
    public enum Kind: Sendable { case rsa, ec }
    public enum Use: Sendable { case server, client, authority }

    private let raw: gnutls_x509_crt_t
    private let key: gnutls_x509_privkey_t
    private let issuer: TestCertificate?

    /// - Parameters:
    ///   - name: its common name.
    ///   - hosts: names and the address 127.0.0.1 that a server's is for.
    ///   - days: when it ends, from now.
    ///   - issuer: who signs it; nil: it signs itself.
    public init(
        _ name: String, _ kind: Kind = .ec, use: Use = .server, hosts: [String] = ["localhost", "127.0.0.1"], days: Int = 30,
        issuer: TestCertificate? = nil
    ) {
        self.issuer = issuer
        var made: gnutls_x509_crt_t?
        var secret: gnutls_x509_privkey_t?
        gnutls_x509_privkey_init(&secret)
        let algorithm = kind == .rsa ? GNUTLS_PK_RSA : GNUTLS_PK_ECDSA
        gnutls_x509_privkey_generate(
            secret, algorithm, gnutls_sec_param_to_pk_bits(algorithm, kind == .rsa ? GNUTLS_SEC_PARAM_MEDIUM : GNUTLS_SEC_PARAM_HIGH), 0)
        gnutls_x509_crt_init(&made)
        raw = made!
        key = secret!
        gnutls_x509_crt_set_version(raw, 3)
        var serial = UInt64.random(in: 1...UInt64(Int64.max)).bigEndian
        gnutls_x509_crt_set_serial(raw, &serial, 8)
        gnutls_x509_crt_set_activation_time(raw, time(nil) - 100 * 86_400)
        gnutls_x509_crt_set_expiration_time(raw, time(nil) + days * 86_400)
        gnutls_x509_crt_set_key(raw, key)
        gnutls_x509_crt_set_dn_by_oid(raw, "2.5.4.3", 0, name, UInt32(name.utf8.count))
        if use == .server {
            for host in hosts {
                if host == "127.0.0.1" {
                    gnutls_x509_crt_set_subject_alt_name(
                        raw, GNUTLS_SAN_IPADDRESS, [127, 0, 0, 1] as [UInt8], 4, UInt32(GNUTLS_FSAN_APPEND))
                } else {
                    gnutls_x509_crt_set_subject_alt_name(
                        raw, GNUTLS_SAN_DNSNAME, host, UInt32(host.utf8.count), UInt32(GNUTLS_FSAN_APPEND))
                }
            }
        }
        gnutls_x509_crt_set_basic_constraints(raw, use == .authority ? 1 : 0, -1)
        switch use {
        case .authority: gnutls_x509_crt_set_key_usage(raw, UInt32(GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN))
        case .server: gnutls_x509_crt_set_key_purpose_oid(raw, "1.3.6.1.5.5.7.3.1", 0)
        case .client: gnutls_x509_crt_set_key_purpose_oid(raw, "1.3.6.1.5.5.7.3.2", 0)
        }
        if use != .authority { gnutls_x509_crt_set_key_usage(raw, UInt32(GNUTLS_KEY_DIGITAL_SIGNATURE)) }
        // Verifiers that are strict want to know which key signed.
        Self.identify(raw, by: raw) { gnutls_x509_crt_set_subject_key_id(raw, $0, $1) }
        Self.identify(raw, by: issuer?.raw ?? raw) { gnutls_x509_crt_set_authority_key_id(raw, $0, $1) }
        gnutls_x509_crt_sign2(raw, issuer?.raw ?? raw, issuer?.key ?? key, GNUTLS_DIG_SHA256, 0)
    }

    deinit {
        gnutls_x509_crt_deinit(raw)
        gnutls_x509_privkey_deinit(key)
    }

    private static func identify(_ raw: gnutls_x509_crt_t, by other: gnutls_x509_crt_t, _ set: (UnsafeRawPointer, Int) -> Int32) {
        var id = [UInt8](repeating: 0, count: 64)
        var count = id.count
        gnutls_x509_crt_get_key_id(other, 0, &id, &count)
        _ = id.withUnsafeBytes { set($0.baseAddress!, count) }
    }

    /// The certificate in PEM.
    public var certificate: String {
        var text = gnutls_datum_t()
        gnutls_x509_crt_export2(raw, GNUTLS_X509_FMT_PEM, &text)
        return Self.taken(text)
    }

    /// Writes the certificate to a new file, and returns its path.
    public func file() -> String {
        let path = temporaryDirectory("certificate") + "/certificate.pem"
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(file) }
        let text = Array(certificate.utf8)
        precondition(write(file, text, text.count) == text.count, "cannot write \(path)")
        return path
    }

    /// It, and those that signed it but the authority.
    public var chain: String {
        var text = certificate
        var next = issuer
        while let one = next, one.issuer != nil {
            text += one.certificate
            next = one.issuer
        }
        return text
    }

    /// The key in PEM.
    public var privateKey: String {
        var text = gnutls_datum_t()
        gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, nil, UInt32(GNUTLS_PKCS_PLAIN.rawValue), &text)
        return Self.taken(text)
    }

    /// Makes it what a server shows.
    func use(in credentials: gnutls_certificate_credentials_t?) {
        var (shown, secret) = (Array(chain.utf8), Array(privateKey.utf8))
        shown.withUnsafeMutableBufferPointer { shown in
            secret.withUnsafeMutableBufferPointer { secret in
                var first = gnutls_datum_t(data: shown.baseAddress, size: UInt32(shown.count))
                var second = gnutls_datum_t(data: secret.baseAddress, size: UInt32(secret.count))
                _ = gnutls_certificate_set_x509_key_mem(credentials, &first, &second, GNUTLS_X509_FMT_PEM)
            }
        }
    }

    private static func taken(_ text: gnutls_datum_t) -> String {
        defer { clinker_gnutls_free(text.data) }
        return String(decoding: UnsafeBufferPointer(start: text.data, count: Int(text.size)), as: UTF8.self)
    }
}
