public import BlockStorage
import DriverHost
public import JSON
import Logging

extension Backends: BackendInventory {
    public func list(_ host: String, requestID: String) async throws -> JSON {
        guard let entry = entry(host) else { throw StorageError(.unavailable, "No node that runs serves \(host).") }
        do {
            let promise = Promise<JSON>()
            let call = Task {
                do { promise.fulfil(.success(try await entry.backend.call(.listVolumes, .object([]), requestID: requestID).json)) } catch {
                    promise.fulfil(.failure(error))
                }
            }
            return try await promise.value(within: responseTimeout) { call.cancel() }
        } catch let failure as DriverFailure {
            switch failure.code {
            case .unsupported: throw StorageError(.invalid, "The driver of \(host) cannot list what its storage holds.")
            default:
                log.error(
                    "what a backend holds could not be listed: \(failure)", metadata: ["backend": "\(host)", "request_id": "\(requestID)"])
                throw StorageError(.unavailable, "The backend \(host) could not be asked.")
            }
        }
    }
}
