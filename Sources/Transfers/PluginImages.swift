import Backups
import DriverHost

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
        return try failing {
            let handles = try (0..<Self.readers).map { _ in try driver.openAgain(arguments, writable: false) }
            let changes = try base.map { base in
                try ChangeList(driver.openAgain(arguments.adding("since", .members(["name": .string(base)])), writable: false))
            }
            return try HandleSource(handles, changes: changes)
        }
    }

    func openForWriting(_ image: String) throws(StoreFailure) -> any BlockTarget {
        try failing { try HandleTarget(driver.openAgain(Self.arguments(image), writable: true), isZero: false) }
    }

    // MARK: calls

    private static func arguments(_ image: String, _ gibibytes: Int? = nil, snapshot: String? = nil) -> DriverValue {
        let volume = DriverValue.members(["id": .string(image), "name": .string(image)])
            .adding("size", gibibytes.map { .integer(Int64($0)) })
        return DriverValue.members(["volume": volume]).adding(
            "snapshot", snapshot.map { .members(["id": .string($0), "name": .string($0)]) })
    }

    private func call(_ method: DriverMethod, _ arguments: DriverValue) throws(StoreFailure) -> DriverValue {
        try failing { try Repetition.run { try driver.call(method, arguments, onProgress: { [onLife] _, _ in onLife() }) } }
    }

    private func failing<T>(_ body: () throws -> T) throws(StoreFailure) -> T {
        do { return try body() } catch { throw StoreFailure(error as? DriverFailure ?? DriverFailure(.error, "\(error)")) }
    }
}
