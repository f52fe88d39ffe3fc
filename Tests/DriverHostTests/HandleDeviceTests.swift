import Backups
import CDriver
import Glibc
import Primitives
import TestSupport
import Testing

@testable import DriverHost
@testable import Transfers

@Suite("Volumes as what backups are read from and restored to")
struct HandleDeviceTests {
    /// The fault plugin around the file driver, the file that says what goes wrong, and a volume.
    private func bed() throws -> (driver: Driver, faults: String, volume: DriverValue) {
        let library = try CompiledDriver.build("fault.c", as: "clinker-fault.so", ["-ldl"])
        let directory = temporaryDirectory("handles")
        let faults = directory + "/faults"
        try "".write(to: faults)
        let driver = try Driver(
            Plugin(path: library),
            options: .members([
                "wrapped": .string(filePluginPath()), "faults": .string(faults), "file_directory": .string(directory + "/volumes"),
                "state_dir": .string(directory),
            ]))
        let volume = DriverValue.members([
            "volume": .members(["id": .string("v"), "name": .string("volume-v"), "size": .integer(1)])
        ])
        _ = try driver.call(.createVolume, volume)
        return (driver, faults, volume)
    }

    @Test("a call that says RETRY is made again, whichever it is")
    func repeated() throws {
        let (driver, faults, volume) = try bed()
        let bytes = [UInt8](repeating: 7, count: 4096)
        func meeting<T>(_ call: String, _ body: () throws -> T) throws -> T {
            try "\(call) \(CLINKER_RETRY.rawValue) 1\n".write(to: faults)
            let found = try body()
            #expect(try text(of: faults).isEmpty, "\(call) was not met")
            return found
        }
        let written = try meeting("open_handle") { try driver.openAgain(volume, writable: true) }
        let target = try meeting("get_size") { try HandleTarget(written, isZero: true) }
        try meeting("write") { try bytes.withUnsafeBytes { try target.write($0, at: 1 << 20) } }
        try meeting("flush") { try target.flush() }
        let read = try driver.openAgain(volume, writable: false)
        let source = try meeting("get_size") { try HandleSource([read]) }
        #expect(try meeting("extents") { try source.data(in: 0..<(2 << 20)) } == [1 << 20..<(1 << 20) + 4096])
        var found = [UInt8](repeating: 0, count: 4096)
        try meeting("read") { try found.withUnsafeMutableBytes { try source.read(at: 1 << 20, into: $0) } }
        #expect(found == bytes)
    }

    @Test("what fails for good is not repeated, and a target's refusal of a part is an error")
    func failing() throws {
        let (driver, faults, volume) = try bed()
        let source = try HandleSource([driver.openAgain(volume, writable: false)])
        let target = try HandleTarget(driver.openAgain(volume, writable: true), isZero: true)
        try "extents \(CLINKER_ERROR.rawValue) 1\nflush \(CLINKER_BUSY.rawValue) 1\n".write(to: faults)
        #expect(throws: DriverFailure.self) { try source.data(in: 0..<4096) }
        #expect { try target.flush() } throws: { ($0 as? DriverFailure)?.code == .error }
        #expect(try text(of: faults).isEmpty)
    }
}

private func text(of path: String) throws -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw SystemError.last("cannot open \(path)") }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(file, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}

extension String {
    fileprivate func write(to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError.last("cannot open \(path)") }
        defer { close(file) }
        guard Glibc.write(file, self, utf8.count) == utf8.count else { throw SystemError.last("cannot write \(path)") }
    }
}
