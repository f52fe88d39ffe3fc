import CGnuTLS
import Glibc
import Primitives

/// The files with which this program speaks TLS to another service, looked at before it does. Whoever uses a bad one says only that it is
/// bad, when the first request needs it.
public struct TLSClientFiles: Sendable {
    /// A file, and the option that names it.
    public struct File: Sendable {
        public var option: String
        public var path: String

        public init(option: String, path: String) {
            self.option = option
            self.path = path
        }
    }

    /// Authorities that the service's certificate is checked against; nil: those of the system.
    public var authorities: File?
    /// What the service is shown; nil: nothing.
    public var certificate: File?
    /// Its key; nil: the certificate's file holds it too.
    public var key: File?
    /// Whether the files must belong to root or the service's user.
    public var isOwned: Bool

    public init(authorities: File?, certificate: File?, key: File?, isOwned: Bool = true) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
        self.isOwned = isOwned
    }

    /// What is wrong with them, a line each with the option's name.
    public func problems() -> [String] {
        var problems: [String] = []
        func read(_ file: File, isSecret: Bool = false) -> [UInt8]? {
            do throws(TLSProblem) { return try TLSFile.read(file.path, isSecret: isSecret, isOwned: isOwned) } catch {
                problems += error.problems.map { "\(file.option): \($0)" }
                return nil
            }
        }
        var credentials: gnutls_certificate_credentials_t?
        guard gnutls_certificate_allocate_credentials(&credentials) >= 0, let credentials else { return ["GnuTLS has no memory"] }
        defer { gnutls_certificate_free_credentials(credentials) }
        if let authorities, var bytes = read(authorities) {
            let count = TLSCredentials.datum(&bytes) { gnutls_certificate_set_x509_trust_mem(credentials, &$0, GNUTLS_X509_FMT_PEM) }
            if count < 0 {
                let why = String(cString: gnutls_strerror(count))
                problems.append("\(authorities.option): \(authorities.path): not whole certificates of authorities in PEM: \(why)")
            } else if count == 0 {
                problems.append("\(authorities.option): \(authorities.path): there is no certificate of an authority in it")
            }
        }
        guard let certificate else {
            if let key { problems.append("\(key.option) is set, and the option of the certificate that it is the key of is not") }
            return problems
        }
        let keyFile = key ?? certificate
        let chain = read(certificate, isSecret: key == nil)
        let secret = key == nil ? chain : read(keyFile, isSecret: true)
        guard var chain, var secret else { return problems }
        defer { secret.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
        let status = TLSCredentials.datum(&chain) { chain in
            TLSCredentials.datum(&secret) { secret in
                gnutls_certificate_set_x509_key_mem2(credentials, &chain, &secret, GNUTLS_X509_FMT_PEM, nil, 0)
            }
        }
        if status < 0 {
            problems.append("\(certificate.option): \(TLSCredentials.words(status, certificate: certificate.path, key: keyFile.path))")
        }
        return problems
    }
}
