public import Primitives

/// The one key that a configuration file holds, as Cinder's `ConfKeyManager` keeps it: all volumes have it, under the id of zeros.
public struct FixedKey: KeyManager {
    public static let id = "00000000-0000-0000-0000-000000000000"

    private let key: EncryptionKey

    /// - Parameter digits: the key's hexadecimal digits.
    public init(_ digits: Secret) throws(KeyFailure) {
        guard let key = Hexadecimal.bytes(digits.reveal()).flatMap({ EncryptionKey($0) }) else {
            throw KeyFailure(
                .invalid,
                "must be an even number of hexadecimal digits, for a key of \(EncryptionKey.lengths.lowerBound) to \(EncryptionKey.lengths.upperBound) bytes"
            )
        }
        self.key = key
    }

    public func create(_ request: KeyRequest) async throws(KeyFailure) -> String { Self.id }

    public func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String {
        guard key == self.key else { throw KeyFailure(.invalid, "no key but the fixed one can be kept") }
        return Self.id
    }

    public func key(_ id: String) async throws(KeyFailure) -> EncryptionKey {
        guard id == Self.id else { throw KeyFailure.notFound(id) }
        return key
    }

    /// It stays for the others that have it.
    public func delete(_ id: String) async throws(KeyFailure) {
        guard id == Self.id else {
            throw KeyFailure(
                .notFound,
                "key \(id) is not the fixed one: another key manager keeps it, which [key_manager] backend must name for it to be deleted")
        }
    }

    public func discard(_ name: String) async throws(KeyFailure) {}
}

/// A key manager beside the fixed key that volumes had before it: those keep theirs, new ones get keys of their own.
public struct KeyManagerBesideFixedKey: KeyManager {
    private let manager: any KeyManager
    private let fixed: FixedKey

    public init(_ manager: any KeyManager, _ fixed: FixedKey) {
        self.manager = manager
        self.fixed = fixed
    }

    private func manager(of id: String) -> any KeyManager { id == FixedKey.id ? fixed : manager }

    public func create(_ request: KeyRequest) async throws(KeyFailure) -> String { try await manager.create(request) }

    public func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String {
        try await manager.keep(key, as: request)
    }

    public func key(_ id: String) async throws(KeyFailure) -> EncryptionKey { try await manager(of: id).key(id) }
    public func delete(_ id: String) async throws(KeyFailure) { try await manager(of: id).delete(id) }
    public func discard(_ name: String) async throws(KeyFailure) { try await manager.discard(name) }
    public func open(_ id: String, to userID: String) async throws(KeyFailure) { try await manager(of: id).open(id, to: userID) }
    public func certificate(_ id: String) async throws(KeyFailure) -> [UInt8] { try await manager.certificate(id) }
    public func look() async throws(KeyFailure) { try await manager.look() }
}
