import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes with a real ext4 file system, in every store and each of its formats.
@Suite("Backups of ext4 in every store", .serialized)
struct BackupFilesystemTests {
    private static let backups = BackupTests()

    /// A store, in one of its formats.
    struct Place: Sendable, CustomTestStringConvertible {
        let store, format: String
        var testDescription: String { "\(store), \(format)" }

        static let all = ["posix", "nfs", "rbd", "s3", "swift"].flatMap { store in
            ["cinder", "repository"].map { Place(store: store, format: $0) }
        }

        func section() throws -> String {
            switch store {
            case "nfs": try StorageUnderTest.nfs.get().nfsStore("ext4-" + format)
            case "rbd": try StorageUnderTest.cephStore()
            case "s3": try StorageUnderTest.s3Section(bucket: "ext4-" + format)
            case "swift": try StorageUnderTest.swiftSection(container: "ext4-" + format)
            default: BackupTests.options
            }
        }

        /// After the last backup was deleted.
        func expectNothingLeft() async throws {
            switch store {
            case "rbd": try await BackupRBDTests.expectNothingLeft()
            case "nfs" where format == "cinder":
                let left = try await ServiceUnderTest.run(
                    "/usr/bin/find", [StorageUnderTest.nfs.get().nfsStoreDirectory("ext4-cinder"), "-type", "f"])
                #expect(left.output.isEmpty, "\(left.output)")
            default: break
            }
        }
    }

    /// A volume of the file driver, whose file system is made, written to and grown without being mounted.
    private struct Volume {
        let service: ServiceUnderTest
        let id: String
        private let content = temporaryDirectory("ext4")
        private var path: String { backups.path(service, id) }

        init(_ service: ServiceUnderTest) async throws {
            self.service = service
            id = try service.create()
            try service.wait(id, "available")
            for number in 0..<8 { try write("file\(number)", kibibytes: 200 + number) }
            try await run("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=1", "-d", content, path)
        }

        private func run(_ program: String, _ arguments: String...) async throws {
            let done = try await ServiceUnderTest.run("/usr/sbin/" + program, arguments)
            guard done.status == 0 else { throw ServiceUnderTest.Failure("\(program) \(arguments): \(done.output)") }
        }

        /// Half of it text, half of it noise.
        private func write(_ name: String, kibibytes: Int) throws {
            var random = Seeded(UInt64(name.utf8.reduce(7) { $0 &* 31 &+ Int($1) }))
            let words = (0..<kibibytes * 64).map { _ in random.next() }
            let text = words.map { String($0 % 10_000, radix: 10) }.joined(separator: " ")
            let file = open(content + "/" + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
            guard file >= 0 else { throw SystemError.last("cannot write \(name)") }
            defer { close(file) }
            guard Glibc.write(file, text, text.utf8.count) == text.utf8.count,
                words.withUnsafeBytes({ Glibc.write(file, $0.baseAddress, $0.count) }) == words.count * 8
            else { throw SystemError.last("cannot write \(name)") }
        }

        /// Removes a file, writes another one and makes a directory.
        func change(_ round: Int) async throws {
            try write("new\(round)", kibibytes: 150)
            try ServiceUnderTest.write(
                content + "/script", "rm file\(round)\nmkdir dir\(round)\nwrite \(content)/new\(round) dir\(round)/new\n")
            try await run("debugfs", "-w", "-f", content + "/script", path)
        }

        func grow(to size: Int) async throws {
            let answer = try service.api("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": JSON(size)]])
            #expect(answer.status == 202, "\(answer.text)")
            try service.wait(id, "available")
            try await run("e2fsck", "-f", "-p", path)
            try await run("resize2fs", path)
        }

        /// A copy of it as it is now.
        func copy(_ name: String) async throws -> String {
            let copied = try await ServiceUnderTest.run("/bin/cp", ["--sparse=always", path, content + "/" + name])
            #expect(copied.status == 0, "\(copied.output)")
            return content + "/" + name
        }
    }

    private func expectSame(_ service: ServiceUnderTest, _ restored: String, _ copy: String, _ comment: Comment) async throws {
        let path = Self.backups.path(service, restored)
        #expect(try FileContent.difference(path, copy) == nil, comment)
        let checked = try await ServiceUnderTest.run("/usr/sbin/e2fsck", ["-f", "-n", path])
        #expect(checked.status == 0, "\(comment): \(checked.output)")
        #expect(try service.api("DELETE", "/volumes/\(restored)").status == 202)
        try service.wait(restored, nil)
    }

    @Test(
        "a full backup and a chain of five on it, over a grown volume, restored to new volumes and over another one, byte for byte",
        arguments: Place.all)
    func chain(place: Place) async throws {
        let service = try Self.backups.service(format: place.format, store: place.section())
        let volume = try await Volume(service)
        var made: [(backup: String, copy: String, size: Int)] = []
        for round in 0...5 {
            if round > 0 { try await volume.change(round) }
            if round == 4 { try await volume.grow(to: 2) }
            let backup = try BackupTests.backup(service, of: volume.id, ["incremental": .bool(round > 0)])
            #expect(try BackupTests.wait(service, backup, "available")?["is_incremental"] == .bool(round > 0))
            made.append((backup, try await volume.copy("copy\(round)"), round < 4 ? 1 : 2))
        }
        for round in [0, 3, 5] {
            let (backup, copy, size) = made[round]
            let restored = try service.create(["backup_id": .string(backup), "size": JSON(size)])
            try service.wait(restored, "available", seconds: 60)
            try await expectSame(service, restored, copy, "backup \(round) to a new volume")
        }
        // One that holds something else.
        let other = try service.create(["size": 2])
        try service.wait(other, "available")
        try Self.backups.fill(service, other, seed: 9, at: [0, 7 << 20, 1100 << 20, (2 << 30) - 65_536])
        let answer = try service.api("POST", "/backups/\(made[5].backup)/restore", ["restore": ["volume_id": .string(other)]])
        #expect(answer.status == 202, "\(answer.text)")
        try service.wait(other, "available", seconds: 60)
        try await expectSame(service, other, made[5].copy, "the newest backup over another volume")
        for backup in made.map(\.backup).reversed() {
            #expect(try service.api("DELETE", "/backups/\(backup)").status == 202)
            try BackupTests.wait(service, backup, nil)
        }
        try await DoctorTests.expectNothing(service)
        try await place.expectNothingLeft()
    }
}
