import BlockStorage
import HTTPServer
import JSON

/// Outputs of operations that a request waits for.
struct Outcomes: Sendable {
    let operations: any OperationOutcomes

    /// A backend's refusal of the request is the client's 400, any other failure a 500 with a text that names no secret.
    func of(_ operation: String, failure: String) async throws -> JSON {
        do {
            return try await operations.output(of: operation)
        } catch let error as StorageError where error.kind == .failed {
            throw HTTPError(500, "\(failure): \(error.message)")
        }
    }
}
