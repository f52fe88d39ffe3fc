import Backups
import DriverHost
import Glibc
import JSON
import Primitives

/// A restic repository for each project and store. Its password is made with it, in a file of the service's own.
struct RepositoryEngine: BackupEngine {
    private static let volumeMetadata = "volume_metadata"

    /// The project's repository; nil if there is none, unless it is to be made.
    private func repository(_ order: BackupOrder, _ store: any ObjectStore, makes: Bool) throws -> Repository? {
        let project = order.backup.projectID
        guard !project.isEmpty, project.utf8.allSatisfy(Self.isWord) else {
            throw DriverFailure(.invalid, "a project with a repository has a name of letters, digits, '-' and '_', not \(project)")
        }
        guard let directory = order.options["keys"]?.string else {
            throw DriverFailure(.badConfiguration, "nothing says where the passwords of repositories are kept")
        }
        let part = StorePart(of: store, under: "repositories/\(project)/")
        guard let password = try RepositoryPassword(directory: directory, project: project).read(makes: makes) else { return nil }
        var options = Repository.Options()
        options.cacheDirectory = order.options["cache"]?.string
        do { return try Repository.open(part, password: password, options: options) } catch let error as RepositoryError
            where error.kind == .notFound
        {
            guard makes else { return nil }
            do { return try Repository.create(in: part, password: password, options: options) } catch let error as RepositoryError
                where error.kind == .exists
            {
                // Another backup of the project was quicker.
                return try Repository.open(part, password: password, options: options)
            }
        }
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: false
        }
    }

    func backup(_ order: BackupOrder, of source: any BlockSource, to store: any ObjectStore, _ control: TransferControl) throws
        -> DriverValue
    {
        guard let repository = try repository(order, store, makes: true) else { throw DriverFailure(.error, "there is no repository") }
        let snapshots = try repository.snapshots()
        // An attempt that died after its end.
        guard !snapshots.contains(where: { $0.backupID == order.backup.id }) else { return .members(["objects": .integer(1)]) }
        let parent = order.parents.last.flatMap { parent in snapshots.first { $0.backupID == parent.id } }
        var request = BackupRequest(
            backupID: order.backup.id, projectID: order.backup.projectID, volumeID: order.backup.volumeID,
            details: .object([
                Self.volumeMetadata: .string(order.volumeMetadata), "name": JSON(order.backup.name),
                "description": JSON(order.backup.description), "created_at": .string(order.backup.createdAt),
                "parent_id": JSON(order.parents.last?.id),
            ]), parent: parent?.id)
        request.continues = true
        let result = try repository.backup(source, request, control: control)
        return .members(["objects": .integer(1), "stored": .integer(Int64(clamping: result.storedBytes))])
            .adding("missed_change", result.missedChange.map { .integer(Int64(clamping: $0)) })
    }

    private func snapshot(_ order: BackupOrder, _ repository: Repository) throws -> RepositorySnapshot? {
        try repository.snapshots().first { $0.backupID == order.backup.id }
    }

    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    {
        guard let repository = try repository(order, store, makes: false), let found = try snapshot(order, repository) else {
            throw DriverFailure(.error, "the project's repository does not hold backup \(order.backup.id)")
        }
        let details = try repository.record(of: found.id).details
        let result = try repository.restore(found.id, to: target, control: control)
        try target.flush()
        return .members([
            "written": .integer(Int64(clamping: result.writtenBytes)),
            "volume_metadata": .string(details[Self.volumeMetadata]?.string ?? ""),
        ])
    }

    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws {
        guard let repository = try repository(order, store, makes: false) else { return }
        repository.forgetAttempts(of: order.backup.id)
        guard let found = try snapshot(order, repository) else { return }
        try repository.delete(found.id)
    }
}

/// The password of a project's repository, in a file of mode 0600.
private struct RepositoryPassword {
    private let directory, path: String

    init(directory: String, project: String) {
        self.directory = directory
        path = directory + "/" + project
    }

    /// nil: there is none, and none is made.
    func read(makes: Bool) throws -> Secret? {
        if let known = try text() { return known }
        guard makes else { return nil }
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("cannot make \(directory)") }
        var generator = SystemRandomNumberGenerator()
        let word = (0..<8).map { _ in
            let digits = String(UInt32.random(in: .min ... .max, using: &generator), radix: 16)
            return String(repeating: "0", count: 8 - digits.utf8.count) + digits
        }.joined()
        // Under its name when it is whole; who comes first has made it.
        let draft = path + ".\(getpid())"
        let file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError.last("cannot make \(draft)") }
        defer { unlink(draft) }
        let bytes = Array(word.utf8)
        let isWritten = write(file, bytes, bytes.count) == bytes.count && fsync(file) == 0
        close(file)
        guard isWritten else { throw SystemError.last("cannot write \(draft)") }
        guard link(draft, path) == 0 || errno == EEXIST else { throw SystemError.last("cannot name \(path)") }
        return try text()
    }

    private func text() throws -> Secret? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw SystemError.last("cannot open \(path)")
        }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = read(file, &buffer, buffer.count)
        guard count > 0 else { throw SystemError.last("cannot read \(path)") }
        return Secret(String(decoding: buffer[..<count], as: UTF8.self).filter { !$0.isWhitespace })
    }

    private func read(_ file: Int32, _ buffer: inout [UInt8], _ count: Int) -> Int { Glibc.read(file, &buffer, count) }
}

/// The objects of a store whose names begin with some words, without those.
private struct StorePart: ObjectStore {
    private let store: any ObjectStore
    private let prefix: String
    let traits: ObjectStoreTraits

    init(of store: any ObjectStore, under prefix: String) {
        self.store = store
        self.prefix = prefix
        traits = store.traits
    }

    func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        try store.put(prefix + name, slices, sha256: sha256)
    }
    func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try store.write(prefix + name) }
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        try store.get(prefix + name, at: offset, into: buffer)
    }
    func size(of name: String) throws(StoreFailure) -> UInt64? { try store.size(of: prefix + name) }
    func list(_ beginning: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        let length = prefix.utf8.count
        try store.list(prefix + beginning, after: prefix + after) { name, size in
            each(String(decoding: name.utf8.dropFirst(length), as: UTF8.self), size)
        }
    }
    func remove(_ names: [String]) throws(StoreFailure) { try store.remove(names.map { prefix + $0 }) }
}
