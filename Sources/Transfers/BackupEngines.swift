import Backups
import DriverHost
import Primitives

/// A format of backups, as the transfer process works with it. Every call blocks its thread.
protocol BackupEngine {
    func backup(_ order: BackupOrder, of source: any BlockSource, to store: any ObjectStore, _ control: TransferControl) throws
        -> DriverValue
    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws
}

/// Cinder's chunked format.
struct ChunkedEngine: BackupEngine {
    private func backup(_ item: BackupOrder.Item, after parent: BackupOrder.Item?) -> ChunkedBackup {
        ChunkedBackup(
            id: item.id, volumeID: item.volumeID, parentID: parent?.id, container: item.container, prefix: item.serviceMetadata,
            name: item.name, description: item.description, createdAt: Self.cinderTime(item.createdAt))
    }

    /// The backups that the order's rests on, and itself.
    private func backups(_ order: BackupOrder) -> [ChunkedBackup] {
        var chain: [ChunkedBackup] = []
        var before: BackupOrder.Item?
        for item in order.parents + [order.backup] {
            chain.append(backup(item, after: before))
            before = item
        }
        return chain
    }

    /// `2026-11-29 17:00:00+00:00` of `2026-11-29T17:00:00.000000`.
    private static func cinderTime(_ text: String) -> String {
        String(text.prefix { $0 != "." }).replacing("T", with: " ") + "+00:00"
    }

    private static func options(_ order: BackupOrder) throws -> ChunkedOptions {
        var options = ChunkedOptions()
        if let size = order.options["backup_file_size"]?.integer { options.objectSize = Int(clamping: size) }
        if let size = order.options["backup_sha_block_size_bytes"]?.integer { options.blockSize = Int(clamping: size) }
        if let name = order.options["backup_compression_algorithm"]?.string {
            guard let compression = ChunkedCompression(cinderName: name) else {
                throw DriverFailure(.badConfiguration, "backup_compression_algorithm = \(name): known are none, zlib, bz2 and zstd")
            }
            options.compression = compression
        }
        // What an attempt that died has put is not sent again.
        options.isContinued = true
        return options
    }

    func backup(_ order: BackupOrder, of source: any BlockSource, to store: any ObjectStore, _ control: TransferControl) throws
        -> DriverValue
    {
        let chain = backups(order)
        let summary = try chain[chain.count - 1].write(
            of: source, to: store, after: chain.dropLast().last, volumeMetadata: order.volumeMetadata, options: Self.options(order),
            control: control)
        return .members(["objects": .integer(Int64(summary.objects)), "stored": .integer(Int64(clamping: summary.stored))])
            .adding("missed_change", summary.missedChange.map { .integer(Int64(clamping: $0)) })
    }

    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    {
        let chain = backups(order)
        let metadata = try chain[chain.count - 1].metadata(in: store)
        let summary = try ChunkedBackup.restore(chain, from: store, to: target, control: control)
        return .members([
            "written": .integer(Int64(clamping: summary.written)), "volume_metadata": .string(metadata.volumeMetadata ?? ""),
        ])
    }

    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws {
        _ = try backup(order.backup, after: nil).delete(from: store)
    }
}
