import DriverHost
import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import Transfers

/// A volume of the file driver, and what an order does to it.
struct ImageUnderTest {
    static let id = "0aa9e2ee-2b7a-4a1c-a8f0-d1f2a3b4c5d6"
    let directory = temporaryDirectory("images")
    let driver: Driver
    private static let plugin: String = {
        if let path = getenv("CLINKER_FILE_PLUGIN") { return String(cString: path) }
        let executable = executablePath()
        return executable.prefix(upTo: executable.lastIndex(of: "/")!) + "/libClinkerFile.so"
    }()
    private var options: DriverValue { .members(["file_directory": .string(directory + "/volumes"), "backend": .string("b")]) }
    private static let object = DriverValue.members([
        "volume": .members(["id": .string("v"), "name": .string("v"), "size": .integer(1)])
    ])
    static let volumeBytes = 1 << 30

    init() throws {
        mkdir(directory + "/volumes", 0o700)
        driver = try Driver(
            Plugin(path: Self.plugin),
            options: .members(["file_directory": .string(directory + "/volumes"), "backend": .string("b")]))
        _ = try driver.call(.createVolume, Self.object)
    }

    func order(_ servers: [ImageServer], _ format: String = "raw", size: Int? = nil) -> ImageOrder {
        var order = ImageOrder(
            servers: servers.map(\.address), image: Self.id, token: Secret("first"), diskFormat: format, volumeBytes: Self.volumeBytes,
            conversionDirectory: directory + "/conversion")
        order.size = size
        order.timeout = 5
        return order
    }

    private func work<T>(_ order: ImageOrder, tokens: [String], bytesPerSecond: Int, _ body: (DriverValue, Wire, ImageTokens) throws -> T)
        throws -> T
    {
        let (mine, theirs) = try socketPair()
        let (core, wire) = (Wire(mine), Wire(theirs))
        let tokens = Guarded(tokens)
        let imageTokens = ImageTokens(wire)
        let ended = Primitives.Semaphore()
        startThread("core") {
            while let frame = (try? core.receive()) ?? nil {
                guard frame.value["token"]?.boolean == true else { continue }
                let token = tokens.withLock { $0.isEmpty ? nil : $0.removeFirst() }
                core.send(Frame(kind: .progress, id: 0, value: .members(["token": token.map { .secret($0) } ?? .null])))
            }
            ended.post()
        }
        startThread("process") { while let frame = (try? wire.receive()) ?? nil { imageTokens.receive(frame) } }
        defer {
            core.hangUp()
            ended.wait()
        }
        let end = DriverValue.members(["plugin": .string(Self.plugin), "options": options, "object": Self.object])
        return try body(
            .members(["image": order.value, "target": end, "source": end, "bytes_per_second": .integer(Int64(bytesPerSecond))]), wire,
            imageTokens)
    }

    @discardableResult
    func fetch(_ order: ImageOrder, tokens: [String] = [], bytesPerSecond: Int = 0) throws -> DriverValue {
        try work(order, tokens: tokens, bytesPerSecond: bytesPerSecond) { try ImageFetch($0, $1, $2).run() }
    }

    @discardableResult
    func store(_ order: ImageOrder, tokens: [String] = [], bytesPerSecond: Int = 0) throws -> DriverValue {
        try work(order, tokens: tokens, bytesPerSecond: bytesPerSecond) { try ImageStoring($0, $1, $2).run() }
    }

    /// Why an order fails.
    func failure(_ order: ImageOrder, tokens: [String] = []) -> DriverFailure? {
        do {
            try fetch(order, tokens: tokens)
            return nil
        } catch { return error as? DriverFailure ?? DriverFailure(.error, "not a DriverFailure: \(error)") }
    }

    func withHandle<T>(writable: Bool = false, _ body: (Driver.Handle) throws -> T) throws -> T {
        try driver.withHandle(Self.object, writable: writable, body)
    }

    func write(_ bytes: [UInt8], at offset: UInt64 = 0) throws {
        try withHandle(writable: true) { handle in try bytes.withUnsafeBytes { try handle.write($0, at: offset) } }
    }

    func read(_ count: Int, at offset: UInt64 = 0) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 1, count: count)
        try withHandle { handle in try bytes.withUnsafeMutableBytes { try handle.read(into: $0, at: offset) } }
        return bytes
    }

    /// Makes the volume shorter.
    func shrink(toMebibytes size: Int = 64) throws { _ = try shell("truncate -s \(size)M volumes/*v") }

    /// Bytes that the volume takes on the disk.
    var allocated: Int {
        var info = stat()
        for name in entries(of: directory + "/volumes") where name.contains("v") {
            if stat(directory + "/volumes/" + name, &info) == 0, info.st_mode & S_IFMT == S_IFREG, info.st_size == Self.volumeBytes {
                return Int(info.st_blocks) * 512
            }
        }
        return -1
    }

    func shell(_ command: String) throws -> String {
        let status = reap(
            try spawn("/bin/bash", ["-c", "cd \(directory); set -e; { \(command)\n} > output 2>&1"], descriptors: []))
        let output = String(decoding: try Self.bytes(directory + "/output"), as: UTF8.self)
        try #require(status == 0, "\(command): \(output)")
        return output
    }

    static func bytes(_ path: String) throws -> [UInt8] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return bytes
    }

    /// Bytes that no other place has, with a hole in their middle.
    static func data(_ count: Int, hole: Range<Int> = 0..<0) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var random = SystemRandomNumberGenerator()
        bytes.withUnsafeMutableBytes { room in
            for index in stride(from: 0, to: count - 8, by: 8) where !hole.overlaps(index..<(index + 8)) {
                room.storeBytes(of: random.next(), toByteOffset: index, as: UInt64.self)
            }
        }
        return bytes
    }

    static func hash(_ name: String, _ bytes: [UInt8]) throws -> String {
        let hash = try ImageHash(name)
        bytes.withUnsafeBytes { hash.update($0) }
        return hash.finish()
    }
}
