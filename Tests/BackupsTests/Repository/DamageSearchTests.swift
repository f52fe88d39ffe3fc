import Glibc
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Who uses what is damaged in a repository")
struct DamageSearchTests {
    private let place = DirectoryRepository()
    private let image = mixedImage(chunks: 12, chunkSize: kib256, seed: 41)

    private func backup(_ repository: Repository, _ name: String, _ image: [UInt8]) throws -> Digest {
        try repository.backup(MemorySource(image), BackupRequest(backupID: name, projectID: "p", volumeID: "v")).snapshot
    }

    @Test("the backups that have the chunk are found, by its id or by its pack, and no others", arguments: [true, false])
    func chunks(byPack: Bool) throws {
        let repository = try place.create()
        let first = try backup(repository, "first", image)
        var later = image
        later[5 * kib256] ^= 1
        _ = try backup(repository, "later", later)
        _ = try backup(repository, "other", mixedImage(chunks: 12, chunkSize: kib256, seed: 42))
        try place.flip(place.chunk(of: first, in: repository) { $0 != 5 })
        let damages = byPack ? try repository.scrub().damages : try repository.verify(first).damages
        #expect(damages.allSatisfy { byPack == ($0.chunk == nil) })
        let users = try repository.snapshots(using: damages).compactMap(\.backupID)
        #expect(Set(users) == ["first", "later"])
    }

    @Test("a snapshot whose tags name another backup than its record marks nobody")
    func forgedTags() throws {
        let repository = try place.create()
        let first = try backup(repository, "first", image)
        let tree = try repository.snapshot(first).tree
        for (name, project) in [("stranger", "p"), ("first", "another")] {
            let json = RepositorySnapshot.json(
                time: "2026-11-29T17:00:00Z", tree: tree, parent: nil, volumeID: "v", backupID: name, projectID: project, hostname: "h")
            _ = try SealedObjects(repository.store, repository.keys).save(.snapshots, json)
        }
        try place.flip(place.chunk(of: first, in: repository))
        let users = try repository.snapshots(using: repository.verify(first).damages)
        #expect(users.map(\.backupID) == ["first"] && users.map(\.projectID) == ["p"])
    }

    @Test("a damaged tree is its backup's damage; the next backup stores it anew, and the old one is good again")
    func trees() throws {
        let repository = try place.create()
        let first = try backup(repository, "first", image)
        _ = try backup(repository, "other", mixedImage(chunks: 12, chunkSize: kib256, seed: 42))
        let index = try repository.loadIndex()
        let tree = try ImageMap(repository, index, snapshot: first).tree(of: 0)
        let location = try #require(try index.find(tree, .tree))
        try place.flip(location)
        let found = try repository.verify(first)
        #expect(found.damages.map(\.pack) == [location.pack])
        #expect(try repository.snapshots(using: found.damages).compactMap(\.backupID) == ["first"])
        #expect(try repository.discard(found.damages) == [tree])
        _ = try backup(repository, "next", image)
        #expect(try repository.verify(first).isGood)
        let target = MemoryTarget(image.count)
        _ = try repository.restore(first, to: target)
        #expect(target.bytes == image)
    }

    @Test("holes of an opened image are its chunks of zeroes")
    func holes() throws {
        let repository = try place.create()
        let opened = try repository.image(of: backup(repository, "b", image))
        let parts = try opened.data(in: 100..<UInt64(image.count))
        #expect(parts.allSatisfy { !$0.isEmpty } && zip(parts, parts.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
        for start in stride(from: 0, to: image.count, by: kib256) {
            let isZero = image[start..<start + kib256].allSatisfy { $0 == 0 }
            let isHole = !parts.contains { $0.overlaps(UInt64(start)..<UInt64(start + kib256)) }
            #expect(isZero == isHole)
        }
    }
}
