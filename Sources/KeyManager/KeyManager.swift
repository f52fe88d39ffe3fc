public import Primitives

/// Keeps the keys of encrypted volumes.
///
/// Every key is made under a name that nothing else has, such as that of the operation that needs it: made again under the same name it is
/// the same key, so that a step that is repeated after a death leaves one key at most.
public protocol KeyManager: Sendable {
    /// Makes a key, or finds the one that was made under the name, and returns its id.
    func create(_ request: KeyRequest) async throws(KeyFailure) -> String
    /// Keeps a key under a name, or finds the one that is, and returns its id. The key's own length counts.
    func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String
    func key(_ id: String) async throws(KeyFailure) -> EncryptionKey
    /// Deletes a key for ever. That it is gone already is no failure.
    func delete(_ id: String) async throws(KeyFailure)
    /// Deletes what was made under the name, if anything was.
    func discard(_ name: String) async throws(KeyFailure)
    /// Lets a user read a key, in the place of who was let before; a key manager that knows no users has nothing to do.
    func open(_ id: String, to userID: String) async throws(KeyFailure)
    /// The content of a certificate that somebody keeps there: PEM or DER.
    func certificate(_ id: String) async throws(KeyFailure) -> [UInt8]
    /// Throws why the manager could not be asked now; asks once. One that is no other service has nothing to do.
    func look() async throws(KeyFailure)
}

extension KeyManager {
    public func open(_ id: String, to userID: String) async throws(KeyFailure) {}
    public func look() async throws(KeyFailure) {}

    public func certificate(_ id: String) async throws(KeyFailure) -> [UInt8] {
        throw KeyFailure(.unsupported, "this key manager keeps no certificates: with [key_manager] backend = barbican they are in Barbican")
    }

    /// Keeps a second key with the content of another one under a name of its own, or finds the one that was made, and returns its id.
    public func copy(_ id: String, as request: KeyRequest) async throws(KeyFailure) -> String {
        try await keep(try await key(id), as: request)
    }
}

/// What kind of key is needed, and the name that it gets.
public struct KeyRequest: Sendable, Equatable {
    /// Lengths of keys in bits that are made.
    public static let lengths = [128, 192, 256, 512]
    /// Longest name in bytes.
    public static let longestName = 255

    public let bits: Int
    /// As key managers call it, `aes`.
    public let algorithm: String
    public let name: String
    /// The user whose volume it is for; a key manager that knows users lets this one read it.
    public let userID: String?

    /// - Throws: which rule the request breaks.
    public init(bits: Int, algorithm: String = "aes", name: String, userID: String? = nil) throws(KeyFailure) {
        guard Self.lengths.contains(bits) else {
            throw KeyFailure(
                .invalid, "a key of \(bits) bits cannot be made: it may have \(Self.lengths.map(String.init).joined(separator: ", "))")
        }
        guard !algorithm.isEmpty, algorithm.utf8.count <= 32, algorithm.utf8.allSatisfy(Self.isPlain) else {
            throw KeyFailure(.invalid, "'\(algorithm.prefix(40))' is no algorithm of keys")
        }
        guard !name.isEmpty, name.utf8.count <= Self.longestName, name.utf8.allSatisfy(Self.isPlain) else {
            throw KeyFailure(.invalid, "a key's name has 1 to \(Self.longestName) letters, digits, '-', '_' or '.'")
        }
        self.bits = bits
        self.algorithm = algorithm
        self.name = name
        self.userID = userID
    }

    /// Whether the byte needs no escape in a path, a query or a file's name.
    static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
        default: false
        }
    }
}

/// A key as its manager returned it. It is never printed.
public struct EncryptionKey: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Lengths in bytes that a manager may return.
    static let lengths = 8...64

    private let bytes: [UInt8]

    /// nil where the length is no key's.
    init?(_ bytes: [UInt8]) {
        guard Self.lengths.contains(bytes.count) else { return nil }
        self.bytes = bytes
    }

    public var bits: Int { bytes.count * 8 }
    public func reveal() -> [UInt8] { bytes }

    /// What opens LUKS: the key's hexadecimal digits, as os-brick and Cinder derive it.
    public var passphrase: Secret { Secret(Hexadecimal.text(bytes)) }

    public var description: String { "***" }
    public var debugDescription: String { "***" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Why a key manager did not do it. Its words never hold a key.
public struct KeyFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// There is no key with the id.
        case notFound
        /// The request breaks a rule.
        case invalid
        /// The manager does not answer, or does not now.
        case unavailable
        /// The manager refuses Clinker's account.
        case refused
        /// What is kept cannot be what was.
        case damaged
        /// What is kept is longer than anything of its kind.
        case tooLong
        /// The manager keeps nothing of the kind.
        case unsupported
    }
    public let kind: Kind
    public let description: String
    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    static func notFound(_ id: String) -> KeyFailure { KeyFailure(.notFound, "there is no key \(id)") }
}
