import Glibc
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("A damaged snapshot or index in a repository")
struct UnreadableObjectTests {
    private let files = DirectoryRepository()
    private let image = mixedImage(chunks: 12, chunkSize: kib256, seed: 71)
    private let other = mixedImage(chunks: 12, chunkSize: kib256, seed: 72)

    private func request(_ id: String) -> BackupRequest {
        var request = BackupRequest(backupID: id, projectID: "p", volumeID: "v")
        request.continues = true
        return request
    }

    @discardableResult
    private func backup(_ repository: Repository, _ id: String, _ image: [UInt8]) throws -> BackupResult {
        try repository.backup(MemorySource(image), request(id))
    }

    private func restored(_ repository: Repository, _ snapshot: Digest) throws -> [UInt8] {
        let target = MemoryTarget(image.count)
        _ = try repository.restore(snapshot, to: target)
        return target.bytes
    }

    private func indexNames(_ repository: Repository) throws -> [Digest] {
        try SealedObjects(repository.store, repository.keys).list(.index).map(\.name)
    }

    private func packCount(_ repository: Repository) throws -> Int {
        var count = 0
        try repository.forEachPack { _, _ in count += 1 }
        return count
    }

    /// Damages an object of the repository.
    private func spoil(_ name: String, _ how: String = "flipped") throws {
        var bytes = try readFile(files.directory + "/" + name)
        switch how {
        case "flipped": bytes[bytes.count / 2] ^= 1
        case "truncated": bytes.removeLast(bytes.count / 2)
        default: bytes = []
        }
        writeFile(files.directory + "/" + name, bytes)
    }

    private func reason(_ body: () throws -> Void) throws -> String {
        let error = try #require(throws: RepositoryError.self) { try body() }
        #expect(error.kind == .damaged)
        return error.description
    }

    @Test("prune removes nothing while a snapshot cannot be read, and names it")
    func pruneBesideSnapshot() throws {
        let repository = try files.create()
        let kept = try backup(repository, "kept", image).snapshot
        let spoilt = try backup(repository, "spoilt", other).snapshot
        try repository.delete(kept)
        try spoil(ObjectKind.snapshots.name(spoilt))
        let packs = try packCount(repository)
        for _ in 0..<2 {
            #expect(try reason { _ = try repository.prune(grace: 0) }.contains("snapshots/\(spoilt) is not what was written"))
        }
        #expect(try packCount(repository) == packs)
        #expect(try repository.damagedObjects().map(\.description) == ["snapshots/\(spoilt) is not what was written"])
        #expect(try repository.scrub().damages.map(\.description) == ["snapshots/\(spoilt) is not what was written"])
        #expect(try repository.deleteUnreadable(besides: []) == [spoilt])
        _ = try repository.prune(grace: 0)
        #expect(try repository.prune(grace: 0).removedPacks > 0)
    }

    @Test("which snapshot is a backup's that cannot be read is known when all others are found")
    func elimination() throws {
        let repository = try files.create()
        let made = try ["a", "b", "c"].map { try backup(repository, $0, image).snapshot }
        for snapshot in made[..<2] { try spoil(ObjectKind.snapshots.name(snapshot)) }
        #expect(try repository.deleteUnreadable(besides: ["b", "c"]) == [])
        #expect(try Set(repository.deleteUnreadable(besides: ["c"])) == Set(made[..<2]))
        #expect(try repository.find(backup: "c")?.id == made[2])
    }

    @Test(
        "beside a damaged part of the index every backup is read, by the headers of its packs, and the next ones are whole",
        arguments: ["flipped", "truncated", "empty"], [false, true])
    func index(_ how: String, isCached: Bool) throws {
        var repository = try files.create()
        if isCached {
            var options = repository.options
            options.cacheDirectory = temporaryDirectory("cache")
            repository = try Repository.open(DirectoryStore(files.directory), password: Secret("secret"), options: options)
        }
        let first = try backup(repository, "first", image).snapshot
        let spoilt = try #require(try indexNames(repository).first)
        let second = try backup(repository, "second", other).snapshot
        try spoil(ObjectKind.index.name(spoilt), how)
        let words = "index/\(spoilt)"
        #expect(try repository.damagedObjects().allSatisfy { $0.description.contains(words) })
        #expect(try repository.damagedObjects().count == 1)
        for (snapshot, image) in [(first, image), (second, other)] {
            #expect(try repository.verify(snapshot).isGood)
            #expect(try restored(repository, snapshot) == image)
            var bytes = [UInt8](repeating: 0, count: image.count)
            let opened = try repository.image(of: snapshot)
            try bytes.withUnsafeMutableBytes { try opened.read(at: 0, into: $0) }
            #expect(bytes == image)
        }
        #expect(try repository.scrub().damages.count == 1)
        // A repository without a cache meets the damage; what it had named is in the index again.
        let third = try backup(repository, "third", image)
        #expect(third.newChunks == 0)
        #expect(try restored(repository, third.snapshot) == image)
        let pruned = try repository.prune(grace: 0)
        #expect(pruned.missingChunks == 0)
        #expect(try repository.damagedObjects().isEmpty && !indexNames(repository).contains(spoilt))
        for snapshot in [first, third.snapshot] { #expect(try restored(repository, snapshot) == image) }
        if Restic.isInstalled {
            let check = try Restic(directory: files.directory)("check", "--read-data")
            #expect(check.status == 0, "\(check.output)")
        }
    }

    @Test("prune keeps all, and says why, while a pack cannot be read that a damaged part of the index may have named")
    func pruneBesideIndex() throws {
        let repository = try files.create()
        let made = try backup(repository, "a", image).snapshot
        // One names the chunks, the other the trees.
        let spoilt = try indexNames(repository)
        let pack = try files.chunk(of: made, in: repository).pack
        try files.damage(pack) { $0[$0.count - 10] ^= 1 }
        try repository.delete(backup(repository, "b", other).snapshot)
        for name in spoilt { try spoil(ObjectKind.index.name(name)) }
        let packs = try packCount(repository)
        let text = try reason { _ = try repository.prune(grace: 0) }
        let isNamed = spoilt.contains { text.contains("index/\($0) is not what was written") }
        #expect(isNamed && text.contains(ObjectKind.pack(pack)), "\(text)")
        #expect(try packCount(repository) == packs && Set(spoilt).isSubset(of: indexNames(repository)))
        // The verification names both, and the next backup mends it.
        let damages = try repository.verify(made).damages
        #expect(damages.contains { damage in spoilt.contains { damage.description.contains("index/\($0)") } })
        #expect(try backup(repository, "c", image).newChunks > 0)
        #expect(try restored(repository, made) == image)
    }
}
