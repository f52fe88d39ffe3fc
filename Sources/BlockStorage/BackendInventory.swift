public import JSON

/// What lies in backends, whether or not it belongs to a volume.
public protocol BackendInventory: Sendable {
    /// Everything that the backend `node@backend` holds, as its driver lists it.
    func list(_ host: String, requestID: String) async throws -> JSON
}
