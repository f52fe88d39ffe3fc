import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// A service with a store of files, and volumes with bytes of their own in it.
struct BackedUpVolumes {
    let service: ServiceUnderTest

    init(format: String, options: String = "") throws {
        service = try ServiceUnderTest(options: "backup_driver = posix\nbackup_format = \(format)\n\(options)")
        try waitForStore()
    }

    func waitForStore() throws {
        let limit = Timestamp.monotonic() + 20
        while (try? service.api("GET", "/os-services?binary=cinder-backup").text.contains("\"up\"")) != true {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("no backup service: \(service.story)") }
            usleep(10_000)
        }
    }

    /// A volume of 1 GiB with pieces of bytes that no other seed has.
    func volume(seed: UInt64, at offsets: [Int] = [0, 5 << 20, 300 << 20, (1 << 30) - 65_536]) throws -> String {
        let id = try service.create(["name": "v"])
        try service.wait(id, "available")
        try fill(id, seed: seed, at: offsets)
        return id
    }

    func path(_ id: String) -> String { service.state + "/volumes/file/volume-" + id }

    func fill(_ id: String, seed: UInt64, at offsets: [Int]) throws {
        let file = open(path(id), O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { throw SystemError.last("cannot open the volume") }
        defer { close(file) }
        var state = seed
        for offset in offsets {
            let bytes = (0..<65_536).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            guard pwrite(file, bytes, bytes.count, off_t(offset)) == bytes.count else { throw SystemError.last("cannot write the volume") }
        }
    }

    /// A whole backup.
    func backup(_ volume: String, incremental: Bool = false) throws -> String {
        let id = try BackupTests.backup(service, of: volume, ["incremental": .bool(incremental)])
        try BackupTests.wait(service, id, "available")
        return id
    }

    /// A copy of the volume as it is now.
    func copy(_ volume: String) async throws -> String {
        let path = service.directory + "/copy-" + String(UUID.random().prefix(8))
        let copied = try await ServiceUnderTest.run("/bin/cp", ["--sparse=always", self.path(volume), path])
        #expect(copied.status == 0, "\(copied.output)")
        return path
    }

    /// The files of the store that `find` finds, without what is being written.
    func objects(_ arguments: String...) async throws -> [String] {
        let found = try await ServiceUnderTest.run(
            "/usr/bin/find", [service.state + "/backups", "-type", "f"] + arguments)
        return found.output.split(separator: "\n").map(String.init).sorted()
    }

    /// Changes one bit of a file.
    func flip(_ path: String, at offset: Int) throws {
        let file = open(path, O_RDWR | O_CLOEXEC)
        defer { close(file) }
        var byte: UInt8 = 0
        guard file >= 0, pread(file, &byte, 1, off_t(offset)) == 1 else { throw SystemError.last("cannot read \(path)") }
        byte ^= 1
        guard pwrite(file, &byte, 1, off_t(offset)) == 1 else { throw SystemError.last("cannot change \(path)") }
    }

    /// `clinker backup ...` for the operator.
    func clinker(_ arguments: String...) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(
            ServiceUnderTest.binary, ["backup"] + arguments + ["--config", service.configuration, "--state-dir", service.state])
    }

    func shell(_ command: String) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run("/bin/bash", ["-c", "cd \(service.directory); " + command])
    }
}
