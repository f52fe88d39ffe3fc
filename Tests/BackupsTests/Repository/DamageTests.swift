import Glibc
import JSON
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("Damage in a repository")
struct DamageTests {
    private let files = DirectoryRepository()
    private var directory: String { files.directory }
    private let image = mixedImage(chunks: 24, chunkSize: kib256, seed: 31)

    private func repository() throws -> Repository { try files.create() }

    private func request(_ parent: Digest? = nil) -> BackupRequest {
        BackupRequest(backupID: "b", projectID: "p", volumeID: "v", parent: parent)
    }

    private func backup(_ repository: Repository) throws -> Digest { try repository.backup(MemorySource(image), request()).snapshot }

    /// A chunk of the image that is not zeroes, in a pack that does not have `volume.json` too.
    private func place(_ repository: Repository, _ snapshot: Digest) throws -> (offset: UInt64, location: BlobIndex.Location) {
        let index = try repository.loadIndex()
        let map = try ImageMap(repository, index, snapshot: snapshot)
        let chunks = try map.chunks(of: 0)
        let record = try index.find(Digest.sha256(Array(map.record.get().json.text.utf8)), .data)!
        for (number, chunk) in chunks.enumerated() where chunk != ZeroChunks(chunkSize: kib256).id(kib256) {
            let location = try index.find(chunk, .data)!
            if location.pack != record.pack { return (UInt64(number * kib256), location) }
        }
        throw RepositoryError(.invalid, "the image is too small for this test")
    }

    private func damage(_ pack: Digest, _ change: (inout [UInt8]) -> Void) throws { try files.damage(pack, change) }

    @Test(
        "a flipped byte, a truncated, a swapped and a missing pack are found before anything wrong is written, named, and mended by the next backup",
        arguments: ["flipped", "truncated", "swapped", "missing"])
    func packs(_ how: String) throws {
        let repository = try repository()
        let snapshot = try backup(repository)
        let (offset, location) = try place(repository, snapshot)
        switch how {
        case "flipped": try damage(location.pack) { $0[Int(location.blob.offset) + 40] ^= 0x10 }
        case "truncated": try damage(location.pack) { $0.removeLast($0.count - Int(location.blob.offset) - 5) }
        case "swapped":
            let other = try repository.loadIndex().packs.first { $0 != location.pack }!
            writeFile(directory + "/" + ObjectKind.pack(location.pack), try readFile(directory + "/" + ObjectKind.pack(other)))
        default: unlink(directory + "/" + ObjectKind.pack(location.pack))
        }
        let target = MemoryTarget(image.count)
        let failure = #expect(throws: RestoreFailure.self) { _ = try repository.restore(snapshot, to: target) }
        #expect((failure?.cause as? RepositoryError)?.kind == .damaged)
        // What was written is right, and as much as was said.
        let written = target.bytes
        for start in stride(from: 0, to: image.count, by: kib256) {
            let part = Array(written[start..<start + kib256])
            #expect(part == Array(image[start..<start + kib256]) || part.allSatisfy { $0 == 0 })
        }
        #expect(failure.map { $0.completeUpTo <= offset } == true)
        #expect(failure?.writtenBytes == target.written)

        let found = try repository.verify(snapshot)
        #expect(found.damages.contains { $0.offset == offset && $0.pack == location.pack && $0.chunk == location.blob.id })
        #expect(try repository.scrub().damages.map(\.pack) == [location.pack])
        let opened = try repository.image(of: snapshot)
        var byte: [UInt8] = [0]
        #expect(kind { try byte.withUnsafeMutableBytes { try opened.read(at: offset, into: $0) } } == .damaged)

        #expect(try repository.discard(found.damages).contains(location.blob.id))
        let again = try repository.backup(MemorySource(image, changed: []), request(snapshot))
        #expect(again.missedChange == nil && again.newChunks > 0)
        for each in [snapshot, again.snapshot] {
            let target = MemoryTarget(image.count)
            _ = try repository.restore(each, to: target)
            #expect(target.bytes == image)
        }
    }

    @Test("a backup whose volume.json is lost can be restored all the same", arguments: [1 << 16, 7])
    func lostRecord(_ segmentChunks: Int) throws {
        var options = Repository.Options()
        options.segmentChunks = segmentChunks
        options.sampling = 0
        let repository = try Repository.create(
            in: DirectoryStore(directory), password: Secret("secret"), chunkSize: kib256, options: options)
        let image = image.dropLast(1000)
        let snapshot = try repository.backup(MemorySource(Array(image)), request()).snapshot
        let chunk = try ImageMap(repository, repository.loadIndex(), snapshot: snapshot).recordChunk
        let location = try repository.loadIndex().find(chunk, .data)!
        try damage(location.pack) { $0[Int(location.blob.offset) + 20] ^= 1 }
        #expect(kind { try repository.record(of: snapshot) } == .damaged)
        let found = try repository.verify(snapshot)
        #expect(found.damages.map(\.chunk) == [chunk])
        #expect(try repository.discard(found.damages) == [chunk])
        let target = MemoryTarget(image.count)
        _ = try repository.restore(snapshot, to: target)
        #expect(target.bytes == Array(image))
        let next = try repository.backup(MemorySource(Array(image), changed: []), request(snapshot))
        #expect(next.readBytes <= UInt64(2 * kib256))
    }

    @Test("a scrub in parts checks every pack once")
    func parts() throws {
        let repository = try repository()
        _ = try backup(repository)
        let whole = try repository.scrub().checkedBytes
        #expect(try (0..<7).map { try repository.scrub(part: $0, of: 7).checkedBytes }.reduce(0, +) == whole)
        #expect(kind { try repository.scrub(part: 7, of: 7) } == .invalid)
    }

    @Test(
        "a damaged, a foreign or an unknown object is refused by its name",
        arguments: ObjectKind.allCases.filter { $0 != .config && $0 != .keys })
    func objects(_ kind: ObjectKind) throws {
        let repository = try repository()
        _ = try backup(repository)
        let objects = SealedObjects(repository.store, repository.keys)
        let name = try objects.save(kind, ["time": "2026-11-30T00:00:00Z"])
        let path = directory + "/" + kind.name(name)
        let bytes = try readFile(path)
        func load() -> RepositoryError.Kind? { BackupsTests.kind { try objects.load(kind, name) } }
        #expect(load() == nil)
        var flipped = bytes
        flipped[20] ^= 1
        for bad in [flipped, Array(bytes.dropLast()), [], bytes + [0]] {
            writeFile(path, bad)
            #expect(load() == .damaged)
        }
        let foreign = try SealedObjects(repository.store, .random()).save(kind, [:])
        #expect(BackupsTests.kind { try objects.load(kind, foreign) } == .damaged)
        for (plain, expected) in [([3, 1, 2], RepositoryError.Kind.unsupported), ([2, 1, 2], .damaged)] {
            let sealed = plain.map { UInt8($0) }.withUnsafeBytes { Sealer(repository.keys).seal($0) }
            let name = Digest.sha256(sealed)
            writeFile(directory + "/" + kind.name(name), sealed)
            #expect(BackupsTests.kind { try objects.load(kind, name) } == expected)
            try repository.store.remove([kind.name(name)])
        }
        writeFile(path, [UInt8](repeating: 0, count: kind.limit + 1))
        #expect(load() == .damaged)
    }

    @Test("trees and records that a stranger wrote are refused: too many chunks, foreign sizes, unknown chunks, no image")
    func trees() throws {
        let repository = try repository()
        _ = try backup(repository)
        let sealer = Sealer(repository.keys)
        let known = ZeroChunks(chunkSize: kib256).id(kib256)
        func record(_ size: Int64, _ change: (inout JSONObject) -> Void = { _ in }) -> [UInt8] {
            var json = VolumeRecord(
                backupID: "b", projectID: "p", volumeID: "v", size: 0, createdAt: "", details: .null, chunkSize: kib256,
                segmentSize: UInt64(kib256) << 16
            ).json.object!
            json["size"] = .integer(size)
            change(&json)
            return Array(JSON.object(json).text.utf8)
        }
        /// A snapshot whose parts are given as texts.
        func snapshot(record: [UInt8], segment: String, image: String? = nil) throws -> Digest {
            let index = IndexWriter(repository.store, repository.keys, interval: .infinity)
            func add(_ type: BlobType, _ text: [UInt8]) throws -> Digest {
                let id = Digest.sha256(text)
                let writer = PackWriter(
                    repository.store, repository.keys, packSize: 1 << 20, largestBlob: 1 << 20, index: index, control: nil)
                try text.withUnsafeBytes { try writer.add(id, type, $0, plainLength: 0, sealer) }
                try writer.flush()
                writer.end()
                return id
            }
            let segmentID = try add(.tree, Array(segment.utf8))
            let imageID = try add(.tree, image.map { Array($0.utf8) } ?? Trees.image(segments: [segmentID]))
            let recordID = try add(.data, record)
            let root = try add(.tree, Trees.root(image: imageID, record: recordID, recordSize: record.count, time: "2026-11-30T00:00:00Z"))
            return try SealedObjects(repository.store, repository.keys).save(
                .snapshots,
                RepositorySnapshot.json(
                    time: "2026-11-30T00:00:00Z", tree: root, parent: nil, volumeID: "v", backupID: "b", projectID: "p", hostname: "h"))
        }
        func segment(_ size: Int, _ chunks: [Digest]) -> String {
            String(decoding: chunks.withUnsafeBufferPointer { Trees.segment(size: UInt64(size), chunks: $0) }, as: UTF8.self)
        }
        func outcome(_ id: Digest) -> RepositoryError.Kind? {
            do { _ = try repository.restore(id, to: MemoryTarget(kib256)) } catch let failure as RestoreFailure {
                return (failure.cause as? RepositoryError)?.kind
            } catch { return (error as? RepositoryError)?.kind }
            return nil
        }
        let good = segment(kib256, [known])
        #expect(try outcome(snapshot(record: record(Int64(kib256)), segment: good)) == nil)
        let bad: [([UInt8], String)] = [
            (record(Int64(kib256)), segment(kib256, [known, known])), (record(Int64(kib256)), segment(kib256, [])),
            (record(Int64(kib256)), segment(kib256 - 1, [known])), (record(Int64(kib256)), segment(kib256, [Digest.sha256([7])])),
            (record(Int64(kib256) - 1), segment(kib256 - 1, [known])), (record(-1), good), (record(.max), good),
            (record(Int64(kib256)), "{\"nodes\":[{\"name\":\"data\",\"type\":\"symlink\",\"size\":262144,\"content\":[\"\(known)\"]}]}"),
            (record(Int64(kib256)), "{\"nodes\":[{\"name\":\"../data\",\"type\":\"file\",\"size\":262144,\"content\":[\"\(known)\"]}]}"),
            (record(Int64(kib256)), "{\"nodes\":"), (record(Int64(kib256)), "[]"), (Array("no json".utf8), good),
            (record(Int64(kib256)) { $0["chunk_size"] = 1 }, good), (record(Int64(kib256)) { $0["chunk_size"] = .integer(1 << 62) }, good),
            (record(Int64(kib256)) { $0["segment_size"] = .integer(.max) }, good), (record(Int64(kib256)) { $0["segment_size"] = 0 }, good),
            (record(Int64(kib256)) { $0["backup_id"] = nil }, good),
        ]
        for (number, (record, text)) in bad.enumerated() {
            #expect(try outcome(snapshot(record: record, segment: text)) == .damaged, "case \(number)")
        }
        #expect(try outcome(snapshot(record: record(Int64(kib256)) { $0["clinker"] = 2 }, segment: good)) == .unsupported)
        for image in [
            "{\"nodes\":null}", "{\"nodes\":[{\"name\":\"00001\",\"subtree\":\"\(known)\"}]}", "{\"nodes\":[{\"name\":\"00000\"}]}",
        ] {
            #expect(try outcome(snapshot(record: record(Int64(kib256)), segment: good, image: image)) == .damaged)
        }
    }

    @Test("headers of packs that lie about lengths are refused")
    func headers() throws {
        let blob = PackedBlob(id: Digest.sha256([1]), type: .data, offset: 0, length: 100, plainLength: 300)
        let keys = SealingKeys.random()
        let end = PackHeader.seal([blob], Sealer(keys))
        let header = Sealer(keys).open(Array(end.dropLast(4)))!
        #expect(try PackHeader.parse(header, end: 100) == [blob])
        #expect(kind { try PackHeader.parse(header, end: 99) } == .damaged)
        #expect(kind { try PackHeader.parse(header, end: 101) } == .damaged)
        #expect(kind { try PackHeader.parse(Array(header.dropLast()), end: 100) } == .damaged)
        for (position, byte) in [(0, UInt8(4)), (0, 0xFF), (4, 0xFF), (1, 31)] {
            var bad = header
            bad[position] = byte
            #expect(kind { try PackHeader.parse(bad, end: 100) } != nil)
        }
        let store = DirectoryStore(directory)
        for size in [[UInt8](), [0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF], [33, 0, 0, 0]] {
            let pack = [UInt8](repeating: 0, count: 40) + size
            let name = Digest.sha256(pack)
            try pack.withUnsafeBytes { try store.put(ObjectKind.pack(name), [$0], sha256: nil) }
            #expect(kind { try PackHeader.load(name, from: store, Sealer(keys)) } == .damaged)
        }
    }
}
