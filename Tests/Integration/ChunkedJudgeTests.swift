import Backups
import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Whether a real Cinder 29 restores chunked backups that Clinker wrote, and Clinker those that Cinder wrote; also in one chain.
@Suite("Chunked backups beside Cinder's own driver")
struct ChunkedJudgeTests {
    private static let volumeID = "bbbbbbbb-0000-0000-0000-000000000001"
    private static let metadata = #"{"version": 2, "volume-base-metadata": {"display_name": "n\u00e4me"}, "volume-metadata": {"a": "b"}}"#

    /// A chain in one directory, to which either side adds.
    private struct Chain {
        let root = temporaryDirectory("judge", under: "/dev/shm")
        let image: String
        var backups: [ChunkedBackup] = []
        var options = ChunkedOptions()

        init(_ compression: ChunkedCompression) {
            image = root + "/image"
            mkdir(root + "/store", 0o700)
            options.compression = compression
            options.objectSize = 1 << 20
        }

        var store: DirectoryStore { DirectoryStore(root + "/store") }

        private func identity() -> (id: String, parent: String?) {
            ("aaaaaaaa-0000-0000-0000-00000000000\(backups.count + 1)", backups.last?.id)
        }

        mutating func writeOurs() throws {
            let (id, parent) = identity()
            let backup = ChunkedBackup(
                id: id, volumeID: volumeID, parentID: parent, container: ChunkedBackup.folder(of: id),
                prefix: ChunkedBackup.folderPrefix(id: id, volumeID: volumeID, timestamp: "20261129170000"), name: "ours \u{1F600}",
                description: "\"quoted\"", createdAt: "2026-11-29 17:00:00+00:00")
            _ = try backup.write(
                of: try ImageFile(image), to: store, after: backups.last, volumeMetadata: ChunkedJudgeTests.metadata, options: options)
            backups.append(backup)
        }

        mutating func writeCinders() throws {
            let (id, parent) = identity()
            let said = try ask([
                "do": "backup", "image": .string(image), "algorithm": .string(options.compression.rawValue),
                "object_size": .integer(Int64(options.objectSize)), "volume_meta": .string(ChunkedJudgeTests.metadata),
                "backup": ["id": .string(id), "volume_id": .string(volumeID), "parent_id": JSON(parent), "display_name": "Cinder's"],
            ])
            let prefix = try #require(said["service_metadata"]?.string)
            let container = try #require(said["container"]?.string)
            // Cinder chooses the names that we choose.
            #expect(container == ChunkedBackup.folder(of: id))
            let timestamp = String(prefix.split(separator: "_")[2])
            #expect(prefix == ChunkedBackup.folderPrefix(id: id, volumeID: volumeID, timestamp: timestamp))
            backups.append(
                ChunkedBackup(
                    id: id, volumeID: volumeID, parentID: parent, container: container, prefix: prefix, createdAt: "2026-11-29 17:00:00"))
        }

        func told(_ backup: ChunkedBackup) -> JSON {
            [
                "id": .string(backup.id), "volume_id": .string(backup.volumeID), "parent_id": JSON(backup.parentID),
                "container": .string(backup.container), "service_metadata": .string(backup.prefix),
            ]
        }

        func ask(_ call: JSONObject) throws -> JSON {
            var call = call
            call["backups"] = .array(backups.map { told($0) })
            call["root"] = .string(root + "/store")
            let text = try Judge.shared.get().ask(JSON.object(call).text)
            let answer = try JSON(parsing: text)
            try #require(answer["error"] == nil, "\(answer.text)")
            return answer
        }

        /// Restores the newest backup by both sides, to a new volume and to one that holds something else; all must be the image.
        func expectRestorable(_ comment: Comment) throws {
            let wanted = try readBytes(image)
            let target = root + "/target"
            for isNew in [true, false] {
                let before = [UInt8](repeating: isNew ? 0 : 0xA5, count: wanted.count)
                try writeBytes(target, before)
                _ = try ChunkedBackup.restore(backups, from: store, to: try ImageFile(target, isZero: isNew))
                #expect(try readBytes(target) == wanted, "\(comment): restored by us")
                try writeBytes(target, before)
                let newest = told(backups[backups.count - 1])
                let said = try ask(["do": "restore", "image": .string(target), "is_new": .bool(isNew), "backup": newest])
                #expect(try readBytes(target) == wanted, "\(comment): restored by Cinder")
                // Cinder puts the metadata of each backup of the chain in turn.
                #expect(said["volume_meta"]?.array == backups.map { _ in .string(ChunkedJudgeTests.metadata) })
            }
            #expect(try ChunkedBackup.verify(backups, in: store).problems == [], comment)
        }
    }

    @Test("in every compression each restores what the other wrote", arguments: ChunkedCompression.allCases)
    func full(compression: ChunkedCompression) throws {
        for isOurs in [true, false] {
            var chain = Chain(compression)
            // Two objects of zeroes, and a last block that is not a whole one.
            let bytes = content(3 << 20, seed: 1) + [UInt8](repeating: 0, count: 2 << 20) + content(33_000, seed: 6)
            try writeBytes(chain.image, bytes)
            if isOurs { try chain.writeOurs() } else { try chain.writeCinders() }
            try chain.expectRestorable("\(compression), by \(isOurs ? "us" : "Cinder")")
        }
    }

    @Test("a chain to which both added in turn, after the volume grew, is restored by both", arguments: [ChunkedCompression.zstd, .zlib])
    func mixed(compression: ChunkedCompression) throws {
        var chain = Chain(compression)
        var bytes = content(4 << 20, seed: 2)
        try writeBytes(chain.image, bytes)
        try chain.writeOurs()
        bytes.replaceSubrange(100_000..<200_000, with: content(100_000, seed: 3))
        bytes.replaceSubrange(1 << 20..<2 << 20, with: [UInt8](repeating: 0, count: 1 << 20))
        try writeBytes(chain.image, bytes)
        try chain.writeCinders()
        try chain.expectRestorable("Cinder's increment on ours")
        bytes[3 << 20] ^= 1
        bytes += content(2 << 20, seed: 4)
        try writeBytes(chain.image, bytes)
        try chain.writeOurs()
        try chain.expectRestorable("ours on Cinder's, grown")
        bytes.replaceSubrange(5 << 20..<5 << 20 + 10, with: [UInt8](repeating: 7, count: 10))
        try writeBytes(chain.image, bytes)
        try chain.writeCinders()
        try chain.expectRestorable("Cinder's on that")
    }

    @Test("what Cinder writes of a backup is what we write of it, byte for byte")
    func indexes() throws {
        var ours = Chain(.none)
        var cinders = Chain(.none)
        let bytes = content(3 << 20, seed: 5).map { $0 | 1 }
        for path in [ours.image, cinders.image] { try writeBytes(path, bytes) }
        try cinders.writeCinders()
        let theirs = cinders.backups[0]
        let same = ChunkedBackup(
            id: theirs.id, volumeID: theirs.volumeID, container: theirs.container, prefix: theirs.prefix, name: "Cinder's",
            createdAt: "2026-11-29 17:00:00+00:00")
        _ = try same.write(of: try ImageFile(ours.image), to: ours.store, volumeMetadata: Self.metadata, options: ours.options)
        ours.backups = [same]
        for suffix in ["_metadata", "_sha256file", "-00001", "-00002", "-00003"] {
            let name = "/store/\(theirs.container)/\(theirs.prefix)\(suffix)"
            #expect(try readBytes(ours.root + name) == readBytes(cinders.root + name), "\(suffix)")
        }
        // Cinder takes exactly these for the backup's objects, and deletes them all.
        let said = try ours.ask(["do": "names", "backup": ours.told(same)])
        #expect(said["names"]?.array?.count == 5)
        _ = try ours.ask(["do": "delete", "backup": ours.told(same)])
        var rest = 0
        try ours.store.list("", after: "") { _, _ in
            rest += 1
            return true
        }
        #expect(rest == 0)
    }
}

/// A file as a volume.
private final class ImageFile: BlockSource, BlockTarget, @unchecked Sendable {
    private let file: Int32
    let size: UInt64
    let isZero: Bool

    init(_ path: String, isZero: Bool = false) throws {
        file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw SystemFault(path) }
        size = UInt64(lseek(file, 0, SEEK_END))
        self.isZero = isZero
    }

    deinit { close(file) }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard pread(file, buffer.baseAddress, buffer.count, off_t(offset)) == buffer.count else { throw SystemFault("read") }
    }

    func data(in range: Range<UInt64>) -> [Range<UInt64>] { [range] }
    func changes(in range: Range<UInt64>) -> [Range<UInt64>]? { nil }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard pwrite(file, bytes.baseAddress, bytes.count, off_t(offset)) == bytes.count else { throw SystemFault("write") }
    }

    func zero(_ range: Range<UInt64>) throws {
        let zeroes = [UInt8](repeating: 0, count: range.count)
        try zeroes.withUnsafeBytes { try write($0, at: range.lowerBound) }
    }

    func flush() {}
}

struct SystemFault: Error {
    let what: String
    init(_ what: String) { self.what = what }
}

/// Random bytes, text and zeroes by turns of 300,000 bytes.
private func content(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = Seeded(seed)
    var noise: [UInt8] = []
    for _ in 0..<8192 { withUnsafeBytes(of: random.next()) { noise.append(contentsOf: $0) } }
    let text = [UInt8](String(repeating: "a line of text, and \(random.next())\n", count: 2000).utf8)
    var bytes: [UInt8] = []
    while bytes.count < count {
        let start = Int(random.next() % 10_000)
        switch bytes.count / 300_000 % 3 {
        case 0: bytes += noise[start..<start + 50_000]
        case 1: bytes += text[start..<start + 50_000]
        default: bytes += [UInt8](repeating: 0, count: 50_000)
        }
    }
    return Array(bytes.prefix(count))
}

private func readBytes(_ path: String) throws -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw SystemFault(path) }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: Int(lseek(file, 0, SEEK_END)))
    let count = bytes.count
    guard bytes.withUnsafeMutableBytes({ pread(file, $0.baseAddress, count, 0) }) == count else { throw SystemFault(path) }
    return bytes
}

private func writeBytes(_ path: String, _ bytes: [UInt8]) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw SystemFault(path) }
    defer { close(file) }
    guard bytes.withUnsafeBytes({ write(file, $0.baseAddress, $0.count) }) == bytes.count else { throw SystemFault(path) }
}

/// Cinder's driver in a process of its own, which is asked line by line. It ends with the tests.
final class Judge: Sendable {
    static let shared = Result { try Judge("chunked_backups.py") }
    /// Cinder's driver for Ceph.
    static let images = Result { try Judge("image_backups.py") }
    private let channel: Guarded<Int32>

    private init(_ script: String) throws {
        var folder = Array(#filePath.utf8.split(separator: UInt8(ascii: "/")).map { String($0)! })
        while let last = folder.popLast(), last != "Tests" {}
        let sources = "/" + folder.joined(separator: "/")
        let (ours, its) = try socketPair()
        defer { close(its) }
        _ = try spawn(
            sources + "/.oracle/bin/python", [sources + "/Tests/Oracle/" + script],
            descriptors: [(source: its, target: 0), (source: its, target: 1)])
        channel = Guarded(ours)
    }

    /// The line that it answers with.
    func ask(_ line: String) throws -> [UInt8] {
        try channel.withLock { channel in
            let question = Array((line + "\n").utf8)
            guard question.withUnsafeBytes({ write(channel, $0.baseAddress, $0.count) }) == question.count else {
                throw SystemFault("the judge listens no longer")
            }
            var answer: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while answer.last != UInt8(ascii: "\n") {
                let count = read(channel, &buffer, buffer.count)
                guard count > 0 else { throw SystemFault("the judge has ended") }
                answer += buffer[..<count]
            }
            return answer
        }
    }
}
