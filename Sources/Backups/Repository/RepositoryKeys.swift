import Glibc
import Primitives

/// A key of a repository, as it may be shown: what it seals opens with one password.
public struct RepositoryKey: Sendable, Equatable {
    /// The object's name.
    public let id: Digest
    public let created, username, hostname: String
    /// Whether the repository was opened with it.
    public let isCurrent: Bool
}

extension Repository {
    /// The keys that open this repository.
    public func keyList() throws -> [RepositoryKey] {
        try KeyFile.names(in: store).map { name in
            let file = try KeyFile.load(name, from: store)
            return RepositoryKey(
                id: name, created: file.created, username: file.username, hostname: file.hostname, isCurrent: name == openedKey)
        }
    }

    /// Adds a key that opens with another password.
    ///
    /// - Returns: the new key's id.
    public func addKey(_ password: Secret) throws -> Digest {
        try Self.checkPassword(password)
        guard try KeyFile.names(in: store).count < KeyFile.countLimit else {
            throw RepositoryError(.invalid, "the repository has \(KeyFile.countLimit) keys, which is the most")
        }
        return try KeyFile.make(keys, password: password, hostname: hostname).save(in: store)
    }

    /// Removes a key, but not the one that the repository was opened with: at least one that works remains. The password that it opened with
    /// opens the repository no more; who has copied the key file before still can.
    public func removeKey(_ id: Digest) throws {
        guard id != openedKey else {
            throw RepositoryError(.invalid, "the key that opened the repository cannot be removed; open it with another")
        }
        guard try KeyFile.names(in: store).contains(id) else { throw RepositoryError(.notFound, "the repository has no key \(id)") }
        try store.remove([ObjectKind.keys.name(id)])
    }
}

extension KeyFile {
    /// The most keys that are tried and that a repository may have: each costs a tenth of a second.
    static let countLimit = 20

    func save(in store: any ObjectStore) throws -> Digest {
        let text = Array(json.text.utf8)
        let name = Digest.sha256(text)
        try text.withUnsafeBytes { try store.put(ObjectKind.keys.name(name), [$0], sha256: name.bytes) }
        return name
    }

    static func load(_ name: Digest, from store: any ObjectStore) throws -> KeyFile {
        let path = ObjectKind.keys.name(name)
        let text = try store.read(path, atMost: ObjectKind.keys.limit)
        guard Digest.sha256(text) == name else { throw RepositoryError.damaged("\(path) is not what was written") }
        return try KeyFile(parsing: text, name: path)
    }

    /// The names of the key files, in order; no more than are tried.
    static func names(in store: any ObjectStore) throws -> [Digest] {
        var names: [Digest] = []
        let prefix = ObjectKind.keys.rawValue + "/"
        try store.list(prefix, after: "") { name, _ in
            if let digest = Digest(hex: String(name.dropFirst(prefix.count))) { names.append(digest) }
            return names.count < countLimit
        }
        return names
    }
}

/// The processors that this process may use.
func processorCount() -> Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
