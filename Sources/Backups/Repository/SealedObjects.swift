import JSON

/// The kinds of objects that a repository has beside its packs.
enum ObjectKind: String, Sendable, CaseIterable {
    case config, keys, locks, snapshots, index

    /// The most bytes that an object of this kind may have; a larger one is refused before memory is taken.
    var limit: Int {
        switch self {
        case .config, .locks: 1 << 16
        case .keys: 1 << 16
        case .snapshots: 4 << 20
        case .index: 32 << 20
        }
    }

    func name(_ digest: Digest) -> String { "\(rawValue)/\(digest.hex)" }

    static func pack(_ digest: Digest) -> String {
        let hex = digest.hex
        return "data/\(hex.prefix(2))/\(hex)"
    }
}

/// Reads and writes the encrypted JSON objects of a repository: every one but the configuration is compressed and bears its SHA-256 as
/// its name. One thread at a time.
final class SealedObjects {
    let store: any ObjectStore
    private let sealer: Sealer
    private let compressor = ZstdCompressor()
    private let decompressor = ZstdDecompressor()
    /// In the second version of the format the first byte of a plain object says how it is encoded.
    private static let isCompressed: UInt8 = 2

    init(_ store: any ObjectStore, _ keys: SealingKeys) {
        self.store = store
        sealer = Sealer(keys)
    }

    /// The configuration's object, which is not compressed and has a fixed name.
    func saveConfig(_ text: [UInt8]) throws {
        let sealed = text.withUnsafeBytes { sealer.seal($0) }
        try sealed.withUnsafeBytes { try store.put(ObjectKind.config.rawValue, [$0], sha256: nil) }
    }

    func loadConfig() throws -> [UInt8] {
        let sealed = try store.read(ObjectKind.config.rawValue, atMost: ObjectKind.config.limit)
        guard let text = sealer.open(sealed) else { throw RepositoryError.damaged("config was not written with this repository's key") }
        return text
    }

    /// - Returns: the object's name, which is its hash.
    func save(_ kind: ObjectKind, _ text: UnsafeRawBufferPointer) throws -> Digest {
        var plain = [Self.isCompressed]
        plain += compressor.compress(text)
        let sealed = plain.withUnsafeBytes { sealer.seal($0) }
        return try sealed.withUnsafeBytes { bytes in
            let digest = Digest.sha256(bytes)
            try store.put(kind.name(digest), [bytes], sha256: digest.bytes)
            if kind == .index || kind == .snapshots { try store.checkStored(kind.name(digest), UInt64(bytes.count)) }
            return digest
        }
    }

    func save(_ kind: ObjectKind, _ json: JSON) throws -> Digest { try Array(json.text.utf8).withUnsafeBytes { try save(kind, $0) } }

    /// Reads, checks and decrypts an object.
    func load(_ kind: ObjectKind, _ name: Digest) throws -> [UInt8] {
        let sealed = try store.read(kind.name(name), atMost: kind.limit)
        guard Digest.sha256(sealed) == name else { throw RepositoryError.damaged("\(kind.name(name)) is not what was written") }
        guard let plain = sealer.open(sealed) else {
            throw RepositoryError.damaged("\(kind.name(name)) was not written with this repository's key")
        }
        // The first version of the format has the JSON text as it is.
        guard let first = plain.first, first != UInt8(ascii: "{"), first != UInt8(ascii: "[") else { return plain }
        guard first == Self.isCompressed else {
            throw RepositoryError(.unsupported, "\(kind.name(name)) has the unknown encoding \(first)")
        }
        let text = plain.withUnsafeBytes {
            decompressor.decompress(UnsafeRawBufferPointer(rebasing: $0.dropFirst()), atMost: kind.limit * 2)
        }
        guard let text else { throw RepositoryError.damaged("\(kind.name(name)) does not decompress") }
        return text
    }

    func loadJSON(_ kind: ObjectKind, _ name: Digest) throws -> JSON {
        do { return try JSON(parsing: load(kind, name), limits: JSONLimits(bytes: kind.limit * 2)) } catch let error as JSONError {
            throw RepositoryError.damaged("\(kind.name(name)) is not JSON: \(error)")
        }
    }

    /// The names of all objects of a kind, with their sizes.
    func list(_ kind: ObjectKind) throws -> [(name: Digest, size: UInt64)] {
        var found: [(name: Digest, size: UInt64)] = []
        let prefix = kind.rawValue + "/"
        try store.list(prefix, after: "") { name, size in
            if let digest = Digest(hex: String(name.dropFirst(prefix.count))) { found.append((digest, size)) }
            return true
        }
        return found
    }
}

extension ObjectStore {
    /// Finds out a store that acknowledges an object and does not have it, before anything relies on that.
    func checkStored(_ name: String, _ count: UInt64) throws {
        guard traits.listsConsistently else { return }
        let found = try size(of: name)
        guard found != count else { return }
        throw RepositoryError.damaged("the store acknowledged \(name) of \(count) bytes but has \(found.map { "\($0)" } ?? "none")")
    }

    /// A whole object; one that is larger than the limit is refused before memory is taken.
    func read(_ name: String, atMost limit: Int) throws -> [UInt8] {
        guard let size = try size(of: name) else { throw StoreFailure(.notFound, "there is no \(name)") }
        guard size <= UInt64(limit) else { throw RepositoryError.damaged("\(name) has \(size) bytes, more than the \(limit) allowed") }
        let count = Int(size)
        return try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            guard count > 0 else { return }
            filled = try get(name, at: 0, into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count))
            guard filled == count else { throw RepositoryError.damaged("\(name) ended after \(filled) of \(count) bytes") }
        }
    }
}
