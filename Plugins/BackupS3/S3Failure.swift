import CDriver
import DriverKit
import ObjectServers

/// A response that is no success, with what it means for the host.
struct S3Failure: Error {
    let status: Int
    /// S3's word, such as `NoSuchKey`; empty where the response has none.
    let code: String
    let trouble: Trouble

    /// - Parameters:
    ///   - what: what was asked for.
    ///   - secrets: what is never repeated of what the server says.
    init(_ response: HTTPResponse, _ what: String, secrets: [String]) {
        let root = XMLElement(parsing: response.body)
        let error = root?.name == "Error" ? root : root?.children.first { $0.name == "Error" }
        self.init(
            status: response.status, code: error?["Code"] ?? "", words: error?["Message"] ?? "", pause: response.retryAfter,
            isTrouble: response.isTrouble, what, secrets)
    }

    init(status: Int, code: String, words: String, pause: Double? = nil, isTrouble: Bool = false, _ what: String, _ secrets: [String]) {
        (self.status, self.code) = (status, ServerWords.shown(code, hiding: secrets, atMost: 100))
        let isTemporary =
            Self.temporary.contains(code) || (isTrouble && !Self.full.contains(code)) || (code.isEmpty && (status < 200 || status == 409))
        let meaning: clinker_code =
            if isTemporary { CLINKER_RETRY } else if Self.full.contains(code) || status == 507 { CLINKER_NO_SPACE } else {
                switch status {
                // Without S3's word it may be somebody else's: of a proxy, or of a server that is not S3's.
                case 404 where code == "NoSuchKey": CLINKER_NOT_FOUND
                case 401, 403, 404, 301, 307, 308, 407, 405, 411: CLINKER_BAD_CONFIGURATION
                case 400 where Self.credentials.contains(code): CLINKER_BAD_CONFIGURATION
                case 400, 413, 414: CLINKER_INVALID
                default: CLINKER_ERROR
                }
            }
        let said = [String(status), self.code, ServerWords.shown(words, hiding: secrets, atMost: 200)].filter { !$0.isEmpty }.joined(
            separator: " ")
        trouble = Trouble(DriverError(meaning, "\(what): the server answers \(said)"), isTemporary: isTemporary, pause: pause)
    }

    /// Bytes that did not arrive as they were sent are among it.
    private static let temporary: Set<String> = [
        "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded",
        "BandwidthLimitExceeded", "OperationAborted", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeTooSkewed",
        "ConditionalRequestConflict", "TooManyRequests",
    ]
    private static let full: Set<String> = [
        "QuotaExceeded", "QuotaExceededException", "StorageFull", "XMinioStorageFull", "InsufficientCapacity",
        "XMinioAdminBucketQuotaExceeded",
        "TooManyObjects",
    ]
    private static let credentials: Set<String> = [
        "InvalidToken", "ExpiredToken", "InvalidAccessKeyId", "AuthorizationHeaderMalformed", "InvalidBucketName",
        "IllegalLocationConstraintException", "InvalidEncryptionAlgorithmError",
    ]
}
