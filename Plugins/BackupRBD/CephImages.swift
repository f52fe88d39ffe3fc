import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc

/// The images of backups in the store's pool: what the host keeps volumes in, with a snapshot for each backup. Their names are Cinder's, and so
/// are their features.
final class CephImages: VolumeDriver {
    private let cluster: Cluster
    private let removal: ImageRemoval
    private let client: RegisteredClient?
    private let stripe: (unit: UInt64, count: UInt64)
    private let hasJournals: Bool

    init(_ call: Call) throws {
        stripe = (UInt64(try call[CephOptions.stripeUnit]), UInt64(try call[CephOptions.stripeCount]))
        guard (stripe.unit == 0) == (stripe.count == 0) else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "backup_ceph_stripe_unit and backup_ceph_stripe_count are both 0, or neither is")
        }
        hasJournals = try call[CephOptions.imageJournals]
        let cluster = try Cluster(CephOptions.cluster(call))
        self.cluster = cluster
        removal = ImageRemoval(cluster)
        // Dead processes of this machine keep images locked for half a minute otherwise.
        client = try call.option("state_dir").map { try RegisteredClient(directory: $0 + "/clients", cluster: cluster, call) }
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "ceph")
        call.set("thin_provisioning_support", true)
        call.set("sparse_copy_volume", true)
        call.set("online_extend_support", true)
    }

    /// The store's part tells how full the pool is.
    func stats(_ call: Call) {
        call.list("pools") {
            call.object(nil) {
                call.set("name", cluster.settings.pool)
                call.set("total_capacity_gb", -1.0)
                call.set("free_capacity_gb", -1.0)
            }
        }
    }

    // MARK: images

    func createVolume(_ call: Call) throws {
        let (name, size) = (try name(call, "volume.name"), try call.gibibytes("volume.size"))
        try removal.makeImage(name, size: size, call) { try create(name, size) }
    }

    private func create(_ name: String, _ size: UInt64) throws -> Int32 {
        var created: rbd_image_options_t?
        rbd_image_options_create(&created)
        guard let options = created else { throw DriverError(CLINKER_RETRY, "librbd gave no options") }
        defer { rbd_image_options_destroy(options) }
        var features = UInt64(RBD_FEATURE_LAYERING) | UInt64(RBD_FEATURE_EXCLUSIVE_LOCK) | UInt64(RBD_FEATURE_OBJECT_MAP)
        features |= UInt64(RBD_FEATURE_FAST_DIFF)
        if hasJournals { features |= UInt64(RBD_FEATURE_JOURNALING) }
        if stripe.unit > 0 {
            features |= UInt64(RBD_FEATURE_STRIPINGV2)
            rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_STRIPE_UNIT), stripe.unit)
            rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_STRIPE_COUNT), stripe.count)
        }
        rbd_image_options_set_uint64(options, Int32(RBD_IMAGE_OPTION_FEATURES), features)
        return rbd_create4(cluster.pool, name, size, options)
    }

    /// BUSY while it has a snapshot: nothing was changed then.
    func deleteVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        if let image = try Image.find(cluster, name, writable: false) {
            defer { image.close() }
            if let snapshot = try image.snapshots.first { throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.name)") }
        }
        try removal.remove(name, call)
    }

    func extendVolume(_ call: Call) throws {
        try Image(cluster, name(call, "volume.name"), writable: true).grow(to: call.gibibytes("new_size"))
    }

    // MARK: snapshots

    /// Cinder removes them without lifting a protection first, so they have none.
    func createSnapshot(_ call: Call) throws {
        try Image(cluster, name(call, "volume.name"), writable: true).makeSnapshot(name(call, "snapshot.name"), isProtected: false)
    }

    func deleteSnapshot(_ call: Call) throws {
        let snapshot = try name(call, "snapshot.name")
        try Image.find(cluster, name(call, "volume.name"), writable: true)?.removeSnapshot(snapshot)
    }

    func revertToSnapshot(_ call: Call) throws {
        let (volume, snapshot) = (try name(call, "volume.name"), try name(call, "snapshot.name"))
        let image = try Image(cluster, volume, writable: true)
        let result = Progress.report(call) { rbd_snap_rollback_with_progress(image.handle, snapshot, $0, $1) }
        try Cluster.check(result, "cannot roll \(volume) back to \(snapshot)")
        // Reverting to a snapshot from before an extension also restores its smaller size.
        try image.grow(to: call.gibibytes("volume.size"))
    }

    // MARK: listing

    func listVolumes(_ call: Call) throws {
        defer { cluster.closer.closeAll() }
        let wanted = try call.string("volume.name").map { _ in try name(call, "volume.name") }
        let names = try wanted.map { [$0] } ?? cluster.imageNames
        try call.list("volumes") {
            for (index, name) in names.enumerated() {
                if index % 64 == 0 { call.progress(done: UInt64(index), total: UInt64(names.count)) }
                // It may have been removed in the meantime.
                guard let image = try Image.find(cluster, name, writable: false) else { continue }
                let (bytes, snapshots) = (try image.size, try image.snapshots)
                call.object(nil) {
                    call.set("name", name)
                    call.set("bytes", Int64(clamping: bytes))
                    call.set("size", Int64(clamping: bytes / 1_073_741_824 + (bytes % 1_073_741_824 == 0 ? 0 : 1)))
                    call.list("snapshots") {
                        for snapshot in snapshots { call.object(nil) { call.set("name", snapshot.name) } }
                    }
                }
            }
        }
    }

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let image = try Image(cluster, name(call, "volume.name"), writable: writable, snapshot: call.string("snapshot.name"))
        return ImageHandle(image)
    }

    /// Checks a name: '/' and '@' would lead to another pool, namespace or snapshot.
    private func name(_ call: Call, _ argument: String) throws -> String { try Image.checkedName(call.required(argument)) }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "rbd-backups", version: "1.0.0", vendor: "Clinker", threads: .parallel,
    offering: [.extend, .snapshots, .revert, .list, .handles], options: CephOptions.all
) {
    openDriver($0, $1) { try CephImages($0) }
}

/// The plugin's exported symbol of its images.
@c(clinker_driver_v1)
public func cephImages() -> UnsafePointer<clinker_driver>? { table }
