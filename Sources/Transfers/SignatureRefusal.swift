public import DriverHost

/// Why a signed image does not become a volume; a failure's message begins with it.
public enum SignatureRefusal: String, CaseIterable, Sendable {
    case certificateMissing = "the key manager does not have the image's certificate"
    case certificateRefused = "the key manager does not let Clinker read the image's certificate"
    case certificateUnusable = "what the image names as its certificate is none"
    case certificateNotValid = "the image's certificate is not valid at this time"
    case notVerified = "the image's signature cannot be verified"
    case mismatch = "the image's data are not those that were signed"

    /// Nil: the message is of something else.
    public init?(of message: String) {
        guard let refusal = Self.allCases.first(where: { message.utf8.starts(with: $0.rawValue.utf8) }) else { return nil }
        self = refusal
    }

    public func failure(_ words: String = "", code: DriverFailure.Code = .invalid) -> DriverFailure {
        DriverFailure(code, words.isEmpty ? rawValue : "\(rawValue): \(words)")
    }
}
