import Glibc
import Primitives

/// Damages that could not be taken out of the index, since the store takes nothing, in a file of this machine: what is damaged must not be
/// inherited by the next backup, which comes when the store has room again.
///
/// A line each: `chunk` or `pack`, and its name.
struct DamageNotes {
    private let directory, path: String

    /// - Parameter directory: is made if it is missing.
    init(_ directory: String, repository: Digest) throws {
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("cannot make \(directory)") }
        self.directory = directory
        path = directory + "/" + repository.hex + ".damages"
    }

    private func line(_ damage: RepositoryDamage) -> String? {
        damage.chunk.map { "chunk \($0.hex)" } ?? damage.pack.map { "pack \($0.hex)" }
    }

    /// Adds what is not noted yet; on stable storage on return.
    func add(_ damages: [RepositoryDamage]) throws {
        let file = try lockedFile(O_CREAT)
        let known = try text(file)
        let lines = Set(known.split(separator: "\n").map(String.init))
        let new = Set(damages.compactMap(line)).subtracting(lines).sorted()
        guard !new.isEmpty else { return }
        // A line that was cut off stays one of its own.
        let text = (known.isEmpty || known.hasSuffix("\n") ? "" : "\n") + new.map { $0 + "\n" }.joined()
        try Array(text.utf8).withUnsafeBytes { try file.append($0) }
        let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw SystemError.last("cannot open \(directory)") }
        defer { close(folder) }
        guard fsync(file.descriptor) == 0, fsync(folder) == 0 else { throw SystemError.last("cannot write \(path)") }
    }

    /// Calls the body with what is noted, if anything is, and forgets it when the body returns. Nobody else adds to it meanwhile.
    func settle(_ body: ([RepositoryDamage]) throws -> Void) throws {
        guard access(path, F_OK) == 0 || errno != ENOENT else { return }
        let file = try lockedFile()
        let damages = try text(file).split(separator: "\n").compactMap { line -> RepositoryDamage? in
            let words = line.split(separator: " ")
            guard words.count == 2, let name = Digest(hex: String(words[1])) else { return nil }
            switch words[0] {
            case "chunk": return RepositoryDamage(chunk: name, description: "")
            case "pack": return RepositoryDamage(pack: name, description: "")
            default: return nil
            }
        }
        guard !damages.isEmpty else { return }
        try body(damages)
        guard ftruncate(file.descriptor, 0) == 0 else { throw SystemError.last("cannot write \(path)") }
    }

    /// Locked until the file is closed.
    private func lockedFile(_ flags: Int32 = 0) throws -> OwnedFile {
        let descriptor = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0o600)
        guard descriptor >= 0 else { throw SystemError.last("cannot open \(path)") }
        let file = OwnedFile(descriptor)
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw SystemError.last("cannot lock \(path)") }
        }
        return file
    }

    private func text(_ file: OwnedFile) throws -> String {
        var bytes = [UInt8](repeating: 0, count: Int(clamping: file.size))
        guard bytes.withUnsafeMutableBytes({ file.read(at: 0, into: $0) }) else { throw SystemError.last("cannot read \(path)") }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension Repository {
    private var damageNotes: DamageNotes? {
        get throws { try options.damageDirectory.map { try DamageNotes($0, repository: id) } }
    }

    /// Takes damaged chunks out of the index, so that the next backup of a volume that has them stores them anew, which mends every backup
    /// that uses them. Where that is not possible now, the next backup does it first, if there is a `damageDirectory`.
    ///
    /// - Parameter damages: what `verify` or `scrub` found. Everything is read again; what is good stays.
    /// - Returns: the chunks that were taken out.
    public func discard(_ damages: [RepositoryDamage], control: TransferControl = TransferControl()) throws -> [Digest] {
        do { return try removeFromIndex(damages, control: control) } catch {
            try damageNotes?.add(damages)
            throw error
        }
    }

    /// Discards what could not be discarded when it was found.
    func discardNoted(_ control: TransferControl) throws {
        try damageNotes?.settle { _ = try removeFromIndex($0, control: control) }
    }
}
