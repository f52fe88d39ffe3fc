import Glibc
import JSON
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Backups in a repository")
struct BackupRestoreTests {
    private let directory = temporaryDirectory("repository")

    private func repository(_ change: (inout Repository.Options) -> Void = { _ in }) throws -> Repository {
        var options = Repository.Options()
        options.lockPatience = 1
        change(&options)
        return try .create(in: DirectoryStore(directory), password: Secret("secret"), chunkSize: kib256, options: options)
    }

    private func request(_ name: String, parent: Digest? = nil) -> BackupRequest {
        BackupRequest(backupID: name, projectID: "project", volumeID: "volume", details: ["name": "data"], parent: parent)
    }

    private func restored(_ repository: Repository, _ snapshot: Digest, size: Int, filledWith byte: UInt8 = 0) throws -> [UInt8] {
        let target = MemoryTarget(size, filledWith: byte)
        let result = try repository.restore(snapshot, to: target)
        #expect(result.size == UInt64(size))
        #expect(target.flushes == 1)
        return target.bytes
    }

    @Test("a full backup comes back byte for byte, onto a new and onto a used volume, and restic agrees", .enabled(if: Restic.isInstalled))
    func full() throws {
        let image = mixedImage(chunks: 60, chunkSize: kib256, tail: 70_000, seed: 1)
        let repository = try repository { $0.packSize = 2 << 20 }
        let result = try repository.backup(MemorySource(image), request("first"))
        #expect(result.size == UInt64(image.count))
        #expect(result.readBytes == UInt64(image.count))
        #expect(result.missedChange == nil)
        #expect(try restored(repository, result.snapshot, size: image.count) == image)
        #expect(try restored(repository, result.snapshot, size: image.count, filledWith: 7) == image)
        #expect(try repository.verify(result.snapshot).isGood)
        #expect(try repository.scrub().isGood)

        let restic = Restic(directory: directory)
        let check = try restic("check", "--read-data")
        #expect(check.status == 0, "\(check.output)")
        let dump = temporaryDirectory("dump") + "/image"
        #expect(try restic("dump", result.snapshot.hex, "/image/00000/data", output: dump).status == 0)
        #expect(try readFile(dump) == image)
        let folder = temporaryDirectory("restored")
        let restore = try restic("restore", result.snapshot.hex, "--target", folder)
        #expect(restore.status == 0, "\(restore.output)")
        #expect(try readFile(folder + "/image/00000/data") == image)
        #expect(try VolumeRecord(parsing: readFile(folder + "/volume.json"), snapshot: result.snapshot).details == ["name": "data"])
    }

    @Test("the snapshot says what it is of, and volume.json brings back the row")
    func records() throws {
        let repository = try repository()
        let first = try repository.backup(MemorySource(mixedImage(chunks: 3, chunkSize: kib256, seed: 2)), request("first"))
        let second = try repository.backup(MemorySource([]), request("second", parent: first.snapshot))
        let found = try Repository.open(DirectoryStore(directory), password: Secret("secret")).snapshots()
        #expect(found.map(\.id) == [first.snapshot, second.snapshot])
        #expect(found.map(\.backupID) == ["first", "second"])
        #expect(found.map(\.projectID) == ["project", "project"])
        #expect(found.map(\.volumeID) == ["volume", "volume"])
        #expect(found[1].parent == first.snapshot)
        let record = try repository.record(of: first.snapshot)
        #expect(record.backupID == "first" && record.size == UInt64(3 * kib256) && record.details == ["name": "data"])
        #expect(try restored(repository, second.snapshot, size: 0).isEmpty)
        for bad in ["", "a/b", "a b", "ä", String(repeating: "x", count: 256)] {
            #expect(kind { try repository.backup(MemorySource([]), request(bad)) } == .invalid)
        }
    }

    @Test("an increment reads only what changed, stores only what is new, and needs no parent afterwards", .enabled(if: Restic.isInstalled))
    func increment() throws {
        var image = mixedImage(chunks: 100, chunkSize: kib256, tail: 5000, seed: 3)
        let repository = try repository { $0.sampling = 0 }
        let first = try repository.backup(MemorySource(image), request("first"))
        // Within a chunk, across a border, and a chunk that becomes zeroes.
        var changed: [Range<UInt64>] = []
        for range in [10 * kib256 + 100..<10 * kib256 + 200, 20 * kib256 - 10..<20 * kib256 + 10, 30 * kib256..<31 * kib256] {
            for index in range { image[index] = range.count == kib256 ? 0 : image[index] &+ 1 }
            changed.append(UInt64(range.lowerBound)..<UInt64(range.upperBound))
        }
        let source = MemorySource(image, changed: changed)
        let second = try repository.backup(source, request("second", parent: first.snapshot))
        #expect(source.readBytes == UInt64(4 * kib256))
        #expect(second.readBytes == UInt64(4 * kib256))
        #expect(second.newChunks <= 3)
        #expect(try restored(repository, second.snapshot, size: image.count) == image)
        try repository.delete(first.snapshot)
        try repository.delete(first.snapshot)
        #expect(try restored(repository, second.snapshot, size: image.count) == image)
        #expect(kind { try repository.restore(first.snapshot, to: MemoryTarget(image.count)) } == .notFound)
        let check = try Restic(directory: directory)("check", "--read-data")
        #expect(check.status == 0, "\(check.output)")
    }

    @Test("an increment after a grow, after a shrink to a part of a chunk, and one whose parent is gone")
    func sizes() throws {
        let image = mixedImage(chunks: 10, chunkSize: kib256, tail: 1000, seed: 4)
        let repository = try repository()
        var parent = try repository.backup(MemorySource(image), request("first")).snapshot
        let grown = image + mixedImage(chunks: 5, chunkSize: kib256, tail: 77, seed: 5)
        // A grow is not always among the changes that the storage tells of.
        for (name, bytes) in [("grown", grown), ("shrunk", Array(grown.prefix(7 * kib256 + 9))), ("again", grown)] {
            let source = MemorySource(bytes, changed: name == "again" ? [UInt64(7 * kib256)..<UInt64(bytes.count)] : [])
            let made = try repository.backup(source, request(name, parent: parent))
            #expect(made.missedChange == nil)
            #expect(try restored(repository, made.snapshot, size: bytes.count) == bytes, "\(name)")
            parent = made.snapshot
        }
        let orphan = try repository.backup(MemorySource(image, changed: []), request("orphan", parent: Digest.sha256([1])))
        #expect(orphan.readBytes == UInt64(image.count))
        #expect(try restored(repository, orphan.snapshot, size: image.count) == image)
    }

    @Test("of what a volume grew by, only what holds something is read")
    func growth() throws {
        let image = mixedImage(chunks: 4, chunkSize: kib256, seed: 4)
        let repository = try repository { $0.sampling = 0 }
        let first = try repository.backup(MemorySource(image), request("first")).snapshot
        var grown = image + [UInt8](repeating: 0, count: 40 * kib256)
        grown[30 * kib256 + 1] = 7
        let place = UInt64(30 * kib256)..<UInt64(30 * kib256 + 4096)
        let source = MemorySource(grown, changed: [], extents: [0..<UInt64(image.count), place])
        let made = try repository.backup(source, request("grown", parent: first))
        #expect(source.readBytes == UInt64(kib256))
        #expect(try restored(repository, made.snapshot, size: grown.count) == grown)
    }

    @Test("the share of what is called unchanged that is read all the same is a thousandth, and one chunk at least that holds something")
    func samples() throws {
        let repository = try repository()
        var image = [UInt8](repeating: 0, count: 200 * kib256)
        image[77 * kib256] = 1
        let first = try repository.backup(MemorySource(image), request("first"))
        let same = MemorySource(image, changed: [])
        let second = try repository.backup(same, request("same", parent: first.snapshot))
        #expect(same.readBytes == UInt64(kib256) && second.missedChange == nil)
        // The only one that holds something is the one that changed.
        image[77 * kib256] = 2
        let third = try repository.backup(MemorySource(image, changed: []), request("third", parent: second.snapshot))
        #expect(third.missedChange == UInt64(77 * kib256))
        #expect(try restored(repository, third.snapshot, size: image.count) == image)
    }

    @Test("a storage whose list of changes omits something is found out, named, and not relied on")
    func lies() throws {
        var image = mixedImage(chunks: 20, chunkSize: kib256, seed: 6)
        let repository = try repository { $0.sampling = 1 }
        let first = try repository.backup(MemorySource(image), request("first"))
        let honest = try repository.backup(MemorySource(image, changed: []), request("honest", parent: first.snapshot))
        #expect(honest.missedChange == nil)
        image[7 * kib256 + 5] ^= 1
        let second = try repository.backup(MemorySource(image, changed: []), request("second", parent: first.snapshot))
        #expect(second.missedChange == UInt64(7 * kib256))
        #expect(try restored(repository, second.snapshot, size: image.count) == image)
    }

    @Test("holes are neither read nor stored, and are holes when they are restored")
    func holes() throws {
        let repository = try repository()
        var image = [UInt8](repeating: 0, count: 64 * kib256)
        for index in 5 * kib256..<6 * kib256 { image[index] = 3 }
        let extent = UInt64(5 * kib256 + 10)..<UInt64(5 * kib256 + 20)
        let source = MemorySource(image, extents: [extent])
        let made = try repository.backup(source, request("sparse"))
        #expect(source.readBytes == UInt64(kib256))
        #expect(made.storedBytes < 20_000)
        let target = MemoryTarget(image.count)
        try #expect(repository.restore(made.snapshot, to: target).writtenBytes == UInt64(kib256))
        #expect(target.bytes == image && target.zeroed == 0)
        let used = MemoryTarget(image.count, filledWith: 1)
        _ = try repository.restore(made.snapshot, to: used)
        #expect(used.bytes == image && used.zeroed == UInt64(63 * kib256))
    }

    @Test("an image of several segments comes back, and a segment without changes is the same tree", .enabled(if: Restic.isInstalled))
    func segments() throws {
        let repository = try repository {
            $0.sampling = 0
            $0.segmentChunks = 1000
        }
        let segment = repository.segmentSize
        let contents: [UInt64: [UInt8]] = [
            0: [1, 2, 3], segment - 4: [4, 4, 4, 4], segment + 5: [5], 3 * segment + UInt64(kib256): [6, 6],
        ]
        let size = 3 * segment + UInt64(2 * kib256) + 3
        let first = try repository.backup(SparseSource(size: size, contents: contents), request("first"))
        do {
            let image = try repository.image(of: first.snapshot)
            #expect(image.size == size)
            for (start, bytes) in contents {
                let from = start < 100 ? 0 : start - 100
                var read = [UInt8](repeating: 9, count: 300)
                try read.withUnsafeMutableBytes { try image.read(at: from, into: $0) }
                #expect(Array(read[Int(start - from)...].prefix(bytes.count)) == bytes)
            }
        }
        let same = try repository.backup(
            SparseSource(size: size, contents: [:], isParentKnown: true), request("same", parent: first.snapshot))
        #expect(same.readBytes == 0)
        let index = try repository.loadIndex()
        let maps = try [first, same].map { try ImageMap(repository, index, snapshot: $0.snapshot) }
        for number in 0..<4 { #expect(maps[0].tree(of: number) == maps[1].tree(of: number)) }
        let check = try Restic(directory: directory)("check", "--read-data")
        #expect(check.status == 0, "\(check.output)")
    }

    @Test("a backup can be read at any place")
    func randomAccess() throws {
        let image = mixedImage(chunks: 12, chunkSize: kib256, tail: 100, seed: 8)
        let repository = try repository()
        let opened = try repository.image(of: repository.backup(MemorySource(image), request("first")).snapshot)
        var random = Seeded(9)
        for _ in 0..<200 {
            let start = Int.random(in: 0...image.count, using: &random)
            let count = Int.random(in: 0...min(image.count - start, 600_000), using: &random)
            var bytes = [UInt8](repeating: 1, count: count)
            try bytes.withUnsafeMutableBytes { try opened.read(at: UInt64(start), into: $0) }
            #expect(bytes == Array(image[start..<start + count]))
        }
        var one: [UInt8] = [0]
        for place in [UInt64(image.count), .max] {
            #expect(kind { try one.withUnsafeMutableBytes { try opened.read(at: place, into: $0) } } == .invalid)
        }
    }

    @Test("an attempt that was cut off is continued: what its packs have is not sent again")
    func continuation() throws {
        struct Stop: Error {}
        let image = mixedImage(chunks: 80, chunkSize: kib256, seed: 10)
        let repository = try repository {
            $0.packSize = 1 << 20
            $0.threads = 1
            $0.indexInterval = .infinity
        }
        #expect(throws: Stop.self) {
            let source = MemorySource(image, beforeRead: { if $0 >= UInt64(60 * kib256) { throw Stop() } })
            _ = try repository.backup(source, request("first"))
        }
        #expect(try repository.snapshots().isEmpty)
        var sent: UInt64 = 0
        try repository.forEachPack { _, size in sent += size }
        #expect(sent > 0)
        #expect(try repository.loadIndex().packs.isEmpty)
        var again = request("first")
        again.continues = true
        let second = try repository.backup(MemorySource(image), again)
        #expect(try restored(repository, second.snapshot, size: image.count) == image)
        let other = try Repository.create(in: DirectoryStore(temporaryDirectory("whole")), password: Secret("x"), chunkSize: kib256)
        let whole = try other.backup(MemorySource(image), request("first"))
        #expect(second.storedBytes + sent < whole.storedBytes + 20_000)
    }

    @Test("what an attempt that was cut off has read is not read again, unless its journal is lost, damaged or of another source")
    func journal() throws {
        struct Stop: Error {}
        let image = mixedImage(chunks: 80, chunkSize: kib256, tail: 77, seed: 11)
        for how in ["kept", "flipped", "cut off", "lost", "another"] {
            let cache = temporaryDirectory("cache")
            let repository = try Repository.create(
                in: DirectoryStore(temporaryDirectory("repository")), password: Secret("x"), chunkSize: kib256,
                options: {
                    var options = Repository.Options()
                    options.packSize = 1 << 20
                    options.threads = 1
                    options.segmentChunks = 16
                    options.cacheDirectory = cache
                    return options
                }())
            let stopped = MemorySource(image, beforeRead: { if $0 >= UInt64(60 * kib256) { throw Stop() } })
            #expect(throws: Stop.self) { _ = try repository.backup(stopped, request("first")) }
            let path = cache + "/" + repository.id.hex + "/first.journal"
            var bytes = try readFile(path)
            #expect(bytes.count == 64 + 60 * 48)
            var next = image
            switch how {
            case "flipped": bytes[64 + 30 * 48 + 20] ^= 1
            case "cut off": bytes.removeLast(10 * 48 + 5)
            case "another": next.removeLast()
            default: break
            }
            writeFile(path, bytes)
            if how == "lost" { unlink(path) }
            var again = request("first")
            again.continues = true
            let source = MemorySource(next)
            let made = try repository.backup(source, again)
            #expect(try restored(repository, made.snapshot, size: next.count) == next)
            // Of what was read the last pack was not stored.
            let unread = source.size - source.readBytes
            switch how {
            case "kept": #expect(unread >= UInt64(48 * kib256))
            case "flipped": #expect(unread > UInt64(20 * kib256) && unread <= UInt64(30 * kib256))
            case "cut off": #expect(unread > UInt64(40 * kib256) && unread <= UInt64(49 * kib256))
            default: #expect(unread == 0)
            }
            #expect(access(path, F_OK) != 0)
            // A source that may have changed is read whole.
            #expect(throws: Stop.self) { _ = try repository.backup(stopped, request("second")) }
            let whole = MemorySource(image)
            _ = try repository.backup(whole, request("second"))
            #expect(whole.readBytes == whole.size)
        }
    }

    @Test("a cancelled backup or restore ends with an error that says so, and leaves nothing visible")
    func cancellation() throws {
        let image = mixedImage(chunks: 40, chunkSize: kib256, seed: 11)
        let repository = try repository()
        let control = TransferControl()
        let source = MemorySource(image, beforeRead: { if $0 >= UInt64(20 * kib256) { control.cancel() } })
        #expect(kind { try repository.backup(source, request("first"), control: control) } == .cancelled)
        #expect(try repository.snapshots().isEmpty)
        #expect(try SealedObjects(repository.store, repository.keys).list(.locks).isEmpty)
        let made = try repository.backup(MemorySource(image), request("first"))
        let cancelled = TransferControl()
        cancelled.cancel()
        let failure = #expect(throws: RestoreFailure.self) {
            _ = try repository.restore(made.snapshot, to: MemoryTarget(image.count), control: cancelled)
        }
        #expect(failure?.completeUpTo == 0)
        #expect((failure?.cause as? RepositoryError)?.kind == .cancelled)
    }

    @Test("progress arrives at the whole, and a rate is kept")
    func progress() throws {
        let image = mixedImage(chunks: 16, chunkSize: kib256, seed: 12)
        let repository = try repository()
        let control = TransferControl(bytesPerSecond: 16 << 20)
        let made = try repository.backup(MemorySource(image), request("first"), control: control)
        #expect(control.progress.done == UInt64(image.count) && control.progress.total == UInt64(image.count))
        #expect(control.progress.stored == made.storedBytes)
    }
}
