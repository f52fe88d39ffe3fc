/// Why work on a repository stopped.
public struct RepositoryError: Error, Sendable, CustomStringConvertible {
    /// What the caller may do about it.
    public enum Kind: Sendable, Equatable {
        /// Bytes in the store are not what was written: flipped, truncated, swapped, missing or made by somebody without the key.
        case damaged
        /// None of the repository's keys opens with this password.
        case wrongPassword
        /// A format that this program does not know.
        case unsupported
        /// Somebody else works on the repository in a way that excludes this; it may be tried again.
        case locked
        /// There is no such repository, backup or key.
        case notFound
        /// There is something already.
        case exists
        /// An argument breaks a rule that the text names.
        case invalid
        case cancelled
    }

    public let kind: Kind
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    static func damaged(_ what: String) -> RepositoryError { RepositoryError(.damaged, what) }
}
