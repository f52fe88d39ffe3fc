import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import Backups

/// A volume with a real ext4 file system, in a file: made, written to and grown without being mounted.
private struct Filesystem {
    let directory = temporaryDirectory("ext4", under: "/dev/shm")
    var path: String { directory + "/image" }

    static let isPossible = ["mkfs.ext4", "debugfs", "e2fsck", "resize2fs"].allSatisfy { access("/usr/sbin/" + $0, X_OK) == 0 }

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// - Parameter files: names and contents.
    init(megabytes: Int, _ files: [(String, [UInt8])]) throws {
        let tree = directory + "/tree"
        mkdir(tree, 0o700)
        for (name, bytes) in files { writeFile(tree + "/" + name, bytes) }
        try Self.run("mkfs.ext4", "-q", "-F", "-b", "4096", "-d", tree, path, "\(megabytes)M")
    }

    static func run(_ program: String, _ arguments: String...) throws {
        let log = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(log) }
        let status = reap(try spawn("/usr/sbin/" + program, arguments, descriptors: (0...2).map { (source: log, target: $0) }))
        // e2fsck has 1 for what it has mended, which only a resize asks for.
        guard status == 0 else { throw Failure(description: "\(program) \(arguments): status \(status)") }
    }

    /// Removes and writes files.
    func change(remove: [String], write: [(String, [UInt8])]) throws {
        var script = remove.map { "rm \($0)\n" }.joined()
        for (name, bytes) in write {
            let file = directory + "/" + name
            writeFile(file, bytes)
            script += "write \(file) \(name)\n"
        }
        writeFile(directory + "/script", Array(script.utf8))
        try Self.run("debugfs", "-w", "-f", directory + "/script", path)
    }

    func grow(megabytes: Int) throws {
        try Self.run("e2fsck", "-f", "-p", path)
        guard truncate(path, off_t(megabytes << 20)) == 0 else { throw Failure(description: "cannot grow the file") }
        try Self.run("resize2fs", path)
    }

    func bytes() throws -> [UInt8] { try readFile(path) }

    /// Whether a file system is whole.
    func check(_ image: [UInt8]) throws {
        let copy = directory + "/copy"
        writeFile(copy, image)
        try Self.run("e2fsck", "-f", "-n", copy)
    }
}

@Suite("Volumes with ext4, backed up", .enabled(if: Filesystem.isPossible))
struct FilesystemTests {
    /// One volume and all that was backed up of it, in one of the formats.
    private protocol Series {
        mutating func backUp(_ source: MemorySource) throws
        /// - Parameter number: of the backup, from 0.
        func restore(_ number: Int, to target: MemoryTarget) throws
    }

    private struct RepositorySeries: Series {
        let repository: Repository
        var made: [Digest] = []

        init() throws {
            repository = try .create(
                in: DirectoryStore(temporaryDirectory("repository", under: "/dev/shm")), password: Secret("x"), chunkSize: 256 << 10)
        }
        mutating func backUp(_ source: MemorySource) throws {
            let request = BackupRequest(backupID: "b\(made.count)", projectID: "p", volumeID: "v", parent: made.last)
            let result = try repository.backup(source, request)
            #expect(result.missedChange == nil)
            made.append(result.snapshot)
        }
        func restore(_ number: Int, to target: MemoryTarget) throws { _ = try repository.restore(made[number], to: target) }
    }

    private struct ChunkedSeries: Series {
        var chain = ChunkedChain(.zstd)
        mutating func backUp(_ source: MemorySource) throws { try chain.write(source) }
        func restore(_ number: Int, to target: MemoryTarget) throws {
            _ = try ChunkedBackup.restore(Array(chain.backups[...number]), from: chain.store, to: target)
        }
    }

    /// Where two images differ, in blocks of the file system; the longer one is changed where the other ends.
    private func changes(_ old: [UInt8], _ new: [UInt8]) -> [Range<UInt64>] {
        let block = 4096
        var found: [Range<UInt64>] = []
        old.withUnsafeBytes { old in
            new.withUnsafeBytes { new in
                for start in stride(from: 0, to: new.count, by: block) {
                    let count = min(block, new.count - start)
                    if start + count <= old.count, memcmp(old.baseAddress! + start, new.baseAddress! + start, count) == 0 { continue }
                    if let last = found.last, last.upperBound == UInt64(start) {
                        found[found.count - 1] = last.lowerBound..<UInt64(start + count)
                    } else {
                        found.append(UInt64(start)..<UInt64(start + count))
                    }
                }
            }
        }
        return found
    }

    private func content(_ random: inout Seeded, _ size: Int) -> [UInt8] { mixedChunk(size, &random) }

    @Test(
        "full, a chain of five and after a grow: each comes back byte for byte, onto a new and onto a used volume, and e2fsck finds nothing",
        arguments: ["repository", "cinder"], [true, false])
    func chain(_ format: String, knowsChanges: Bool) throws {
        var random = Seeded(format == "cinder" ? 71 : 72)
        let filesystem = try Filesystem(megabytes: 24, (0..<12).map { ("file\($0)", content(&random, 300_000 + $0 * 1000)) })
        var series: any Series = format == "cinder" ? ChunkedSeries() : try RepositorySeries()
        var images = [try filesystem.bytes()]
        try series.backUp(MemorySource(images[0]))
        for number in 1...5 {
            try filesystem.change(
                remove: ["file\(number)"], write: (0..<2).map { ("new\(number)-\($0)", content(&random, 200_000 + $0 * 77_777)) })
            if number == 5 { try filesystem.grow(megabytes: 40) }
            let image = try filesystem.bytes()
            try series.backUp(MemorySource(image, changed: knowsChanges ? changes(images[number - 1], image) : nil))
            images.append(image)
        }
        for (number, image) in images.enumerated() where number == 0 || number >= 4 {
            for byte in [UInt8(0), 0xA5] {
                let target = MemoryTarget(image.count + (byte == 0 ? 0 : 4096), filledWith: byte)
                try series.restore(number, to: target)
                let restored = target.bytes
                #expect(isSame(Array(restored[..<image.count]), image), "backup \(number)")
                #expect(restored[image.count...].allSatisfy { $0 == byte })
            }
            try filesystem.check(image)
        }
    }
}
