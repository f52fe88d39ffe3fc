public import Database

/// Something that is not as it should be.
public struct Finding: Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        /// What is charged differs from what there is.
        case quota
        /// What is promised of a pool differs from what lies in it.
        case pool
        /// A state that says work is under way, and no work is.
        case stranded
        /// A volume's state contradicts its attachments.
        case attachState = "attach-state"
        /// A reservation that nobody came for.
        case reservation
        /// An operation that waits for nothing, or that this release cannot carry out.
        case operation
        /// A volume whose backend does not know it.
        case missingStorage = "missing-storage"
        /// An object of ours in a backend that no volume is.
        case orphanStorage = "orphan-storage"
        /// The row and the backend say different sizes.
        case size
        /// A backend that cannot be asked.
        case backend
        /// A backup of which its store holds nothing.
        case missingBackup = "missing-backup"
        /// Objects of a backup that no row knows.
        case unknownBackup = "unknown-backup"
        /// A store that cannot be asked.
        case store
        /// Notifications that the message broker does not take.
        case notifications
        /// A key that nobody deletes.
        case key
    }

    public let kind: Kind
    /// Id or name of what it is about.
    public let resource: String
    /// What is wrong, in one sentence.
    public let text: String
    /// What an operator can do about it, where nothing is repaired.
    public let advice: String?
    /// Mends it if it is still so, and says what was done; nil if there was nothing left to do. Absent where no repair is safe.
    let repair: (@Sendable (any Transaction) throws -> String?)?
    public var outcome: String?

    public var isRepairable: Bool { repair != nil }

    public init(
        _ kind: Kind, _ resource: String, _ text: String, advice: String? = nil,
        repair: (@Sendable (any Transaction) throws -> String?)? = nil
    ) {
        self.kind = kind
        self.resource = resource
        self.text = text
        self.advice = advice
        self.repair = repair
    }

    /// Repairs in a transaction of its own.
    public func repaired(in database: any Database) async throws -> Finding {
        guard let repair else { return self }
        var result = self
        result.outcome = try await database.write { try repair($0) } ?? "it was mended meanwhile"
        return result
    }
}
