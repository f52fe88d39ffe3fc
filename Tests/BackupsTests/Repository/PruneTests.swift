import Glibc
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Pruning a repository")
struct PruneTests {
    private let directory = temporaryDirectory("repository")

    private func repository(packSize: Int = 1 << 20) throws -> Repository {
        var options = Repository.Options()
        options.lockPatience = 0.5
        options.packSize = packSize
        options.sampling = 0
        return try .create(in: DirectoryStore(directory), password: Secret("secret"), chunkSize: kib256, options: options)
    }

    private func backup(_ repository: Repository, _ image: [UInt8], _ name: String = "backup") throws -> Digest {
        try repository.backup(MemorySource(image), BackupRequest(backupID: name, projectID: "p", volumeID: "v")).snapshot
    }

    private func restored(_ repository: Repository, _ snapshot: Digest, _ size: Int) throws -> [UInt8] {
        let target = MemoryTarget(size)
        _ = try repository.restore(snapshot, to: target)
        return target.bytes
    }

    private func storedBytes(_ repository: Repository) throws -> UInt64 {
        var sum: UInt64 = 0
        try repository.forEachPack { sum += $1 }
        return sum
    }

    private func check() throws {
        let check = try Restic(directory: directory)("check", "--read-data")
        #expect(check.status == 0, "\(check.output)")
    }

    @Test(
        "what only a deleted backup needed is marked first and removed later; restic agrees all the time", .enabled(if: Restic.isInstalled))
    func twoPhases() throws {
        let repository = try repository()
        let image = mixedImage(chunks: 30, chunkSize: kib256, seed: 1)
        let kept = try backup(repository, image, "kept")
        let before = try storedBytes(repository)
        let gone = try backup(repository, mixedImage(chunks: 30, chunkSize: kib256, seed: 2), "gone")
        try repository.delete(gone)
        let first = try repository.prune()
        #expect(first.markedPacks > 0 && first.removedPacks == 0)
        try check()
        #expect(try repository.prune().removedPacks == 0)
        let second = try repository.prune(grace: 0)
        #expect(second.removedPacks == first.markedPacks)
        #expect(try storedBytes(repository) <= before + 1000)
        try check()
        #expect(try restored(repository, kept, image.count) == image)
        #expect(try repository.prune(grace: 0) == PruneResult())
    }

    @Test("a pack of which little is needed is repacked", .enabled(if: Restic.isInstalled))
    func repacking() throws {
        let repository = try repository(packSize: 8 << 20)
        var image = mixedImage(chunks: 40, chunkSize: kib256, seed: 3)
        let first = try backup(repository, image, "first")
        // A few chunks stay as they are.
        let other = mixedImage(chunks: 40, chunkSize: kib256, seed: 4)
        image.replaceSubrange(6 * kib256..<40 * kib256, with: other[6 * kib256..<40 * kib256])
        let second = try backup(repository, image, "second")
        try repository.delete(first)
        let result = try repository.prune(grace: 0)
        #expect(result.repackedPacks > 0)
        try check()
        let before = try storedBytes(repository)
        #expect(try repository.prune(grace: 0).removedPacks >= result.repackedPacks)
        #expect(try storedBytes(repository) < before)
        try check()
        #expect(try restored(repository, second, image.count) == image)
    }

    @Test("a pack that was marked while a backup came to need it is in use again")
    func recovery() throws {
        let repository = try repository()
        let image = mixedImage(chunks: 20, chunkSize: kib256, seed: 5)
        let first = try backup(repository, image, "first")
        let object = try readFile(directory + "/snapshots/" + first.hex)
        try repository.delete(first)
        #expect(try repository.prune().markedPacks > 0)
        // The snapshot of a backup that had read the index before.
        writeFile(directory + "/snapshots/" + first.hex, object)
        #expect(try restored(repository, first, image.count) == image)
        let result = try repository.prune(grace: 0)
        #expect(result.recoveredPacks > 0 && result.removedPacks == 0)
        #expect(try repository.loadIndex().markedPacks.isEmpty)
        #expect(try restored(repository, first, image.count) == image)
    }

    @Test("a backup does not refer to what is marked: it stores it anew")
    func markedIsNotUsed() throws {
        let repository = try repository()
        let image = mixedImage(chunks: 20, chunkSize: kib256, seed: 6)
        let first = try backup(repository, image, "first")
        try repository.delete(first)
        _ = try repository.prune()
        let second = try backup(repository, image, "second")
        let result = try repository.prune(grace: 0)
        #expect(result.recoveredPacks == 0 && result.removedPacks > 0)
        #expect(try restored(repository, second, image.count) == image)
    }

    @Test("nothing is removed while somebody works who may have begun before the mark, and two prunes exclude each other")
    func locks() throws {
        let repository = try repository()
        let image = mixedImage(chunks: 20, chunkSize: kib256, seed: 7)
        let gone = try backup(repository, image)
        try repository.delete(gone)
        let work = try repository.takeLock(.work)
        #expect(try repository.prune(grace: 0).markedPacks > 0)
        let waiting = try repository.prune(grace: 3600)
        #expect(waiting.removedPacks == 0 && waiting.waitingPacks > 0)
        work.release()
        // restic's lock does not say when its work began.
        let objects = SealedObjects(repository.store, repository.keys)
        let foreign = try objects.save(
            .locks,
            LockRecord(time: Timestamp.seconds(), isExclusive: false, hostname: "elsewhere", pid: 1, purpose: nil, startedAt: nil).json)
        #expect(try repository.prune(grace: 0).removedPacks == 0)
        try repository.store.remove([ObjectKind.locks.name(foreign)])
        let pruning = try repository.takeLock(.prune)
        #expect(kind { try repository.prune() } == .locked)
        pruning.release()
        #expect(try repository.prune(grace: 0).removedPacks > 0)
    }

    @Test(
        "an exclusive lock holds everything off until it goes or is stale, and ours hold off restic's prune",
        .enabled(if: Restic.isInstalled))
    func exclusion() throws {
        let repository = try repository()
        let objects = SealedObjects(repository.store, repository.keys)
        func put(_ time: Double, _ host: String, _ pid: Int64) throws -> Digest {
            try objects.save(
                .locks, LockRecord(time: time, isExclusive: true, hostname: host, pid: pid, purpose: nil, startedAt: nil).json)
        }
        let fresh = try put(Timestamp.seconds(), "elsewhere", 1)
        #expect(kind { try backup(repository, []) } == .locked)
        try repository.store.remove([ObjectKind.locks.name(fresh)])
        _ = try put(Timestamp.seconds() - 3600, "elsewhere", 1)
        _ = try put(Timestamp.seconds(), repository.hostname, Int64(Int32.max))
        _ = try backup(repository, mixedImage(chunks: 2, chunkSize: kib256, seed: 8))
        let work = try repository.takeLock(.work)
        #expect(try Restic(directory: directory)("prune").status != 0)
        work.release()
        _ = try repository.prune()
        #expect(try objects.list(.locks).isEmpty)
        #expect(try Restic(directory: directory)("prune").status == 0)
    }

    @Test("restic forgets and prunes our backups, and backs up into the repository itself", .enabled(if: Restic.isInstalled))
    func restic() throws {
        let repository = try repository()
        let images = (0..<3).map { mixedImage(chunks: 12, chunkSize: kib256, seed: 20 + UInt64($0)) }
        let made = try images.map { try backup(repository, $0) }
        let restic = Restic(directory: directory)
        let file = temporaryDirectory("files") + "/notes.txt"
        writeFile(file, Array("written by restic".utf8))
        let foreign = try restic("backup", file)
        #expect(foreign.status == 0, "\(foreign.output)")
        let forgotten = try restic("forget", "--prune", made[0].hex)
        #expect(forgotten.status == 0, "\(forgotten.output)")
        try check()
        #expect(try repository.snapshots().count == 3)
        for number in 1..<3 { #expect(try restored(repository, made[number], images[number].count) == images[number]) }
        try repository.delete(made[1])
        _ = try repository.prune(grace: 0)
        #expect(try repository.prune(grace: 0).removedPacks > 0)
        try check()
        let dump = temporaryDirectory("dump") + "/notes"
        #expect(try restic("dump", "latest", file, output: dump).status == 0)
        #expect(try readFile(dump) == Array("written by restic".utf8))
        #expect(kind { try repository.restore(repository.snapshots().last!.id, to: MemoryTarget(100)) } == .damaged)
    }

    @Test(
        "restic's prune frees at once what ours keeps for a day, and what a backup that failed has left", .enabled(if: Restic.isInstalled))
    func atOnce() throws {
        let repository = try repository()
        let kept = mixedImage(chunks: 6, chunkSize: kib256, seed: 30)
        let made = try backup(repository, kept, "kept")
        let before = try storedBytes(repository)
        try repository.delete(backup(repository, mixedImage(chunks: 12, chunkSize: kib256, seed: 31), "gone"))
        _ = try repository.prune()
        // As of a backup that was cut off before its index.
        let left = try SealedObjects(repository.store, repository.keys).list(.index).map(\.name)
        let failed = try backup(repository, mixedImage(chunks: 12, chunkSize: kib256, seed: 32), "failed")
        let new = try SealedObjects(repository.store, repository.keys).list(.index).map(\.name).filter { !left.contains($0) }
        try repository.store.remove(new.map { ObjectKind.index.name($0) } + [ObjectKind.snapshots.name(failed)])
        #expect(try storedBytes(repository) > before + 1_000_000)
        let pruned = try Restic(directory: directory)("prune", "--max-unused", "unlimited")
        #expect(pruned.status == 0, "\(pruned.output)")
        #expect(try storedBytes(repository) <= before)
        #expect(try restored(repository, made, kept.count) == kept)
        try check()
    }

    @Test("packs that no index knows are marked and removed, but stay while a chunk is missing")
    func orphans() throws {
        let repository = try repository()
        let image = mixedImage(chunks: 12, chunkSize: kib256, seed: 9)
        let made = try backup(repository, image)
        let stray = directory + "/" + ObjectKind.pack(Digest.sha256([1]))
        try [UInt8](repeating: 1, count: 100).withUnsafeBytes {
            try repository.store.put(ObjectKind.pack(Digest.sha256([1])), [$0], sha256: nil)
        }
        #expect(try repository.prune(grace: 0).markedPacks == 1)
        #expect(access(stray, F_OK) == 0)
        #expect(try repository.prune(grace: 0).removedPacks == 1)
        #expect(access(stray, F_OK) != 0)
        #expect(try restored(repository, made, image.count) == image)
    }
}
