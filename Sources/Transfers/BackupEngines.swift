import Backups
import DriverHost
import Glibc
import Primitives

/// A format of backups, as the transfer process works with it. Every call blocks its thread.
protocol BackupEngine {
    func backup(_ order: BackupOrder, of source: any BlockSource, to store: any ObjectStore, _ control: TransferControl) throws
        -> DriverValue
    func restore(_ order: BackupOrder, from store: any ObjectStore, to target: any BlockTarget, _ control: TransferControl) throws
        -> DriverValue
    func remove(_ order: BackupOrder, from store: any ObjectStore, _ control: TransferControl) throws
    /// Reads all that the backup needs. What is damaged is found out; only what keeps it from being read is thrown.
    func verify(_ order: BackupOrder, in store: any ObjectStore, _ control: TransferControl) throws -> BackupVerdict
    /// The backup's bytes, readable at any place. What is read was verified.
    func image(_ order: BackupOrder, in store: any ObjectStore) throws -> any BlockSource
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
        options.damagedParts = order.damagedParts
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
        _ = try backup(order.backup, after: nil).delete(from: store, wasWhole: order.backup.objectCount > 0)
    }

    func verify(_ order: BackupOrder, in store: any ObjectStore, _ control: TransferControl) throws -> BackupVerdict {
        let found = try ChunkedBackup.verify(backups(order), in: store, includesReplaced: false, control: control)
        var verdict = BackupVerdict()
        verdict.checkedBytes = found.summary.contained
        verdict.damages = found.damages.map { BackupVerdict.Damage($0.reason, $0.range) }
        guard !found.isGood else { return verdict }
        var items: [String: BackupOrder.Item] = [:]
        var before: String?
        for var item in order.parents {
            item.parentID = before
            before = item.id
            items[item.id] = item
        }
        for item in order.relatives where items[item.id] == nil { items[item.id] = item }
        for id in items.keys.sorted() where id != order.backup.id {
            // One whose parents are not known cannot be restored anyhow.
            guard let chain = chain(of: id, items, order.backup, parentOfBackup: before) else { continue }
            if try ChunkedBackup.uses(found.damages, chain, in: store) { verdict.users.append(id) }
        }
        return verdict
    }

    /// What a backup rests on, and itself; nil if a part of it is not known.
    private func chain(
        of id: String, _ items: [String: BackupOrder.Item], _ verified: BackupOrder.Item, parentOfBackup: String?
    ) -> [ChunkedBackup]? {
        var found: [BackupOrder.Item] = []
        var next: String? = id
        while let id = next, found.count <= items.count + 1 {
            var item = items[id] ?? verified
            guard item.id == id else { return nil }
            if item.id == verified.id { item.parentID = parentOfBackup }
            found.append(item)
            next = item.parentID
        }
        guard next == nil else { return nil }
        var chain: [ChunkedBackup] = []
        var before: BackupOrder.Item?
        for item in found.reversed() {
            chain.append(backup(item, after: before))
            before = item
        }
        return chain
    }

    func image(_ order: BackupOrder, in store: any ObjectStore) throws -> any BlockSource {
        guard let directory = order.options["cache"]?.string else { return try ChunkedBackup.image(of: backups(order), in: store) }
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("cannot make \(directory)") }
        return try ChunkedBackup.image(of: backups(order), in: store, temporaryDirectory: directory)
    }
}
