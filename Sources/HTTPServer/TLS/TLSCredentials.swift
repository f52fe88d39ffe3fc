import CGnuTLS
import Glibc
import Primitives

/// Certificate, key, authorities and algorithms as they were read at one moment. Each connection keeps those that it began with.
final class TLSCredentials: @unchecked Sendable {
    let configuration: TLSConfiguration
    private let certificates: gnutls_certificate_credentials_t
    private let priorities: gnutls_priority_t
    private let asksForCertificate: Bool
    /// When the server's certificate ends, in seconds since 1970.
    let expires: Double

    /// Reads the files.
    ///
    /// - Throws: all problems at once.
    init(_ configuration: TLSConfiguration) throws(TLSProblem) {
        self.configuration = configuration
        asksForCertificate = configuration.authoritiesFile != nil
        var problems: [String] = []
        func read(_ path: String, isSecret: Bool = false) -> [UInt8] {
            do throws(TLSProblem) { return try TLSFile.read(path, isSecret: isSecret, isOwned: configuration.isOwned) } catch {
                problems += error.problems
                return []
            }
        }
        var chain = read(configuration.certificateFile)
        var key = read(configuration.keyFile, isSecret: true)
        var authorities = configuration.authoritiesFile.map { read($0) }
        // What could be read of the key is kept nowhere else.
        defer { key.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
        guard problems.isEmpty else { throw TLSProblem(problems: problems) }

        var made: gnutls_certificate_credentials_t?
        guard gnutls_certificate_allocate_credentials(&made) >= 0, let made else { throw TLSProblem(problems: ["GnuTLS has no memory"]) }
        let status = Self.datum(&chain) { chain in
            Self.datum(&key) { key in gnutls_certificate_set_x509_key_mem2(made, &chain, &key, GNUTLS_X509_FMT_PEM, nil, 0) }
        }
        if status < 0 {
            problems.append(Self.words(status, certificate: configuration.certificateFile, key: configuration.keyFile))
        }
        if authorities != nil {
            let count = Self.datum(&authorities!) { gnutls_certificate_set_x509_trust_mem(made, &$0, GNUTLS_X509_FMT_PEM) }
            if count <= 0 { problems.append("\(configuration.authoritiesFile ?? ""): there is no certificate of an authority in it") }
            gnutls_certificate_set_verify_function(made, Self.verify)
        }
        var algorithms: gnutls_priority_t?
        if gnutls_priority_init(&algorithms, configuration.priorities, nil) < 0 { problems.append("GnuTLS does not know the algorithms") }
        guard problems.isEmpty, let algorithms else {
            gnutls_certificate_free_credentials(made)
            if let algorithms { gnutls_priority_deinit(algorithms) }
            throw TLSProblem(problems: problems)
        }
        certificates = made
        priorities = algorithms
        expires = Self.expiry(made)
    }

    deinit {
        gnutls_certificate_free_credentials(certificates)
        gnutls_priority_deinit(priorities)
    }

    /// When the first certificate ends.
    private static func expiry(_ credentials: gnutls_certificate_credentials_t) -> Double {
        var chain: UnsafeMutablePointer<gnutls_x509_crt_t?>?
        var count: UInt32 = 0
        guard gnutls_certificate_get_x509_crt(credentials, 0, &chain, &count) >= 0, let chain else { return 0 }
        defer {
            for index in 0..<Int(count) { gnutls_x509_crt_deinit(chain[index]) }
            clinker_gnutls_free(chain)
        }
        return count > 0 ? Double(gnutls_x509_crt_get_expiration_time(chain[0])) : 0
    }

    /// Sets a session up that has not begun its handshake.
    func prepare(_ session: gnutls_session_t) {
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(certificates))
        gnutls_priority_set(session, priorities)
        gnutls_certificate_server_set_request(session, asksForCertificate ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_IGNORE)
    }

    /// A client's certificate must be of an authority and for clients.
    private static let verify: @convention(c) (gnutls_session_t?) -> Int32 = { session in
        guard let session else { return GNUTLS_E_CERTIFICATE_ERROR }
        var status: UInt32 = 0
        let isVerified = GNUTLS_KP_TLS_WWW_CLIENT.withCString { purpose in
            var wanted = gnutls_typed_vdata_st(
                type: GNUTLS_DT_KEY_PURPOSE_OID, data: UnsafeMutableRawPointer(mutating: purpose).assumingMemoryBound(to: UInt8.self),
                size: 0)
            return gnutls_certificate_verify_peers(session, &wanted, 1, &status) >= 0 && status == 0
        }
        return isVerified ? 0 : GNUTLS_E_CERTIFICATE_ERROR
    }

    static func datum<T>(_ bytes: inout [UInt8], _ body: (inout gnutls_datum_t) -> T) -> T {
        bytes.withUnsafeMutableBufferPointer { buffer in
            var datum = gnutls_datum_t(data: buffer.baseAddress, size: UInt32(clamping: buffer.count))
            return body(&datum)
        }
    }

    /// Why GnuTLS does not take a certificate with its key.
    static func words(_ status: Int32, certificate: String, key: String) -> String {
        switch status {
        case GNUTLS_E_CERTIFICATE_KEY_MISMATCH: "\(key) is not the key of the first certificate in \(certificate)"
        case GNUTLS_E_DECRYPTION_FAILED:
            "\(key) is encrypted: a service starts without anybody who knows the password; store the key without one, mode 600"
        default: "\(certificate), \(key): no certificate with its key in PEM: " + String(cString: gnutls_strerror(status))
        }
    }
}

/// A file of certificates or a key.
enum TLSFile {
    private static let largest = 1 << 20

    /// - Parameters:
    ///   - isSecret: whether nobody else may read it.
    ///   - isOwned: whether it must belong to root or the service's user.
    static func read(_ path: String, isSecret: Bool, isOwned: Bool) throws(TLSProblem) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw TLSProblem(problems: [SystemError.last("\(path) cannot be read").description]) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw TLSProblem(problems: [SystemError.last("\(path) cannot be read").description]) }
        guard info.st_mode & S_IFMT == S_IFREG else { throw TLSProblem(problems: ["\(path) is no file"]) }
        let trust = FileTrust(info)
        let exposed = [
            isSecret ? trust.readers(path) : nil, trust.writers(path, isOwned: isOwned), PathTrust.exposure(above: path, isOwned: isOwned),
        ].compactMap { $0 }
        guard exposed.isEmpty else { throw TLSProblem(problems: exposed) }
        guard info.st_size <= largest else { throw TLSProblem(problems: ["\(path) is longer than \(largest) bytes"]) }
        var bytes = [UInt8](repeating: 0, count: largest + 1)
        var count = 0
        while count < bytes.count {
            let more = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            let code = errno
            if more == 0 { break }
            guard more > 0 else {
                if code == EINTR { continue }
                throw TLSProblem(problems: [SystemError(code, "\(path) cannot be read").description])
            }
            count += more
        }
        guard count <= largest else { throw TLSProblem(problems: ["\(path) is longer than \(largest) bytes"]) }
        defer { bytes.withUnsafeMutableBytes { explicit_bzero($0.baseAddress!, $0.count) } }
        return Array(bytes[..<count])
    }
}
