import DriverHost
public import Primitives

/// What is to be done with the repositories of a store.
public struct RepositoryOrder: Sendable {
    public enum Work: String, Sendable {
        /// Items: the keys of one project's repository.
        case keys
        /// Adds a key that opens with the passphrase.
        case addKey = "add_key"
        case removeKey = "remove_key"
        /// Items: what was freed in each repository.
        case prune
        /// Items: all backups, with what brings their rows back.
        case survey
        /// Items: all backups and other objects of backups, by their names.
        case objects
        /// Reads a part of the packs. Items: what was found in each repository.
        case scrub
    }

    public var work: Work
    /// The directory with the passwords of the repositories: a file for each project.
    public var keys: String
    /// The directory with what is known of the repositories' indexes.
    public var cache: String?
    /// Nil: all of which there is a password.
    public var project: String?
    public var passphrase: Secret?
    public var keyID: String?
    /// Of a scrub.
    public var part = 0
    public var parts = 1

    public init(_ work: Work, keys: String) {
        self.work = work
        self.keys = keys
    }

    var value: DriverValue {
        .members([
            "work": .string(work.rawValue), "keys": .string(keys), "cache": .optional(cache), "project": .optional(project),
            "passphrase": passphrase.map { .secret($0.reveal()) } ?? .null, "key_id": .optional(keyID), "part": .integer(Int64(part)),
            "parts": .integer(Int64(parts)),
        ])
    }

    init(_ value: DriverValue) throws {
        guard let work = value["work"]?.string.flatMap({ Work(rawValue: $0) }) else {
            throw DriverFailure(.unsupported, "a transfer knows no such work on repositories")
        }
        self.init(work, keys: value["keys"]?.string ?? "")
        cache = value["cache"]?.string
        project = value["project"]?.string
        passphrase = value["passphrase"]?.string.map { Secret($0) }
        keyID = value["key_id"]?.string
        part = Int(clamping: value["part"]?.integer ?? 0)
        parts = Int(clamping: value["parts"]?.integer ?? 1)
    }
}
