import Backups
import Glibc
import Primitives

/// The engine of backups on files, one piece of work a process, so that its CPU time and its memory can be told from outside.
///
///     backup-bench backup REPOSITORY IMAGE [RANGES]     an increment of the newest backup, if there is one
///     backup-bench restore REPOSITORY TARGET            the newest backup
///     backup-bench verify REPOSITORY                    the newest backup
///     backup-bench scrub REPOSITORY
///     backup-bench read REPOSITORY                      100 random blocks of 4 KiB, then 256 MiB in order
///     backup-bench chunked-backup STORE IMAGE ALGORITHM
///     backup-bench chunked-restore STORE TARGET SIZE
@main
struct BackupBench {
    static func main() {
        do { try run(Array(CommandLine.arguments.dropFirst())) } catch {
            writeError("backup-bench: \(error)")
            exit(1)
        }
    }

    private static func run(_ words: [String]) throws {
        guard words.count >= 2 else { throw UsageError("which work, and where?") }
        let store = DirectoryStore(words[1])
        func word(_ number: Int) throws -> String {
            guard words.count > number else { throw UsageError("\(words[0]) needs more words") }
            return words[number]
        }
        switch words[0] {
        case "backup":
            let repository = try open(store, makes: true)
            let source = try FileSource(word(2), ranges: words.count > 3 ? words[3] : nil)
            let request = BackupRequest(backupID: "b", projectID: "p", volumeID: "v", parent: try repository.snapshots().last?.id)
            let made = try repository.backup(source, request)
            print("read \(made.readBytes) stored \(made.storedBytes) new \(made.newChunks)")
        case "restore":
            let repository = try open(store, makes: false)
            let newest = try newest(repository)
            let result = try repository.restore(newest, to: FileTarget(word(2), size: repository.record(of: newest).size))
            print("size \(result.size) written \(result.writtenBytes)")
        case "verify":
            let repository = try open(store, makes: false)
            let found = try repository.verify(newest(repository))
            guard found.isGood else { throw UsageError("the backup is damaged") }
            print("checked \(found.checkedBytes)")
        case "scrub":
            let found = try open(store, makes: false).scrub()
            guard found.isGood else { throw UsageError("the repository is damaged") }
            print("checked \(found.checkedBytes)")
        case "read": try readAnywhere(open(store, makes: false))
        case "chunked-backup":
            guard let compression = ChunkedCompression(cinderName: try word(3)) else { throw UsageError("no such algorithm") }
            var options = ChunkedOptions()
            options.compression = compression
            let made = try chunked.write(of: FileSource(word(2), ranges: nil), to: store, options: options)
            print("read \(made.read) stored \(made.stored) objects \(made.objects)")
        case "chunked-restore":
            guard let size = UInt64(try word(3)) else { throw UsageError("the size is a number") }
            let made = try ChunkedBackup.restore([chunked], from: store, to: FileTarget(word(2), size: size))
            print("written \(made.written)")
        default: throw UsageError("there is no \(words[0])")
        }
    }

    private static let chunked = ChunkedBackup(
        id: "aaaaaaaa-0000-0000-0000-000000000001", volumeID: "bbbbbbbb-0000-0000-0000-000000000001", container: "c", prefix: "p",
        createdAt: "2026-11-29 17:00:00+00:00")

    private static func open(_ store: DirectoryStore, makes: Bool) throws -> Repository {
        let password = Secret("bench")
        do { return try Repository.open(store, password: password) } catch let error as RepositoryError
            where error.kind == .notFound && makes
        { return try Repository.create(in: store, password: password) }
    }

    private static func newest(_ repository: Repository) throws -> Digest {
        guard let newest = try repository.snapshots().last else { throw UsageError("the repository is empty") }
        return newest.id
    }

    private static func readAnywhere(_ repository: Repository) throws {
        let image = try repository.image(of: newest(repository))
        var random = SystemRandomNumberGenerator()
        var block = [UInt8](repeating: 0, count: 4096)
        let begun = Timestamp.monotonic()
        for _ in 0..<100 {
            let offset = UInt64.random(in: 0..<image.size / 4096, using: &random) * 4096
            try block.withUnsafeMutableBytes { try image.read(at: offset, into: $0) }
        }
        let middle = Timestamp.monotonic()
        block = [UInt8](repeating: 0, count: 1 << 20)
        for number in 0..<min(256, image.size >> 20) { try block.withUnsafeMutableBytes { try image.read(at: number << 20, into: $0) } }
        print("random \(middle - begun) sequential \(Timestamp.monotonic() - middle)")
    }
}
