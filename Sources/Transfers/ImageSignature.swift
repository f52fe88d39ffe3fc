import CCrypto
import DriverHost
import Glibc
import Primitives

/// Verifies a signature over an image's bytes, as the image's `img_signature` properties describe it, with a certificate that is valid now. Who
/// issued the certificate is not asked. One thread at a time.
final class ImageSignature: @unchecked Sendable {
    private let context: OpaquePointer
    private let key: OpaquePointer
    private let signature: [UInt8]

    private static let hashes = ["SHA-224": "SHA224", "SHA-256": "SHA256", "SHA-384": "SHA384", "SHA-512": "SHA512"]

    init(_ order: ImageOrder.Signature) throws {
        func invalid(_ words: String) -> DriverFailure { SignatureRefusal.notVerified.failure(words) }
        guard let hash = Self.hashes[order.hashMethod] else {
            throw invalid("img_signature_hash_method is none of SHA-224, -256, -384, -512")
        }
        guard let signature = Base64.decode(order.value), !signature.isEmpty else { throw invalid("img_signature is not Base64") }
        self.signature = signature
        let key = try Self.publicKey(order.certificate)
        let kind = String(cString: EVP_PKEY_get0_type_name(key))
        let isPSS = order.keyType == "RSA-PSS"
        let wanted = isPSS ? ["RSA", "RSA-PSS"] : order.keyType == "DSA" ? ["DSA"] : order.keyType.hasPrefix("ECC_") ? ["EC"] : []
        guard wanted.contains(kind), let context = EVP_MD_CTX_new() else {
            EVP_PKEY_free(key)
            throw invalid("img_signature_key_type \(order.keyType.prefix(64)) is not the kind of its certificate's key (\(kind))")
        }
        self.key = key
        self.context = context
        var options: OpaquePointer?
        guard EVP_DigestVerifyInit_ex(context, &options, hash, nil, nil, key, nil) == 1 else { throw invalid("libcrypto refuses its key") }
        if isPSS {
            guard EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1,
                EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_AUTO) == 1
            else { throw invalid("libcrypto refuses its padding") }
        }
    }

    deinit {
        EVP_MD_CTX_free(context)
        EVP_PKEY_free(key)
    }

    /// The key of a certificate, PEM, that is valid now.
    private static func publicKey(_ text: String) throws -> OpaquePointer {
        let bytes = Array(text.utf8)
        guard bytes.count <= 1 << 20 else { throw SignatureRefusal.certificateUnusable.failure("it has \(bytes.count) bytes") }
        // The source reads the bytes where they lie.
        return try bytes.withUnsafeBytes { bytes in
            let source = BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count))
            defer { BIO_free(source) }
            guard let certificate = PEM_read_bio_X509(source, nil, nil, nil) else {
                throw SignatureRefusal.certificateUnusable.failure("it is no X.509 certificate, PEM or DER")
            }
            defer { X509_free(certificate) }
            let (begin, end) = (X509_get0_notBefore(certificate), X509_get0_notAfter(certificate))
            // 0 is a time that cannot be read.
            guard X509_cmp_current_time(begin) < 0 else {
                throw SignatureRefusal.certificateNotValid.failure("it begins to be valid at \(words(of: begin))")
            }
            guard X509_cmp_current_time(end) > 0 else {
                throw SignatureRefusal.certificateNotValid.failure("it expired at \(words(of: end))")
            }
            guard let key = X509_get_pubkey(certificate) else {
                throw SignatureRefusal.certificateUnusable.failure("its public key cannot be read")
            }
            return key
        }
    }

    private static func words(of time: UnsafePointer<ASN1_TIME>?) -> String {
        var parts = tm()
        guard ASN1_TIME_to_tm(time, &parts) == 1 else { return "a time that cannot be read" }
        return Timestamp.format(Double(timegm(&parts)))
    }

    func update(_ bytes: UnsafeRawBufferPointer) { EVP_DigestVerifyUpdate(context, bytes.baseAddress, bytes.count) }

    /// Whether the bytes are those that were signed; once.
    func finish() -> Bool { EVP_DigestVerifyFinal(context, signature, signature.count) == 1 }
}
