import CDriver
import CLinux
import Glibc
import Primitives
import TestSupport
import Testing

@testable import DriverHost

/// A driver opened in this process on a directory of its own, whichever driver it is: the same cases hold for all.
struct DriverUnderTest: CustomTestStringConvertible, Sendable {
    let name: String
    let open: @Sendable (_ directory: String) throws -> Driver
    var testDescription: String { name }

    static let all =
        [
            DriverUnderTest(name: "file") { directory in
                try Driver(
                    Plugin(path: filePluginPath()), options: .members(["file_directory": .string(directory), "backend": .string("b")]))
            },
            DriverUnderTest(name: "simple (plain C)") { directory in
                try Driver(
                    Plugin(path: try CompiledDriver.build("simple.c", as: "clinker-simple.so")),
                    options: .members(["directory": .string(directory)]))
            },
        ] + kept

    /// A library of the first release, where it is one of this machine's kind.
    private static var kept: [DriverUnderTest] {
        #if arch(x86_64)
            [
                DriverUnderTest(name: "simple, as it was built for the first release") { directory in
                    // Git does not keep whose a file is, nor that nobody else may write it.
                    let path = temporaryDirectory("driver") + "/clinker-simple.so"
                    let bytes = try #require(fopen(CompiledDriver.sources + "/v1/clinker-simple-x86_64.so", "r"))
                    defer { fclose(bytes) }
                    var buffer = [UInt8](repeating: 0, count: 1 << 20)
                    let count = fread(&buffer, 1, buffer.count, bytes)
                    let copy = try #require(fopen(path, "wx"))
                    fwrite(buffer, 1, count, copy)
                    fclose(copy)
                    chmod(path, 0o600)
                    return try Driver(Plugin(path: path), options: .members(["directory": .string(directory)]))
                }
            ]
        #else
            []
        #endif
    }
}

func volume(_ name: String, _ size: Int64 = 1) -> DriverValue {
    .members(["id": .string(name), "name": .string(name), "size": .integer(size)])
}

@Suite("Drivers")
struct DriverTests {
    private func with(_ subject: DriverUnderTest, _ body: (Driver, String) throws -> Void) throws {
        let directory = temporaryDirectory("driver")
        try body(try subject.open(directory), directory)
    }

    private func write(_ driver: Driver, _ name: String, _ text: String, at offset: UInt64) throws {
        try driver.withHandle(.members(["volume": volume(name)]), writable: true) { handle in
            try Array(text.utf8).withUnsafeBytes { try handle.write($0, at: offset) }
            try handle.flush()
        }
    }

    private func read(_ driver: Driver, _ name: String, _ count: Int, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: count)
        try driver.withHandle(.members(["volume": volume(name)]), writable: false) { handle in
            try bytes.withUnsafeMutableBytes { try handle.read(into: $0, at: offset) }
        }
        return bytes
    }

    private func size(_ driver: Driver, _ name: String) throws -> UInt64 {
        try driver.withHandle(.members(["volume": volume(name)]), writable: false) { try $0.size }
    }

    @Test("a new volume has its size and reads as zeroes", arguments: DriverUnderTest.all)
    func create(subject: DriverUnderTest) throws {
        try with(subject) { driver, _ in
            _ = try driver.call(.createVolume, .members(["volume": volume("v")]))
            #expect(try size(driver, "v") == 1 << 30)
            #expect(try read(driver, "v", 4096, at: (1 << 30) - 4096).allSatisfy { $0 == 0 })
        }
    }

    @Test("every call may be repeated and then succeeds", arguments: DriverUnderTest.all)
    func repeats(subject: DriverUnderTest) throws {
        try with(subject) { driver, _ in
            for _ in 0..<2 { _ = try driver.call(.createVolume, .members(["volume": volume("v")])) }
            try write(driver, "v", "kept", at: 0)
            _ = try driver.call(.createVolume, .members(["volume": volume("v")]))
            #expect(try read(driver, "v", 4, at: 0) == Array("kept".utf8))
            for _ in 0..<2 { _ = try driver.call(.extendVolume, .members(["volume": volume("v"), "new_size": .integer(2)])) }
            #expect(try size(driver, "v") == 2 << 30)
            #expect(try read(driver, "v", 4, at: 0) == Array("kept".utf8))
            let clone = DriverValue.members(["volume": volume("c", 2), "source": volume("v", 2)])
            for _ in 0..<2 { _ = try driver.call(.cloneVolume, clone) }
            for _ in 0..<2 { _ = try driver.call(.deleteVolume, .members(["volume": volume("v")])) }
            #expect(try read(driver, "c", 4, at: 0) == Array("kept".utf8))
        }
    }

    @Test("a clone, native or emulated, has its source's bytes, zeroes behind them, and a life of its own", arguments: DriverUnderTest.all)
    func clone(subject: DriverUnderTest) throws {
        try with(subject) { driver, _ in
            _ = try driver.call(.createVolume, .members(["volume": volume("s")]))
            try write(driver, "s", "head", at: 0)
            try write(driver, "s", "tail", at: (1 << 30) - 4)
            _ = try driver.call(.cloneVolume, .members(["volume": volume("c", 2), "source": volume("s")]))
            #expect(try size(driver, "c") == 2 << 30)
            #expect(try read(driver, "c", 4, at: 0) == Array("head".utf8))
            #expect(try read(driver, "c", 8, at: (1 << 30) - 4) == Array("tail".utf8) + [0, 0, 0, 0])
            try write(driver, "s", "gone", at: 0)
            #expect(try read(driver, "c", 4, at: 0) == Array("head".utf8))
            try write(driver, "c", "mine", at: 0)
            #expect(try read(driver, "s", 4, at: 0) == Array("gone".utf8))
        }
    }

    @Test("what does not exist is not found, and a bad configuration says so", arguments: DriverUnderTest.all)
    func errors(subject: DriverUnderTest) throws {
        try with(subject) { driver, _ in
            #expect { try driver.call(.extendVolume, .members(["volume": volume("none"), "new_size": .integer(2)])) } throws: {
                ($0 as? DriverFailure)?.code == .notFound
            }
        }
        #expect { _ = try subject.open("relative/path") } throws: { ($0 as? DriverFailure)?.code == .badConfiguration }
    }

    @Test("the file driver tells holes from data, and snapshots keep what volumes lose")
    func fileSpecifics() throws {
        try with(DriverUnderTest.all[0]) { driver, directory in
            _ = try driver.call(.createVolume, .members(["volume": volume("v")]))
            try write(driver, "v", "before", at: 1 << 20)
            try driver.withHandle(.members(["volume": volume("v")]), writable: false) { handle in
                let extents = try handle.extents(offset: 0, length: 1 << 30)
                #expect(extents.first?.offset == 0 && extents.reduce(0) { $0 + $1.length } == 1 << 30)
                let data = extents.filter { $0.flags & UInt32(CLINKER_EXTENT_ZERO) == 0 }
                #expect(data.contains { $0.offset <= 1 << 20 && $0.offset + $0.length > 1 << 20 })
                #expect(data.reduce(0) { $0 + $1.length } < 1 << 22)
            }
            let snapshot = DriverValue.members(["volume": volume("v"), "snapshot": volume("s")])
            _ = try driver.call(.createSnapshot, snapshot)
            try write(driver, "v", "after!", at: 1 << 20)
            _ = try driver.call(
                .createVolumeFromSnapshot, .members(["volume": volume("w"), "source": volume("v"), "snapshot": volume("s")]))
            #expect(try read(driver, "w", 6, at: 1 << 20) == Array("before".utf8))
            _ = try driver.call(.revertToSnapshot, snapshot)
            #expect(try read(driver, "v", 6, at: 1 << 20) == Array("before".utf8))
            try driver.withHandle(.members(["volume": volume("v")]), writable: true) { try $0.zero(offset: 1 << 20, length: 4096) }
            #expect(try read(driver, "v", 6, at: 1 << 20) == [0, 0, 0, 0, 0, 0])
            _ = try driver.call(.deleteSnapshot, snapshot)
            let listed = try driver.call(.listVolumes, .object([]))["volumes"]?.list?.compactMap { $0["name"]?.string } ?? []
            #expect(Set(listed) == ["v", "w"])
            #expect(access(directory + "/s", F_OK) != 0)
        }
    }

    @Test("large pieces go past the page cache, and mix with small ones in whatever order")
    func pageCache() throws {
        try with(DriverUnderTest.all[0]) { driver, directory in
            _ = try driver.call(.createVolume, .members(["volume": volume("v")]))
            let size = 4 << 20
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
            defer { piece.deallocate() }
            func fill(_ byte: UInt8, _ count: Int, at offset: UInt64, shift: Int = 0) throws {
                memset(piece.baseAddress!, Int32(byte), size)
                try driver.withHandle(.members(["volume": volume("v")]), writable: true) { handle in
                    try handle.write(UnsafeRawBufferPointer(rebasing: piece[shift..<shift + count]), at: offset)
                    // Into the cache, before it and behind.
                    try handle.write(UnsafeRawBufferPointer(rebasing: piece[..<1]), at: 100 << 20)
                    try handle.write(UnsafeRawBufferPointer(rebasing: piece[shift..<shift + count]), at: offset)
                    try handle.flush()
                }
            }
            try fill(1, size, at: 0)
            let mapped = open(directory + "/v", O_RDONLY | O_CLOEXEC)
            defer { close(mapped) }
            let direct = open(directory + "/v", O_RDONLY | O_CLOEXEC | Int32(CLINKER_O_DIRECT))
            defer { close(direct) }
            let map = mmap(nil, size, PROT_READ, MAP_SHARED, mapped, 0)
            defer { munmap(map, size) }
            func cached() -> Int {
                var resident = [UInt8](repeating: 1, count: size / Int(getpagesize()))
                return mincore(map, size, &resident) == 0 ? resident.count { $0 & 1 != 0 } : -1
            }
            func readAll() throws {
                memset(piece.baseAddress!, 0, size)
                try driver.withHandle(.members(["volume": volume("v")]), writable: false) { try $0.read(into: piece, at: 0) }
                #expect(piece.allSatisfy { $0 == 1 })
            }
            if direct >= 0 { #expect(cached() == 0) }
            try readAll()
            if direct >= 0 { #expect(cached() == 0) }
            // What the cache has is read from there: this was never written to the device.
            let writable = open(directory + "/v", O_WRONLY | O_CLOEXEC)
            #expect(pwrite(writable, piece.baseAddress!, size, 0) == size)
            close(writable)
            try readAll()
            #expect(cached() == size / Int(getpagesize()))
            // Not at a block's beginning, not from one, not of whole blocks, small: the ordinary way.
            try fill(2, 1 << 20, at: 512)
            try fill(3, 1 << 20, at: 8 << 20, shift: 16)
            try fill(4, (1 << 20) + 1, at: 16 << 20)
            try fill(5, 4096, at: 1 << 20)
            for (offset, byte) in [
                (0, 1), (511, 1), (512, 2), ((1 << 20) - 1, 2), (1 << 20, 5), ((1 << 20) + 4096, 1), ((4 << 20) - 1, 1), (4 << 20, 0),
                (8 << 20, 3), ((9 << 20) - 1, 3), (9 << 20, 0), (17 << 20, 4), ((17 << 20) + 1, 0), (100 << 20, 5),
            ] {
                #expect(try read(driver, "v", 1, at: UInt64(offset)) == [UInt8(byte)], "at \(offset)")
            }
        }
    }

    @Test("the file driver's names cannot lead out of its directory", arguments: ["../x", "a/b", ".hidden", ""])
    func names(name: String) throws {
        try with(DriverUnderTest.all[0]) { driver, _ in
            #expect { try driver.call(.createVolume, .members(["volume": volume(name)])) } throws: {
                ($0 as? DriverFailure)?.code == .invalid
            }
        }
    }

    @Test("what a crash left half made is replaced, not trusted")
    func halfMade() throws {
        try with(DriverUnderTest.all[0]) { driver, directory in
            let file = fopen(directory + "/v.partial", "w")
            fputs("junk of a dead process", file)
            fclose(file)
            _ = try driver.call(.createVolume, .members(["volume": volume("v")]))
            #expect(try read(driver, "v", 16, at: 0).allSatisfy { $0 == 0 })
            #expect(access(directory + "/v.partial", F_OK) != 0)
        }
    }
}
