import BlockStorage
import Database
public import HTTPServer

extension BlockAPI {
    /// Errors of the domain as answers.
    public static func translate(_ error: any Error) -> HTTPError? {
        if let error = error as? StorageError {
            let status =
                switch error.kind {
                case .invalid: 400
                case .forbidden: 403
                case .notFound: 404
                case .conflict: 409
                case .overQuota: 413
                case .unavailable: 503
                case .timeout: 502
                case .failed: 500
                }
            return HTTPError(status, error.message)
        }
        if let error = error as? DatabaseError, [.full, .readOnly, .io].contains(error.kind) {
            return HTTPError(503, "The database cannot be written now. Try again later.", headers: [(name: "Retry-After", value: "30")])
        }
        if let error = error as? DatabaseError, error.kind == .busy {
            return HTTPError(
                503, "Too many long lists are being read. Try again later, or ask for less: the newest first, without a count.",
                headers: [(name: "Retry-After", value: "5")])
        }
        if let error = error as? DatabaseError, error.kind == .tooLong {
            return HTTPError(
                503, "The answer took longer to find than query_timeout allows. Ask for less: by other filters, or in another order.")
        }
        return nil
    }
}
