/// Why work on a chunked backup stopped.
public struct ChunkedFailure: Error, Sendable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// What lies in the store is not what was written: damaged, missing, or of another backup.
        case damaged
        /// A request that cannot be carried out: an option, or a chain that does not fit.
        case invalid
        /// The store failed; its failure says whether another attempt may help.
        case store(StoreFailure.Kind)
        /// The volume could not be read or written.
        case device
        case cancelled
    }

    public let kind: Kind
    /// Names the object and its member, and the rule that is broken.
    public let reason: String
    /// Bytes that a restore had written to the target, all of them verified.
    public internal(set) var written: UInt64 = 0
    /// Whether a restore had begun to change the target.
    public internal(set) var isTargetChanged = false

    init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    static func damaged(_ reason: String) -> ChunkedFailure { ChunkedFailure(.damaged, reason) }
    static func invalid(_ reason: String) -> ChunkedFailure { ChunkedFailure(.invalid, reason) }
    static let cancelled = ChunkedFailure(.cancelled, "cancelled")

    /// An error of a store, of a device or of this format.
    static func of(_ error: any Error) -> ChunkedFailure {
        switch error {
        case let failure as ChunkedFailure: failure
        case let failure as StoreFailure:
            failure.kind == .cancelled ? .cancelled : ChunkedFailure(.store(failure.kind), failure.description)
        default: ChunkedFailure(.device, "\(error)")
        }
    }

    public var description: String {
        isTargetChanged ? "\(reason); \(written) bytes had been written to the volume, which is not complete" : reason
    }
}
