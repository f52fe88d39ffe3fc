import BlockStorage
import DriverHost
import KeyManager
import Primitives
import Transfers

/// How an image is signed, and the certificate for it.
extension OperationImages {
    /// The signature that the image's data must have, with its certificate from the key manager; nil where it has none, or nobody asks for it.
    /// The certificate is read with Clinker's own account: the user's token may be no good any more.
    func signature(of image: KeptImage) async throws -> ImageOrder.Signature? {
        guard access.verifiesSignatures else { return nil }
        let values = Property.allCases.map { image.metadata[$0.rawValue] }
        guard values.contains(where: { $0 != nil }) else { return nil }
        func value(_ property: Property) throws -> String {
            guard let text = image.metadata[property.rawValue]?.string, !text.isEmpty else {
                throw SignatureRefusal.notVerified.failure("the image has no \(property.rawValue)")
            }
            return text
        }
        let (text, method, type) = (try value(.signature), try value(.hashMethod), try value(.keyType))
        let content = try await certificate(try value(.certificate))
        return ImageOrder.Signature(certificate: Self.pem(content), value: text, hashMethod: method, keyType: type)
    }

    private enum Property: String, CaseIterable {
        case signature = "img_signature"
        case hashMethod = "img_signature_hash_method"
        case keyType = "img_signature_key_type"
        case certificate = "img_signature_certificate_uuid"
    }

    private func certificate(_ id: String) async throws -> [UInt8] {
        guard let keys else { throw SignatureRefusal.notVerified.failure("there is no key manager") }
        do throws(KeyFailure) { return try await keys.certificate(id) } catch {
            throw switch error.kind {
            case .notFound: SignatureRefusal.certificateMissing.failure(error.description)
            case .refused: SignatureRefusal.certificateRefused.failure(error.description)
            case .invalid, .tooLong, .damaged: SignatureRefusal.certificateUnusable.failure(error.description)
            case .unsupported: SignatureRefusal.notVerified.failure(error.description)
            case .unavailable: SignatureRefusal.notVerified.failure(error.description, code: .error)
            }
        }
    }

    /// A certificate as PEM, whichever way it is kept.
    private static func pem(_ content: [UInt8]) -> String {
        // DER is a sequence.
        guard content.first == 0x30 else { return String(decoding: content, as: UTF8.self) }
        let lines = stride(from: 0, to: content.count, by: 48).map {
            Base64.encode(Array(content[$0..<min($0 + 48, content.count)])) + "\n"
        }
        return "-----BEGIN CERTIFICATE-----\n\(lines.joined())-----END CERTIFICATE-----\n"
    }
}
