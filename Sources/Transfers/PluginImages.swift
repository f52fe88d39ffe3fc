import Backups
import DriverHost
import Glibc
import Primitives

/// The images of a store, which the store's library keeps as its driver. What fails for trouble that may pass is called again as for every
/// driver.
struct PluginImages: ImageStore {
    private let driver: Driver
    private let onLife: @Sendable () -> Void

    /// - Parameter onLife: called as often as the driver tells how far a call is, on the thread of the call.
    init(_ driver: Driver, onLife: @escaping @Sendable () -> Void) {
        self.driver = driver
        self.onLife = onLife
    }

    // MARK: images

    func image(_ name: String) throws(StoreFailure) -> StoredImage? {
        try list(.members(["volume": .members(["name": .string(name)])])).first { $0.name.utf8.elementsEqual(name.utf8) }
    }

    func images() throws(StoreFailure) -> [StoredImage] { try list(.object([])) }

    private func list(_ arguments: DriverValue) throws(StoreFailure) -> [StoredImage] {
        try call(.listVolumes, arguments)["volumes"]?.list?.compactMap { image in
            guard let name = image["name"]?.string, let size = image["bytes"]?.integer else { return nil }
            let snapshots = (image["snapshots"]?.list ?? []).compactMap { $0["name"]?.string }
            return StoredImage(name: name, size: UInt64(clamping: size), snapshots: snapshots)
        } ?? []
    }

    func make(_ image: String, gibibytes: Int) throws(StoreFailure) { _ = try call(.createVolume, Self.arguments(image, gibibytes)) }

    func grow(_ image: String, gibibytes: Int) throws(StoreFailure) {
        _ = try call(.extendVolume, Self.arguments(image, gibibytes).adding("new_size", .integer(Int64(gibibytes))))
    }

    func remove(_ image: String) throws(StoreFailure) { _ = try call(.deleteVolume, Self.arguments(image)) }

    // MARK: snapshots

    func makeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) {
        _ = try call(.createSnapshot, Self.arguments(image, snapshot: snapshot))
    }

    func removeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) {
        _ = try call(.deleteSnapshot, Self.arguments(image, snapshot: snapshot))
    }

    func revert(_ image: String, to snapshot: String, gibibytes: Int) throws(StoreFailure) {
        _ = try call(.revertToSnapshot, Self.arguments(image, gibibytes, snapshot: snapshot))
    }

    // MARK: bytes

    /// Handles of an image that is read: requests come from several threads.
    private static let readers = 4

    func open(_ image: String, at snapshot: String?, since base: String?) throws(StoreFailure) -> any BlockSource {
        let arguments = Self.arguments(image, snapshot: snapshot)
        return try again {
            let handles = try (0..<Self.readers).map { _ in try driver.open(arguments, writable: false) }
            var changes: Driver.OpenHandle?
            if let base { changes = try driver.open(arguments.adding("since", .members(["name": .string(base)])), writable: false) }
            return try OpenSource(handles, changes: changes)
        }
    }

    func openForWriting(_ image: String) throws(StoreFailure) -> any BlockTarget {
        try again { try OpenTarget(driver.open(Self.arguments(image), writable: true)) }
    }

    // MARK: calls

    private static func arguments(_ image: String, _ gibibytes: Int? = nil, snapshot: String? = nil) -> DriverValue {
        let volume = DriverValue.members(["id": .string(image), "name": .string(image)])
            .adding("size", gibibytes.map { .integer(Int64($0)) })
        return DriverValue.members(["volume": volume]).adding(
            "snapshot", snapshot.map { .members(["id": .string($0), "name": .string($0)]) })
    }

    private func call(_ method: DriverMethod, _ arguments: DriverValue) throws(StoreFailure) -> DriverValue {
        try again { try driver.call(method, arguments, onProgress: { [onLife] _, _ in onLife() }) }
    }

    /// Milliseconds before each repetition of a call that said RETRY.
    private static let pauses: [UInt32] = [200, 400, 800, 1_600, 3_200]

    private func again<T>(_ body: () throws -> T) throws(StoreFailure) -> T {
        func attempt() throws(DriverFailure) -> T {
            do { return try body() } catch let failure as DriverFailure { throw failure } catch { throw DriverFailure(.error, "\(error)") }
        }
        for pause in Self.pauses {
            do throws(DriverFailure) { return try attempt() } catch {
                guard error.code == .retry else { throw StoreFailure(error) }
                usleep(pause * 1000)
            }
        }
        do throws(DriverFailure) { return try attempt() } catch { throw StoreFailure(error) }
    }
}

/// An image as what is read, with the handles that it needs.
private final class OpenSource: BlockSource {
    private let handles: [Driver.OpenHandle]
    private let source: HandleSource
    var size: UInt64 { source.size }

    init(_ handles: [Driver.OpenHandle], changes: Driver.OpenHandle?) throws {
        self.handles = handles + (changes.map { [$0] } ?? [])
        source = try HandleSource(handles.map(\.handle), changes: changes.map { try ChangeList($0.handle) })
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws { try source.read(at: offset, into: buffer) }
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] { try source.data(in: range) }
    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { try source.changes(in: range) }
}

/// An image as what is written to, with its handle.
private final class OpenTarget: BlockTarget {
    private let handle: Driver.OpenHandle
    private let target: HandleTarget
    var size: UInt64 { target.size }
    let isZero = false

    init(_ handle: Driver.OpenHandle) throws {
        self.handle = handle
        target = try HandleTarget(handle.handle, isZero: false)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { try target.write(bytes, at: offset) }
    func zero(_ range: Range<UInt64>) throws { try target.zero(range) }
    func flush() throws { try target.flush() }
}
