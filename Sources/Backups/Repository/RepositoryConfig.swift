import JSON

/// The object `config`: what every program that works on the repository must know.
///
/// The member `clinker` is ours; restic ignores members that it does not know.
struct RepositoryConfig: Equatable {
    static let version: Int64 = 2
    /// What we write ourselves; a repository that restic made has no member of ours and gets these.
    static let standardChunkSize = 1 << 20
    static let chunkSizes = (256 << 10)...(4 << 20)
    var id: Digest
    var polynomial: String
    /// Bytes; a power of two.
    var chunkSize: Int

    static func fault(inChunkSize size: Int) -> String? {
        guard chunkSizes.contains(size), size & (size - 1) == 0 else { return "the chunk size must be 256, 512, 1024, 2048 or 4096 KiB" }
        return nil
    }

    var json: JSON {
        [
            "version": .integer(Self.version), "id": .string(id.hex), "chunker_polynomial": .string(polynomial),
            "clinker": ["version": 1, "chunk_size": JSON(chunkSize)],
        ]
    }

    init(id: Digest, polynomial: String, chunkSize: Int) {
        self.id = id
        self.polynomial = polynomial
        self.chunkSize = chunkSize
    }

    init(parsing text: [UInt8]) throws {
        let json: JSON
        do { json = try JSON(parsing: text) } catch { throw RepositoryError.damaged("config is not JSON: \(error)") }
        guard let version = json["version"]?.integer else { throw RepositoryError.damaged("config has no version") }
        guard version == Self.version else {
            throw RepositoryError(.unsupported, "the repository has version \(version) of restic's format; only version 2 is supported")
        }
        guard let id = json["id"]?.string.flatMap({ Digest(hex: $0) }), let polynomial = json["chunker_polynomial"]?.string else {
            throw RepositoryError.damaged("config has no id or no chunker_polynomial")
        }
        self.init(id: id, polynomial: polynomial, chunkSize: Self.standardChunkSize)
        guard let ours = json["clinker"] else { return }
        guard let ownVersion = ours["version"]?.integer, let size = ours["chunk_size"]?.integer else {
            throw RepositoryError.damaged("config has a member clinker without version and chunk_size")
        }
        guard ownVersion == 1 else { throw RepositoryError(.unsupported, "config has version \(ownVersion) of clinker; only 1 is known") }
        if let fault = Self.fault(inChunkSize: Int(clamping: size)) { throw RepositoryError.damaged("config: \(fault), not \(size) bytes") }
        chunkSize = Int(size)
    }
}
