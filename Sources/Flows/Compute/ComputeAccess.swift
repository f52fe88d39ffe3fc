/// The Compute service as flows use it, with the service's own account. `NovaAccess` is the one over the network; tests have one in memory.
public protocol ComputeAccess: Sendable {
    /// Tells it that a volume of instances is larger. Throws `DriverFailure` where it was not heard, or not by each of them.
    func tellExtended(volume: String, instances: [String]) async throws
    /// Tells it that a volume of instances has another content.
    func tellReimaged(volume: String, instances: [String]) async throws
    /// Asks it to let an instance copy a volume that it uses to another, and go on with that one.
    func swap(_ volume: String, for copy: String, ofInstance instance: String) async -> SwapAnswer
}

/// What the Compute service made of a request to swap volumes. It works on it after its answer, and says by
/// `os-migrate_volume_completion` how it ended.
public enum SwapAnswer: Sendable, Equatable {
    case accepted
    /// It will not do it, or does it already.
    case refused(String)
    /// Nobody knows whether it heard: it did not answer, or with trouble of its own.
    case unknown(String)
}
