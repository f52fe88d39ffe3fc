import Backups
public import DriverHost
import Glibc
import Primitives
import Processes

/// Serves a backup over NBD, read-only and at once: nothing is restored. What is read is verified first.
public final class BackupServer: Sendable {
    private let server: Unchecked
    private let image: any BlockSource

    /// Several threads may use the device.
    private struct Unchecked: @unchecked Sendable { let value: NBDServer }

    /// Opens the store and the backup in it.
    ///
    /// - Parameters:
    ///   - plugin, options: of the store, as for a transfer.
    ///   - exportName: what clients must call the export; nil: whatever they like.
    ///   - onLine: gets what is damaged, and what the store's plugin logs.
    public convenience init(
        _ order: BackupOrder, plugin: String, options: DriverValue, exportName: String? = nil, onLine: @escaping @Sendable (String) -> Void
    ) throws {
        try StateDirectory.make(for: options)
        let store = try BackupEnd(plugin: plugin, options: options) { _, line in onLine(line) }
        try self.init(order, store, exportName: exportName, onFault: onLine)
    }

    init(_ order: BackupOrder, _ store: BackupEnd, exportName: String?, onFault: @escaping @Sendable (String) -> Void) throws {
        do { image = try order.engine(store).image(order, in: store.objects) } catch { throw DriverFailure(ofBackup: error) }
        let device = BackupDevice(image, onFault: onFault)
        server = Unchecked(value: try NBDServer(device: device, writable: false, exportName: exportName))
    }

    /// Bytes of the backup.
    public var size: UInt64 { server.value.size }

    /// Serves clients of a listening socket until `end`.
    public func serve(_ listener: Int32) {
        server.value.serve(listener)
        close()
    }

    /// Gives up what keeps others from changing the repository.
    func close() { (image as? BackupImage)?.close() }

    /// Hangs up on everybody, from any thread: `serve` returns.
    public func end() { server.value.end() }
}

extension BackupOrder {
    /// The format by which the backup is written to the store and read.
    func engine(_ store: BackupEnd) throws -> any BackupEngine {
        switch format {
        case "cinder": return store.images.map { ImagesEngine(images: $0) } ?? ChunkedEngine()
        case "repository": return RepositoryEngine()
        default: throw DriverFailure(.badConfiguration, "backup_format = \(format) is not known to this release")
        }
    }
}
