import Backups
import DriverHost
import JSON
import Primitives

/// A restic repository for each project and store. Its password is made with it, in a file of the service's own.
struct RepositoryEngine: BackupEngine {
    private static let volumeMetadata = "volume_metadata"

    /// The project's repository; nil if there is none, unless it is to be made.
    private func repository(_ order: BackupOrder, _ store: any ObjectStore, makes: Bool) throws -> Repository? {
        guard let directory = order.options["keys"]?.string else {
            throw DriverFailure(.badConfiguration, "nothing says where the passwords of repositories are kept")
        }
        return try Self.open(order.backup.projectID, in: store, keys: directory, cache: order.options["cache"]?.string, makes: makes)
    }

    /// The project's repository, which a backup was written to.
    private func existing(_ order: BackupOrder, _ store: any ObjectStore) throws -> Repository {
        if let repository = try repository(order, store, makes: false) { return repository }
        let project = order.backup.projectID
        // What is not there says nothing of the backup: a share may not be mounted, or a store may have failed to find it once.
        guard try RepositoryPasswords(directory: order.options["keys"]?.string ?? "").read(project, makes: false) != nil else {
            throw DriverFailure(.error, "the password of the repository of project \(project) is missing among the store's keys")
        }
        throw DriverFailure(.error, "the store has no repository of project \(project): repositories/\(project)/ has no config or no key")
    }

    /// The project's repository, made with its first backup. One that holds backups is never made again: a share that is not mounted looks as
    /// if there were none.
    private func repositoryToWrite(_ order: BackupOrder, _ store: any ObjectStore) throws -> Repository {
        let project = order.backup.projectID
        if !order.neighbours.isEmpty {
            if let repository = try repository(order, store, makes: false) { return repository }
            // Without a password none was made here: what the database knows was imported, and lies somewhere else.
            let wasMade = try RepositoryPasswords(directory: order.options["keys"]?.string ?? "").read(project, makes: false) != nil
            if wasMade {
                throw DriverFailure(
                    .error,
                    "the store has no repository of project \(project), where \(order.neighbours.count) of its backups lie: is it mounted? "
                        + "No other is made: bring it back, or delete these backups first (os-force_delete)")
            }
            if try Repository.mayHoldBackups(Self.part(of: project, in: store)) { return try existing(order, store) }
        }
        guard let repository = try repository(order, store, makes: true) else { throw DriverFailure(.error, "there is no repository") }
        return repository
    }

    /// - Parameters:
    ///   - keys: the directory with the passwords.
    ///   - cache: the directory with what is known of the repositories' indexes.
    static func open(
        _ project: String, in store: any ObjectStore, keys directory: String, cache: String?, makes: Bool = false
    ) throws -> Repository? {
        guard isProject(project) else {
            throw DriverFailure(.invalid, "a project with a repository has a name of 1 to \(longestProject) letters, digits, '-' and '_'")
        }
        let part = part(of: project, in: store)
        guard let password = try RepositoryPasswords(directory: directory).read(project, makes: makes) else { return nil }
        var options = Repository.Options()
        options.cacheDirectory = cache
        // Beside the passwords, whose names have no dot.
        options.damageDirectory = directory
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

    private static func part(of project: String, in store: any ObjectStore) -> StorePart {
        StorePart(of: store, under: "repositories/\(project)/")
    }

    /// Whether a project may have a repository: its name is a part of objects' names, and of the names of files.
    static func isProject(_ name: String) -> Bool { (1...longestProject).contains(name.utf8.count) && name.utf8.allSatisfy(isWord) }

    /// In bytes: that of a file has up to 255, with what is added to it.
    private static let longestProject = 200

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
        let repository = try repositoryToWrite(order, store)
        // One of another backup that cannot be read is that one's damage.
        var unreadable: [String] = []
        let snapshots = try repository.snapshots { unreadable.append($1.description) }
        // Whose they are is known by elimination.
        let found = Set(snapshots.compactMap(\.backupID))
        let lost = unreadable.isEmpty || !store.traits.listsConsistently ? [] : order.neighbours.filter { !found.contains($0) }
        // An attempt that died after its end.
        if let made = snapshots.first(where: { $0.backupID == order.backup.id }) {
            let missedChange = try repository.record(of: made.id).missedChange
            try repository.forgetAttempts(of: order.backup.id)
            return .members(["objects": .integer(1)]).adding("missed_change", missedChange.map { .integer(Int64(clamping: $0)) })
                .adding(unreadable, lost: lost)
        }
        let parent = order.parents.last.flatMap { parent in snapshots.first { $0.backupID == parent.id } }
        var request = BackupRequest(
            backupID: order.backup.id, projectID: order.backup.projectID, volumeID: order.backup.volumeID,
            details: .object([
                Self.volumeMetadata: .string(order.volumeMetadata), "name": JSON(order.backup.name),
                "description": JSON(order.backup.description), "created_at": .string(order.backup.createdAt),
                "parent_id": JSON(order.parents.last?.id), "record": (try? JSON(parsing: order.backup.record)) ?? .null,
            ]), parent: parent?.id)
        request.continues = true
        let result = try repository.backup(source, request, control: control)
        return .members(["objects": .integer(1), "stored": .integer(Int64(clamping: result.storedBytes))])
            .adding("missed_change", result.missedChange.map { .integer(Int64(clamping: $0)) })
            .adding(unreadable + result.unreadable, lost: lost)
    }

    private func snapshot(_ order: BackupOrder, in store: any ObjectStore) throws -> (Repository, RepositorySnapshot) {
        let repository = try existing(order, store)
        guard let found = try repository.find(backup: order.backup.id) else {
            throw DriverFailure(.error, "the project's repository does not hold backup \(order.backup.id)")
        }
        return (repository, found)
    }

    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    {
        let (repository, found) = try snapshot(order, in: store)
        let details = try repository.record(of: found.id).details
        let result = try repository.restore(found.id, to: target, control: control)
        try target.flush()
        return .members([
            "written": .integer(Int64(clamping: result.writtenBytes)),
            "volume_metadata": .string(details[Self.volumeMetadata]?.string ?? ""),
        ])
    }

    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws {
        // Of one that never was whole there may be nothing: the repository is made with the first. What was whole is not gone because the
        // store, as a share that is not mounted, has nothing now, or has a repository that another backup has made meanwhile.
        let wasWhole = order.backup.objectCount > 0
        if try repository(order, store, makes: false) == nil, !wasWhole {
            guard try Repository.mayHoldBackups(Self.part(of: order.backup.projectID, in: store)) else { return }
        }
        let repository = try existing(order, store)
        try repository.forgetAttempts(of: order.backup.id)
        var found: RepositorySnapshot?
        do { found = try repository.find(backup: order.backup.id) } catch let error as RepositoryError
            where error.kind == .damaged || !wasWhole
        {
            // What cannot be read is its own, or another's. Of one that never was whole there is none.
            if wasWhole { _ = try repository.deleteUnreadable(besides: order.neighbours) }
        }
        if let found { return try repository.delete(found.id) }
        guard try !wasWhole || repository.hasIndex() else {
            throw DriverFailure(
                .error,
                "the project's repository has neither backup \(order.backup.id) nor any index: it may not be the one that held the backup")
        }
    }

    func verify(_ order: BackupOrder, in store: any ObjectStore, _ control: TransferControl) throws -> BackupVerdict {
        var verdict = BackupVerdict()
        do {
            let repository = try existing(order, store)
            let result = try repository.verify(backup: order.backup.id, control: control)
            verdict.checkedBytes = result.checkedBytes
            let chunkSize = UInt64(repository.chunkSize)
            verdict.damages = result.damages.map { damage in
                .init(damage.description, damage.offset.flatMap { damage.chunk == nil ? nil : $0..<$0 + chunkSize })
            }
            if !result.isGood {
                verdict.users = try Self.users(of: result.damages, in: repository, of: order.backup.projectID, control).filter {
                    $0 != order.backup.id
                }
            }
        } catch let error as RepositoryError where error.kind == .damaged {
            verdict.damages.append(.init(error.description))
        }
        return verdict
    }

    /// The backups that use what is damaged. It is taken out of the index, so that the next backup that has it stores it anew.
    static func users(
        of damages: [RepositoryDamage], in repository: Repository, of project: String, _ control: TransferControl
    ) throws -> [String] {
        let users = try repository.snapshots(using: damages, control: control).filter { $0.projectID == project }.compactMap(\.backupID)
        do { _ = try repository.discard(damages, control: control) } catch let failure as StoreFailure
            where failure.kind == .noSpace || failure.kind == .forbidden
        {
            // The next backup does it first.
        }
        return users
    }

    func image(_ order: BackupOrder, in store: any ObjectStore) throws -> any BlockSource {
        let (repository, found) = try snapshot(order, in: store)
        return try repository.image(of: found.id)
    }
}

extension DriverValue {
    /// - Parameters:
    ///   - unreadable: objects of the repository that are damaged, and how.
    ///   - lost: the backups whose snapshots are among them.
    fileprivate func adding(_ unreadable: [String], lost: [String]) -> DriverValue {
        guard !unreadable.isEmpty else { return self }
        return adding("unreadable", .list(unreadable.prefix(100).map { .string($0) })).adding("lost", .list(lost.map { .string($0) }))
    }
}
