import Backups
import DriverHost
import Primitives
import TestSupport
import Testing

@testable import Transfers

/// A store that must not be asked.
private struct UnaskedImages: ImageStore {
    private static let asked = StoreFailure(.permanent, "it was asked")
    func image(_ name: String) throws(StoreFailure) -> StoredImage? { throw Self.asked }
    func images() throws(StoreFailure) -> [StoredImage] { throw Self.asked }
    func make(_ image: String, gibibytes: Int) throws(StoreFailure) { throw Self.asked }
    func grow(_ image: String, gibibytes: Int) throws(StoreFailure) { throw Self.asked }
    func remove(_ image: String) throws(StoreFailure) { throw Self.asked }
    func makeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) { throw Self.asked }
    func removeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) { throw Self.asked }
    func revert(_ image: String, to snapshot: String, gibibytes: Int) throws(StoreFailure) { throw Self.asked }
    func open(_ image: String, at snapshot: String?, since base: String?) throws(StoreFailure) -> any BlockSource { throw Self.asked }
    func openForWriting(_ image: String) throws(StoreFailure) -> any BlockTarget { throw Self.asked }
}

private struct NoVolume: BlockSource, BlockTarget {
    let size: UInt64 = 1 << 30
    let isZero = true
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {}
    func data(in range: Range<UInt64>) -> [Range<UInt64>] { [] }
    func changes(in range: Range<UInt64>) -> [Range<UInt64>]? { nil }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {}
    func zero(_ range: Range<UInt64>) {}
    func flush() {}
}

@Suite("Orders of backups in images")
struct ImagesEngineTests {
    private var order: BackupOrder {
        var item = BackupOrder.Item()
        (item.id, item.volumeID) = ("bbbbbbbb-0000-0000-0000-000000000001", "aaaaaaaa-0000-0000-0000-000000000001")
        return BackupOrder(format: "cinder", backup: item)
    }

    @Test("a backup in another pool than the store's is neither read, removed nor called damaged: the failure names the pool")
    func anotherPool() throws {
        var order = order
        order.backup.container = "elsewhere"
        var increment = self.order
        increment.parents = [order.backup]
        let engine = ImagesEngine(images: UnaskedImages())
        let store = DirectoryStore(temporaryDirectory("images"))
        let control = TransferControl()
        for work in [
            { _ = try engine.backup(order, of: NoVolume(), to: store, control) },
            { _ = try engine.backup(increment, of: NoVolume(), to: store, control) },
            { _ = try engine.restore(order, from: store, to: NoVolume(), control) }, { try engine.remove(order, from: store, control) },
            { _ = try engine.verify(order, in: store, control) }, { _ = try engine.image(order, in: store) },
            { _ = try engine.snapshotName(of: order.backup) },
        ] as [() throws -> Void] {
            let failure = try #require(throws: DriverFailure.self) { try work() }
            #expect(failure.code == .badConfiguration && failure.message.contains("in the pool elsewhere"))
            #expect(!BackupDamageReason.isOf(failure.message))
        }
    }

    @Test("the transfer process is told what the flow knows of a backup")
    func told() {
        var order = order
        order.backup.isOfSnapshot = true
        order.backup.objectCount = 3
        order.newer = ["b", "a"]
        order.damagedParts = [0..<5]
        let read = BackupOrder(order.value)
        #expect(read.backup == order.backup && read.newer == order.newer && read.damagedParts == order.damagedParts)
    }
}
