import CDriver
import Glibc
import Primitives

/// What a case works with: the driver, objects that are removed when the case ends, and assertions.
final class CheckBench: CheckAssertions {
    /// A volume or a snapshot as the host would store it.
    struct Object {
        var id = UUID.random()
        var isSnapshot = false
        var size = 1
        var data: String?
        /// Whether a host is connected to it.
        var isConnected = false
        /// For objects that another application made in the same storage.
        var foreignName: String?
        var name: String { foreignName ?? (isSnapshot ? "snapshot-" : "volume-") + id }
    }

    struct Failure: Error, CustomStringConvertible { let description: String }
    struct Skip: Error { let reason: String }

    let driver: Driver
    let options: DriverValue
    let witness: DriverWitness
    private let path: String
    let pool: String?
    private var made: [(object: Object, volume: Object?)] = []
    private var canaries: [Canary] = []

    init(path: String, options: DriverValue, witness: DriverWitness = DriverWitness()) throws {
        self.path = path
        self.options = options
        self.witness = witness
        driver = try Driver(Plugin(path: path), options: options, witness: witness)
        pool = try driver.call(.stats, .object([]))["pools"]?.list?.first?["name"]?.string
    }

    /// Another instance of the same backend.
    func another() throws -> Driver { try Driver(driver.plugin, options: options, witness: witness) }

    /// A directory of the suite, which contains the driver's.
    var directory: String { CheckHost.directory(options) }

    /// A file outside of the storage, which must not change.
    func canary() throws -> Canary {
        let canary = try Canary(in: directory)
        canaries.append(canary)
        return canary
    }

    var hasHandles: Bool {
        let table = driver.plugin.table.pointee
        return table.open_handle != nil && table.close_handle != nil && table.read != nil && table.write != nil && table.get_size != nil
    }

    func has(_ method: DriverMethod) -> Bool { driver.support(method) != .unsupported }

    // MARK: calls

    func describe(_ object: Object, withData: Bool = true) -> DriverValue {
        .members([
            "id": .string(object.id), "name": .string(object.name), "size": .integer(Int64(object.size)), "pool": .optional(pool),
            "data": withData ? .optional(object.data) : .null, "attached": .boolean(object.isConnected),
        ])
    }

    func arguments(_ volume: Object, _ more: [(String, DriverValue)] = []) -> DriverValue {
        .object([DriverValue.Member("volume", describe(volume))] + more.map { DriverValue.Member($0.0, $0.1) })
    }

    @discardableResult
    func call(_ method: DriverMethod, _ volume: Object, _ more: [(String, DriverValue)] = []) throws -> DriverValue {
        try driver.call(method, arguments(volume, more))
    }

    /// Registers an object for removal at the end.
    func remember(_ object: Object, of volume: Object? = nil) { made.append((object, volume)) }

    /// The object with the private text that the driver gave.
    func keeping(_ output: DriverValue, _ object: Object) -> Object {
        var object = object
        object.data = output["data"]?.string ?? object.data
        return object
    }

    func volume(size: Int = 1) throws -> Object {
        let volume = Object(size: size)
        remember(volume)
        return keeping(try call(.createVolume, volume), volume)
    }

    func snapshot(of volume: Object) throws -> Object {
        let snapshot = Object(isSnapshot: true, size: volume.size)
        remember(snapshot, of: volume)
        return keeping(try call(.createSnapshot, volume, [("snapshot", describe(snapshot))]), snapshot)
    }

    func delete(_ snapshot: Object, of volume: Object) throws { try call(.deleteSnapshot, volume, [("snapshot", describe(snapshot))]) }

    func clone(of source: Object, size: Int? = nil) throws -> Object {
        let clone = Object(size: size ?? source.size)
        remember(clone)
        return keeping(try call(.cloneVolume, clone, [("source", describe(source))]), clone)
    }

    func volume(from snapshot: Object, of source: Object, size: Int? = nil) throws -> Object {
        let volume = Object(size: size ?? snapshot.size)
        remember(volume)
        return keeping(
            try call(.createVolumeFromSnapshot, volume, [("snapshot", describe(snapshot)), ("source", describe(source))]), volume)
    }

    /// Names of everything in the backend; nil if the driver cannot tell.
    func names() throws -> Set<String>? {
        guard has(.listVolumes) else { return nil }
        let listed: DriverValue
        // A call in the table may return UNSUPPORTED.
        do { listed = try driver.call(.listVolumes, .object([])) } catch let failure as DriverFailure where failure.code == .unsupported {
            return nil
        }
        var names: Set<String> = []
        for object in listed["volumes"]?.list ?? [] {
            if let name = object["name"]?.string { names.insert(name) }
            for snapshot in object["snapshots"]?.list ?? [] { if let name = snapshot["name"]?.string { names.insert(name) } }
        }
        return names
    }

    // MARK: bytes

    func handle<T>(_ object: Object, of volume: Object? = nil, writable: Bool = false, _ body: (Driver.Handle) throws -> T) throws -> T {
        let arguments = volume.map { self.arguments($0, [("snapshot", describe(object))]) } ?? self.arguments(object)
        return try driver.withHandle(arguments, writable: writable, body)
    }

    func write(_ text: String, to volume: Object, at offset: UInt64 = 0) throws {
        try handle(volume, writable: true) { handle in
            try Self.write(block(text, handle), handle, at: offset)
            try handle.flush()
        }
    }

    /// The text in a block whose size every handle accepts.
    private func block(_ text: String, _ handle: Driver.Handle) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: max(4096, Int(handle.alignment)))
        for (index, byte) in text.utf8.enumerated() { bytes[index] = byte }
        return bytes
    }

    static func write(_ bytes: [UInt8], _ handle: Driver.Handle, at offset: UInt64) throws {
        try bytes.withUnsafeBytes { try handle.write($0, at: offset) }
    }

    static func read(_ count: Int, _ handle: Driver.Handle, at offset: UInt64) throws -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
        defer { buffer.deallocate() }
        memset(buffer.baseAddress!, 0xA5, count)
        try handle.read(into: buffer, at: offset)
        return [UInt8](unsafeUninitializedCapacity: count) { bytes, filled in
            memcpy(bytes.baseAddress!, buffer.baseAddress!, count)
            filled = count
        }
    }

    // These process whole volumes; loops over single bytes would dominate the run time.

    static func same(_ a: [UInt8], _ b: [UInt8]) -> Bool { a.count == b.count && memcmp(a, b, a.count) == 0 }

    /// Whether every byte has the value.
    static func are(_ bytes: some Collection<UInt8>, _ value: UInt8) -> Bool {
        guard let first = bytes.first, first == value else { return bytes.isEmpty }
        return bytes.withContiguousStorageIfAvailable { memcmp($0.baseAddress!, $0.baseAddress! + 1, $0.count - 1) == 0 }
            ?? bytes.allSatisfy { $0 == value }
    }

    /// A pattern in which no two blocks of 512 bytes are equal.
    static func pattern(_ count: Int, seed: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: seed &* 7 &+ 1), count: count)
        bytes.withUnsafeMutableBytes { bytes in
            for offset in stride(from: 0, to: count - 7, by: 512) {
                bytes.storeBytes(
                    of: UInt64(offset + 1) &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(truncatingIfNeeded: seed), toByteOffset: offset,
                    as: UInt64.self)
            }
        }
        return bytes
    }

    /// The offset of the last block of a volume of this many GiB.
    func lastBlock(_ object: Object, of volume: Object? = nil, gibibytes: Int) throws -> UInt64 {
        try handle(object, of: volume) { UInt64(gibibytes) << 30 - max(4096, $0.alignment) }
    }

    /// Requires that everything from one offset to another is zero. Ranges that the driver's map reports as zero are trusted, others are
    /// read; of large ones, and without a map, the beginning, the end and samples.
    func expectZeroes(in object: Object, from start: UInt64, to end: UInt64, _ what: String) throws {
        try handle(object) { handle in
            let unit = max(65_536, handle.alignment)
            for extent in try handle.extents(offset: start, length: end - start) where extent.flags & UInt32(CLINKER_EXTENT_ZERO) == 0 {
                let last = min(end, extent.offset + extent.length)
                let edge: UInt64 = 4 << 20
                var position = max(start, extent.offset)
                let (whole, first) = (last - position <= 64 << 20, position)
                while position < last {
                    let isSample = !whole && position >= first + edge && position < last - edge
                    let count = min(isSample ? unit : edge, last - position)
                    let found = try Self.read(Int(count), handle, at: position)
                    try require(Self.are(found, 0), "\(what): no zeroes within \(count) bytes at \(position)")
                    position += isSample ? min(16 << 20, max(count, last - edge - position)) : count
                }
            }
        }
    }

    /// Runs work that needs more space than every storage has; the case is skipped if the driver reports that there is none.
    func asFarAsItGoes<T>(_ work: () throws -> T) throws -> T {
        do { return try work() } catch let failure as DriverFailure where [.noSpace, .invalid].contains(failure.code) {
            throw Skip(reason: "a limit of the driver: \(failure)")
        }
    }

    /// Requires that the block at the offset begins with the text, followed by zeroes.
    func expect(_ text: String, in object: Object, of volume: Object? = nil, at offset: UInt64 = 0, _ what: String) throws {
        try handle(object, of: volume) { handle in
            let wanted = block(text, handle)
            let found = try Self.read(wanted.count, handle, at: offset)
            guard !Self.same(found, wanted) else { return }
            let shown = String(decoding: found.prefix(24), as: UTF8.self).filter { $0.isASCII && !$0.isNewline && $0 != "\0" }
            throw Failure(description: "\(what): '\(shown)' at \(offset), not '\(text)'")
        }
    }

    // MARK: removal

    /// Disconnects and unexports an object before it is deleted, as the host does.
    private func remove(_ object: Object, of volume: Object?) throws {
        if let volume { return try delete(object, of: volume) }
        do { try call(.unexportVolume, object) } catch let failure as DriverFailure where failure.code == .unsupported {}
        try call(.deleteVolume, object)
    }

    /// Removes the objects of the case as far as possible.
    func clean() {
        for (object, volume) in made.reversed() {
            try? remove(object, of: volume)
        }
        made = []
        for canary in canaries { canary.remove() }
        canaries = []
    }

    /// Removes the objects of the case and requires that nothing is left.
    func cleanUp() throws {
        let ids = Set(made.map(\.object.id))
        for (object, volume) in made.reversed() {
            try remove(object, of: volume)
        }
        made = []
        for canary in canaries {
            try canary.verify(after: "the case")
            canary.remove()
        }
        canaries = []
        // Under any name: the partial object of a killed call has another one.
        let left = try self.names()?.filter { name in ids.contains { name.contains($0) } } ?? []
        try require(left.isEmpty, "deleted, yet this is still listed: \(left.sorted().joined(separator: ", "))")
    }

    // MARK: driver hosts

    /// Lends a driver host, which the closure may kill by its PID.
    func withHost<T: Sendable>(_ body: @escaping @Sendable (Backend) async throws -> T) throws -> T {
        try CheckHost.lend(path, .volume, options: options, in: directory, body)
    }
}

/// A deterministic random number generator.
struct Numbers {
    var state: UInt64
    mutating func next(below limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(limit))
    }
}
