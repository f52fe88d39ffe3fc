public import Primitives

/// What clients of other services need, whose requests Keystone's own client does not send: Clinker's token, and their URLs.
extension Keystone {
    /// A valid token of Clinker's own account.
    public func serviceToken() async throws(Unavailable) -> Secret {
        try await onThread { () throws(Unavailable) in try self.ownToken() }
    }

    /// A service refused the token: the next one is new.
    public func renewServiceToken(_ refused: Secret) {
        own.withLock { if $0?.token == refused { $0 = nil } }
    }

    /// The URL of a service in the catalogue. `region`: nil for the first.
    public func serviceURL(type: String, interface: String, region: String?) async throws(Unavailable) -> String {
        try await onThread { () throws(Unavailable) in
            try self.url(of: Endpoint(type: type, interface: interface, region: region), token: self.ownToken())
        }
    }

    private func onThread<T: Sendable>(_ body: @escaping @Sendable () throws(Unavailable) -> T) async throws(Unavailable) -> T {
        let answer = await Task(executorPreference: others) { () -> Result<T, Unavailable> in
            do throws(Unavailable) { return .success(try body()) } catch { return .failure(error) }
        }.value
        return try answer.get()
    }
}
