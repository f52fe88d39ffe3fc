import BlockStorage
import HTTPServer
import JSON

/// Outputs of operations that a request waits for.
struct Outcomes: Sendable {
    /// Waits for the output of an operation: a connection, as JSON.
    let result: @Sendable (_ operationID: String) async throws -> JSON

    /// A backend's refusal of the request is the client's 400, any other failure a 500 with a text that names no secret.
    func of(_ operation: String, failure: String) async throws -> JSON {
        do {
            return try await result(operation)
        } catch let error as StorageError where error.kind == .failed {
            throw HTTPError(500, "\(failure): \(error.message)")
        }
    }
}
