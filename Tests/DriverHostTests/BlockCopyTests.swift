import Glibc
import Primitives
import TestSupport
import Testing

@testable import DriverHost

/// The host's copy between two block handles: what is there arrives, what is not takes no time, and what fails says so.
@Suite("Block copy")
struct BlockCopyTests {
    private func driver() throws -> Driver {
        let driver = try Driver(
            Plugin(path: filePluginPath()),
            options: .members(["file_directory": .string(temporaryDirectory("driver")), "backend": .string("b")]))
        for (name, size) in [("source", Int64(1)), ("target", 1), ("large", 2)] {
            _ = try driver.call(.createVolume, .members(["volume": volume(name, size)]))
        }
        return driver
    }

    private func fill(_ driver: Driver, _ name: String, _ pieces: [(offset: UInt64, byte: UInt8, count: Int)]) throws {
        try driver.withHandle(.members(["volume": volume(name)]), writable: true) { handle in
            for piece in pieces {
                try [UInt8](repeating: piece.byte, count: piece.count).withUnsafeBytes { try handle.write($0, at: piece.offset) }
            }
        }
    }

    private func byte(_ driver: Driver, _ name: String, at offset: UInt64) throws -> UInt8 {
        var bytes: [UInt8] = [0xAA]
        try driver.withHandle(.members(["volume": volume(name)]), writable: false) { handle in
            try bytes.withUnsafeMutableBytes { try handle.read(into: $0, at: offset) }
        }
        return bytes[0]
    }

    private func run(_ copy: BlockCopy, _ driver: Driver, to target: String) throws {
        try driver.withHandle(.members(["volume": volume("source")]), writable: false) { input in
            try driver.withHandle(.members(["volume": volume(target)]), writable: true) { output in try copy.run(from: input, to: output) }
        }
    }

    private let pieces: [(offset: UInt64, byte: UInt8, count: Int)] = [
        (0, 1, 4096), (5 << 20, 2, 3 << 20), (600 << 20, 3, 1), ((1 << 30) - 1, 4, 1),
    ]

    @Test("pieces at the beginning, in the middle and at the end arrive; progress grows to the size")
    func arrival() throws {
        let driver = try driver()
        try fill(driver, "source", pieces)
        let told = Guarded<[UInt64]>([])
        var copy = BlockCopy(targetIsZero: true)
        copy.onProgress = { done, _ in told.withLock { $0.append(done) } }
        try run(copy, driver, to: "target")
        for piece in pieces { #expect(try byte(driver, "target", at: piece.offset) == piece.byte) }
        #expect(try byte(driver, "target", at: 100 << 20) == 0)
        let seen = told.withLock { $0 }
        #expect(seen.last == 1 << 30 && seen == seen.sorted())
    }

    @Test("what was in the target goes, behind the source's end too")
    func overwriting() throws {
        let driver = try driver()
        try fill(driver, "source", pieces)
        try fill(driver, "large", [(100 << 20, 9, 4096), ((2 << 30) - 4096, 9, 4096)])
        try run(BlockCopy(targetIsZero: false), driver, to: "large")
        for piece in pieces { #expect(try byte(driver, "large", at: piece.offset) == piece.byte) }
        #expect(try byte(driver, "large", at: 100 << 20) == 0 && byte(driver, "large", at: (2 << 30) - 1) == 0)
    }

    @Test("it begins where an earlier attempt ended, and tells what is on stable storage")
    func checkpoints() throws {
        let driver = try driver()
        try fill(driver, "source", [(0, 1, 300 << 20), (900 << 20, 2, 4096)])
        let checkpoints = Guarded<[UInt64]>([])
        var copy = BlockCopy(targetIsZero: true)
        copy.onCheckpoint = { position in checkpoints.withLock { $0.append(position) } }
        try run(copy, driver, to: "target")
        #expect(checkpoints.withLock { $0 } == [256 << 20])
        try fill(driver, "target", [(0, 7, 1), (900 << 20, 7, 1)])
        copy.start = 256 << 20
        try run(copy, driver, to: "target")
        #expect(try byte(driver, "target", at: 0) == 7 && byte(driver, "target", at: 900 << 20) == 2)
    }

    @Test("a target that is too small, a copy that is cancelled and a limit are heeded")
    func limits() throws {
        let driver = try driver()
        try fill(driver, "source", [(0, 1, 8 << 20)])
        #expect(throws: DriverFailure.self) {
            try driver.withHandle(.members(["volume": volume("large")]), writable: false) { input in
                try driver.withHandle(.members(["volume": volume("target")]), writable: true) { output in
                    try BlockCopy(targetIsZero: true).run(from: input, to: output)
                }
            }
        }
        var cancelled = BlockCopy(targetIsZero: true)
        cancelled.isCancelled = { true }
        #expect { try run(cancelled, driver, to: "target") } throws: { ($0 as? DriverFailure)?.code == .cancelled }
        var slow = BlockCopy(targetIsZero: true)
        slow.bytesPerSecond = 32 << 20
        let started = Timestamp.monotonic()
        try run(slow, driver, to: "target")
        #expect(Timestamp.monotonic() - started > 0.2, "8 MiB at 32 MiB a second")
    }

    @Test("what cannot be read or written ends the copy with its reason, and both threads")
    func failures() throws {
        let driver = try driver()
        try fill(driver, "source", pieces)
        for _ in 0..<20 {
            #expect(throws: DriverFailure.self) {
                try driver.withHandle(.members(["volume": volume("source")]), writable: false) { input in
                    // A handle for reading refuses to be written.
                    try driver.withHandle(.members(["volume": volume("target")]), writable: false) { output in
                        try BlockCopy(targetIsZero: true).run(from: input, to: output)
                    }
                }
            }
        }
    }
}
