import Backups
import DriverHost

/// Cinder's scheme for backups in images of Ceph: of the format `cinder`, in stores that keep images.
struct ImagesEngine: BackupEngine {
    let images: any ImageStore

    private func backup(_ item: BackupOrder.Item) throws(DriverFailure) -> ImageBackup {
        // What another pool has is neither missing here nor gone.
        guard item.container.isEmpty else {
            throw DriverFailure(.badConfiguration, "backup \(item.id) lies in the pool \(item.container), which is not the store's")
        }
        return ImageBackup(
            id: item.id, volumeID: item.volumeID, serviceMetadata: item.serviceMetadata, createdAt: item.createdAt,
            isOfSnapshot: item.isOfSnapshot)
    }

    func backup(_ order: BackupOrder, of source: any BlockSource, to store: any ObjectStore, _ control: TransferControl) throws
        -> DriverValue
    {
        let parent = try order.parents.last.map { try backup($0) }
        let summary = try backup(order.backup).write(
            of: source, to: images, store, after: parent, newer: order.newer, damagedParts: order.damagedParts,
            volumeMetadata: order.volumeMetadata, control: control)
        return .members(["objects": .integer(Int64(summary.objects)), "stored": .integer(Int64(clamping: summary.written))])
            .adding("missed_change", summary.missedChange.map { .integer(Int64(clamping: $0)) })
    }

    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    {
        let backup = try backup(order.backup)
        let metadata = try backup.volumeMetadata(in: store)
        let summary = try backup.restore(from: images, to: target, control: control)
        return .members(["written": .integer(Int64(clamping: summary.written)), "volume_metadata": .string(metadata ?? "")])
    }

    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws {
        try backup(order.backup).remove(from: images, store)
    }

    func verify(_ order: BackupOrder, in store: any ObjectStore, _ control: TransferControl) throws -> BackupVerdict {
        // Only an I/O error says that bytes are lost: that Ceph does not answer in time says nothing of them.
        let found = try backup(order.backup).verify(in: images, control: control) { ($0 as? DriverFailure)?.code == .error }
        var verdict = BackupVerdict()
        verdict.checkedBytes = found.checkedBytes
        verdict.damages = found.faults.map { BackupVerdict.Damage($0.reason, $0.range) }
        return verdict
    }

    func image(_ order: BackupOrder, in store: any ObjectStore) throws -> any BlockSource { try backup(order.backup).open(in: images) }

    /// What the parent's snapshot is called in a volume that is an image of Ceph, where the one that it was made of is kept by its name.
    func snapshotName(of parent: BackupOrder.Item) throws -> String? { try backup(parent).snapshotInImage(of: images) }
}
